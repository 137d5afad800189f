"""Where a command writes a result: a new folder, or an earlier result."""

from pathlib import Path

from backlane.errors import FieldViolation, InvalidRequestError

RESULT_MARK = "result.json"
"""The file by which a folder is known for a result."""


def check_out(out: Path | None) -> None:
    """Refuses a folder with anything but a result in it, before there is a result to write."""
    if out is None or not out.exists():
        return
    is_result = out.is_dir() and ((out / RESULT_MARK).exists() or not any(out.iterdir()))
    if not is_result:
        message = f"{out} is there and holds no result; nothing but a result is replaced."
        raise InvalidRequestError(message, violations=(FieldViolation("--out", message),))
