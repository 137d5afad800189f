"""Records of a configuration: every mistake is named at once, with what was meant, perhaps."""

from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from backlane.errors import FieldViolation, InvalidRequestError


class ConfigRecord(BaseModel):
    """A section of a configuration: it refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_RecordT = TypeVar("_RecordT", bound=ConfigRecord)


def plain_number(value: object) -> object:
    """Refuses what pydantic would make a number of: true is no amount of money."""
    if isinstance(value, bool | str):
        raise ValueError(f"{value!r} is no number")  # noqa: TRY004 - pydantic wants ValueError
    return value


def parse_record(record: type[_RecordT], content: object, root: str = "") -> _RecordT:
    """Builds a record from plain data, as a YAML file holds it; `root` is put before the fields.

    Raises InvalidRequestError with one violation for each mistake, and what was meant, perhaps.
    """
    try:
        return record.model_validate(content)
    except ValidationError as error:
        violations = tuple(_violation(record, root, detail) for detail in error.errors())
        raise not_valid(violations) from None


def not_valid(violations: tuple[FieldViolation, ...]) -> InvalidRequestError:
    """Returns the error that names every mistake of a configuration."""
    lines = "; ".join(f"{each.field}: {each.description}" for each in violations)
    return InvalidRequestError(f"The configuration is not valid. {lines}", violations=violations)


def _violation(record: type[BaseModel], root: str, detail: Any) -> FieldViolation:
    path = [str(part)[:80] for part in detail["loc"]]
    if detail["type"] == "extra_forbidden":
        known = _fields_beside(record, path)
        close = get_close_matches(path[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"the fields are {', '.join(known)}"
        description = f"is no field; {hint}"
    elif detail["type"] == "missing":
        description = "is missing"
    elif detail["type"] == "enum":
        accepted = detail["ctx"]["expected"].replace("'", "")
        close = get_close_matches(str(detail["input"]), accepted.replace(" or ", ", ").split(", "))
        hint = f"; did you mean {close[0]}?" if close else ""
        description = f"{detail['input']!r} is not accepted: write {accepted}{hint}"
    else:
        description = str(detail["msg"]).removeprefix("Value error, ")
    return FieldViolation(".".join([root, *path] if root else path) or "config", description)


def _fields_beside(record: type[BaseModel], path: list[str]) -> tuple[str, ...]:
    """Returns the fields of the section that the last part of `path` was written into."""
    section = record
    for name in path[:-1]:
        inner = section.model_fields[name].annotation if name in section.model_fields else None
        section = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else section
    return tuple(section.model_fields)
