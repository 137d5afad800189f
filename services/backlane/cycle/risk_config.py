"""The `risk` section of a configuration, and the limits that it makes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from backlane.cycle.config_record import ConfigRecord, not_valid, plain_number
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.risk.limits import RiskLimits
from backlane.risk.pretrade import InstrumentGroups, PretradeLimits
from backlane.signals.price_regime import PriceRegime

_Share = Annotated[float, BeforeValidator(plain_number), Field(gt=0, le=1)]
_Text = Annotated[str, Field(min_length=1, max_length=100)]


class StopsConfig(ConfigRecord):
    """When targets may be reduced but not entered: losses and drawdown as positive fractions.

    `realized_volatility_max` is that of the leader, annualized, a fraction. None is off.
    """

    daily_loss_max: _Share | None = None
    weekly_loss_max: _Share | None = None
    drawdown_max: _Share | None = None
    realized_volatility_max: Annotated[float, BeforeValidator(plain_number), Field(gt=0)] | None = (
        None
    )


class GroupConfig(ConfigRecord):
    """Sector, region and currency of an instrument; what is unknown is not checked."""

    sector: str = ""
    region: str = ""
    currency: str = ""


class RiskConfig(ConfigRecord):
    """Everything that risk is told; without a word of it nothing stops the targets of a strategy.

    `stops` are for targets, `trades` for proposals to trade (`RiskLimits`, whose defaults always
    hold there), `orders` for the orders of a cycle, whatever they come from (`PretradeLimits`).
    `themes` and `groups` say to what an instrument belongs. `leader` is the instrument by which the
    regime and the volatility of the market are told. `halt` is the kill switch: no order at all.
    """

    stops: StopsConfig = StopsConfig()
    trades: dict[str, Any] = Field(default_factory=dict)
    orders: dict[str, Any] = Field(default_factory=dict)
    themes: dict[_Text, _Text] = Field(default_factory=dict)
    groups: dict[_Text, GroupConfig] = Field(default_factory=dict)
    leader: _Text | None = None
    halt: Annotated[bool, Field(strict=True)] = False


@dataclass(frozen=True, slots=True)
class RiskPlan:
    """The limits of a run, each of its own kind; see RiskConfig."""

    stops: StopsConfig = field(default_factory=StopsConfig)
    trades: RiskLimits = field(default_factory=RiskLimits)
    orders: PretradeLimits = field(default_factory=PretradeLimits)
    themes: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, InstrumentGroups] = field(default_factory=dict)
    leader: str | None = None
    is_halted: bool = False

    @property
    def passes_all_targets(self) -> bool:
        """Whether nothing in it can stop a target."""
        has_stops = any(value is not None for value in self.stops.model_dump().values())
        return not has_stops and self.orders == PretradeLimits() and not self.is_halted


def risk_plan(config: RiskConfig, root: str = "risk") -> RiskPlan:
    """Returns the limits of a configuration.

    Raises InvalidRequestError with one violation for each mistake in `trades` and `orders`, below
    `root`: an unknown key, a value out of its range, keys that contradict each other.
    """
    violations: list[FieldViolation] = []
    trades = _limits(RiskLimits, config.trades, f"{root}.trades", violations)
    orders = _limits(PretradeLimits, config.orders, f"{root}.orders", violations)
    if violations:
        raise not_valid(tuple(violations))
    groups = {
        symbol: InstrumentGroups(each.sector, each.region, each.currency)
        for symbol, each in config.groups.items()
    }
    return RiskPlan(
        config.stops,
        trades or RiskLimits(),
        orders or PretradeLimits(),
        config.themes,
        groups,
        config.leader,
        config.halt,
    )


def _limits(
    record: type[Any], values: Mapping[str, Any], root: str, violations: list[FieldViolation]
) -> Any:
    """Returns the record of limits, or None after adding every mistake to `violations`."""
    known = {each.name: each for each in fields(record)}
    wrong = [*_unknown(known, values), *_wrongly_typed(record, known, values)]
    at_fault = {each.field.split(".")[0] for each in wrong}
    limits = None
    try:
        limits = record(**{key: value for key, value in values.items() if key not in at_fault})
    except InvalidRequestError as error:
        wrong += error.violations
    violations += [FieldViolation(f"{root}.{each.field}", each.description) for each in wrong]
    return None if wrong else limits


def _unknown(known: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[FieldViolation]:
    for key in values:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the fields are {', '.join(known)}"
            yield FieldViolation(key, f"is no field; {hint}")


def _wrongly_typed(
    record: type[Any], known: Mapping[str, Any], values: Mapping[str, Any]
) -> Iterator[FieldViolation]:
    """Yields what the record takes for granted: switches, texts, numbers, and names of regimes."""
    defaults = record()
    for key in known.keys() & values.keys():
        value, default = values[key], getattr(defaults, key)
        if isinstance(default, bool) and not isinstance(value, bool):
            yield FieldViolation(key, f"is {value!r}; write true or false")
        elif isinstance(default, str) and not isinstance(value, str):
            yield FieldViolation(key, f"is {value!r}; give a text")
        elif isinstance(default, Mapping):
            yield from _wrong_mapping(key, value)
        elif value is None and default is not None and not _may_be_off(record, key):
            yield FieldViolation(key, "is missing; leave the key out for its default")
        elif not isinstance(default, bool | str) and not _is_number(value):
            yield FieldViolation(key, f"is {value!r}; give a number")


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _may_be_off(record: type[Any], key: str) -> bool:
    return "None" in str(next(each.type for each in fields(record) if each.name == key))


def _wrong_mapping(key: str, value: object) -> Iterator[FieldViolation]:
    if not isinstance(value, dict):
        yield FieldViolation(key, f"is {value!r}; give a name and a number for each")
        return
    regimes = [each.value for each in PriceRegime]
    for name in value if key == "regime_multipliers" else ():
        if name not in regimes:
            yield FieldViolation(f"{key}.{name}", f"is no regime; they are {', '.join(regimes)}")
