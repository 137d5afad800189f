"""The configuration of a portfolio run: one record, as its YAML file holds it."""

from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from backlane.backtest.portfolio_result import LinearCosts
from backlane.backtest.portfolio_simulator import FillTime
from backlane.errors import FieldViolation, InvalidRequestError

MAX_COST_BPS = 10_000.0
"""A cost above the whole notional is a mistake in its unit."""


class RunMode(StrEnum):
    """How the cycle is driven. A file's other modes are refused, naming these."""

    BACKTEST = "backtest"


class ConfigRecord(BaseModel):
    """A section of a configuration: it refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_RecordT = TypeVar("_RecordT", bound=ConfigRecord)


def plain_number(value: object) -> object:
    """Refuses what pydantic would make a number of: true is no amount of money."""
    if isinstance(value, bool | str):
        raise ValueError(f"{value!r} is no number")  # noqa: TRY004 - pydantic wants ValueError
    return value


_Bps = Annotated[float, BeforeValidator(plain_number), Field(ge=0, le=MAX_COST_BPS)]


class StrategyConfig(ConfigRecord):
    """Which strategy, and its parameters; the strategy itself checks those."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    parameters: dict[str, Any] = {}


class DataConfig(ConfigRecord):
    """Files: the panel, and the events by source; relative to the file of the configuration."""

    panel: Annotated[str, Field(min_length=1)]
    events: dict[str, Annotated[str, Field(min_length=1)]] = {}


class CostsConfig(ConfigRecord):
    """Linear costs in basis points of the notional, each charged once (SPEC B9)."""

    commission_bps: _Bps = 0.0
    half_spread_bps: _Bps = 0.0
    impact_bps: _Bps = 0.0

    @property
    def linear(self) -> LinearCosts:
        """The same for the simulator."""
        return LinearCosts(self.commission_bps, self.half_spread_bps, self.impact_bps)


class PortfolioConfig(ConfigRecord):
    """Everything that decides the outcome of a portfolio run."""

    strategy: StrategyConfig
    data: DataConfig
    initial_cash: Annotated[float, BeforeValidator(plain_number), Field(gt=0, le=1e15)] = 100_000.0
    costs: CostsConfig = CostsConfig()
    fill: FillTime = FillTime.NEXT_OPEN
    compounding: Annotated[bool, Field(strict=True)] = True
    mode: RunMode = RunMode.BACKTEST


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
