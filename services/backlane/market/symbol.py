"""Symbols: the names of instruments, safe to use as a part of a path."""

import re

from backlane.errors import FieldViolation, InvalidRequestError

_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def checked_symbol(symbol: str, *, field: str = "symbol") -> str:
    """Returns the symbol when it can name a folder: 1 to 64 of letters, digits, `.`, `-`, `_`.

    The first character is a letter or a digit, so that no symbol climbs out of its folder or hides
    in it. Raises InvalidRequestError, naming `field`, for anything else.
    """
    if _PATTERN.fullmatch(symbol) is None:
        message = (
            f"{symbol!r} is no symbol: write 1 to 64 letters, digits, '.', '-' or '_', "
            "beginning with a letter or a digit."
        )
        raise InvalidRequestError(
            message,
            metadata={"symbol": symbol},
            violations=(FieldViolation(field, message),),
        )
    return symbol
