"""Who calls: the name that admission limits count by."""

from functools import lru_cache
from typing import Any

CLIENT_KEY = "x-backlane-client"
"""Metadata key by which a client gives its name. It is a label, not a proof: who may reach the
port may use any name."""

CLIENT_CHARACTERS_MAX = 128
"""Characters of a name; further ones are left out."""


def caller(context: Any) -> str:
    """Returns the name that a call came with, else the peer's address without its port."""
    for key, value in context.invocation_metadata() or ():
        name = client_name(value) if key == CLIENT_KEY and isinstance(value, str) else ""
        if name:
            return name
    return _host(context.peer())


@lru_cache(maxsize=1_024)
def client_name(text: str) -> str:
    """Returns a name as metadata can carry it: printable ASCII, at most so many characters."""
    printable = (one if one.isascii() and one.isprintable() else "?" for one in text)
    return "".join(printable)[:CLIENT_CHARACTERS_MAX].strip()


def _host(peer: str) -> str:
    """Returns `127.0.0.1` for the peer `ipv4:127.0.0.1:50000`, `unix` for a unix socket."""
    kind, _, address = peer.partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return kind
    # A bracket of an IPv6 address may come percent-encoded, as in a URI.
    host = address.replace("%5B", "[").replace("%5D", "]").rpartition(":")[0]
    return host.strip("[]")
