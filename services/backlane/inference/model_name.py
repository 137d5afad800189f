"""Resource names of models, and nothing that could leave the folder they are looked up in."""

import re
from dataclasses import dataclass

from backlane.errors import FieldViolation, InvalidRequestError, PathEscapesRootError

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NUMBER = re.compile(r"(?:.*_v)?([0-9]{1,18})")
_FORM = "models/{model}/versions/{version}, or models/{model} for its newest version"


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model and its version; an empty version means the newest."""

    model: str
    version: str = ""

    def __str__(self) -> str:
        tail = f"/versions/{self.version}" if self.version else ""
        return f"models/{self.model}{tail}"

    @classmethod
    def parse(cls, name: str, *, field: str = "name") -> "ModelName":
        """Reads models/{model}/versions/{version} or models/{model}.

        Raises PathEscapesRootError for a name that would climb out of a folder, and
        InvalidRequestError, naming `field`, for any other form.
        """
        _refuse_climbing(name, field)
        match name.split("/"):
            case ["models", model]:
                return cls(check_part(model, field))
            case ["models", model, "versions", version]:
                return cls(check_part(model, field), check_part(version, field))
            case _:
                raise _malformed(name, field, f"write {_FORM}")


@dataclass(frozen=True, slots=True)
class PredictTarget:
    """Which model shall predict. An empty `expected_digest` means whatever is there.

    `refuse_nan` refuses rows that hold a NaN; otherwise their outputs are NaN.
    """

    name: ModelName
    expected_digest: str = ""
    refuse_nan: bool = False


def check_part(part: str, field: str = "name") -> str:
    """Returns `part`, a model or a version, when it is a safe name of one folder.

    Raises PathEscapesRootError or InvalidRequestError, as `ModelName.parse` does.
    """
    _refuse_climbing(part, field)
    if _PART.fullmatch(part) is None:
        raise _malformed(
            part, field, "use 1 to 64 letters, digits, '_', '.' and '-', beginning with no sign"
        )
    return part


def version_number(version: str) -> int | None:
    """N of a version called `N` or `*_vN`; None for any other."""
    match = _NUMBER.fullmatch(version)
    return None if match is None else int(match[1])


def _refuse_climbing(name: str, field: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\", "~")) or ".." in parts or "." in parts or "\0" in name:
        message = f"{name!r} would leave the folder of the models. Write {_FORM}."
        raise PathEscapesRootError(
            message, metadata={"name": name}, violations=(FieldViolation(field, message),)
        )


def _malformed(name: str, field: str, remedy: str) -> InvalidRequestError:
    message = f"{name!r} names no model: {remedy}."
    return InvalidRequestError(
        message, metadata={"name": name}, violations=(FieldViolation(field, message),)
    )
