"""Opaque places in the log and in a list: tokens that a client hands back as it got them.

A token is URL-safe base64 of a small JSON object. It holds no authority: whoever may watch may
watch from any revision.
"""

import base64
import binascii
import json
from dataclasses import dataclass

from backlane.errors import (
    InvalidPageTokenError,
    InvalidResumeTokenError,
    ResumeTokenAheadError,
    ResumeTokenForeignError,
)
from backlane.operations.selection import ListOrder, Selection

TOKEN_VERSION = 1
TOKEN_CHARACTERS_MAX = 512
"""Characters of a token; a longer text is none."""


@dataclass(frozen=True, slots=True)
class ResumeToken:
    """A place in the log of one registry, for one selection: after `revision`."""

    registry_uid: str
    revision: int
    digest: str

    @classmethod
    def at(cls, registry_uid: str, revision: int, selection: Selection) -> "ResumeToken":
        """Returns the token of a place."""
        return cls(registry_uid, revision, selection.digest())

    @classmethod
    def parse(cls, text: str) -> "ResumeToken":
        """Reads a token back.

        Raises:
            InvalidResumeTokenError: it is damaged, or of another version.

        """
        fields = _decoded(text)
        uid, revision, digest = fields.get("uid"), fields.get("revision"), fields.get("filter")
        if not (isinstance(uid, str) and _is_count(revision) and isinstance(digest, str)):
            raise InvalidResumeTokenError(
                "The resume token is damaged. Pass one on exactly as it came, or watch anew, "
                "from a snapshot.",
                metadata={"resume_token": text[:64]},
            )
        return cls(uid, int(str(revision)), digest)

    def __str__(self) -> str:
        return _encoded(
            {"uid": self.registry_uid, "revision": self.revision, "filter": self.digest}
        )

    def check(self, registry_uid: str, revision: int, selection: Selection) -> None:
        """Refuses a token that does not fit this registry, its log or this selection.

        Raises:
            ResumeTokenForeignError: another registry made it.
            ResumeTokenAheadError: the log has not come as far: an old backup was restored.
            InvalidResumeTokenError: it belongs to a watch of something else.

        """
        if self.registry_uid != registry_uid:
            raise ResumeTokenForeignError(
                f"The resume token comes from registry {self.registry_uid}, and this is registry "
                f"{registry_uid}. Check the address, or watch anew, from a snapshot.",
                metadata={"registry": registry_uid, "token_registry": self.registry_uid},
            )
        if self.digest != selection.digest():
            raise InvalidResumeTokenError(
                "The resume token belongs to a watch of something else. "
                "Ask for the same names or filter as before, or watch anew, from a snapshot.",
                metadata={"filter": selection.digest(), "token_filter": self.digest},
            )
        if self.revision > revision:
            raise ResumeTokenAheadError(
                f"The resume token is at revision {self.revision}, and the registry is at "
                f"{revision}: was it restored from a backup? Watch anew, from a snapshot.",
                metadata={"revision": str(revision), "token_revision": str(self.revision)},
            )


def page_token(cursor: int, selection: Selection, order: ListOrder) -> str:
    """Returns the token of the page beyond a cursor, bound to the selection and the order."""
    return _encoded({"cursor": cursor, "filter": selection.digest(), "order": order.value})


def page_cursor(token: str, selection: Selection, order: ListOrder) -> int | None:
    """Returns the cursor of a page token; None for the empty one, which is the first page.

    Raises:
        InvalidPageTokenError: it is damaged, or belongs to another filter or order.

    """
    if not token:
        return None
    fields = _decoded(token)
    cursor = fields.get("cursor")
    asked = (selection.digest(), order.value)
    if not _is_count(cursor) or (fields.get("filter"), fields.get("order")) != asked:
        raise InvalidPageTokenError(
            "The page token is damaged, or belongs to a list with another filter or order. "
            "Start again at the first page.",
            metadata={"page_token": token[:64]},
        )
    return int(str(cursor))


def _encoded(fields: dict[str, object]) -> str:
    text = json.dumps({"v": TOKEN_VERSION, **fields}, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(token: str) -> dict[str, object]:
    """Returns what a token holds; nothing when it is none of ours."""
    if len(token) > TOKEN_CHARACTERS_MAX:
        return {}
    try:
        padded = token + "=" * (-len(token) % 4)
        fields = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        return {}
    is_ours = isinstance(fields, dict) and fields.get("v") == TOKEN_VERSION
    return fields if is_ours else {}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
