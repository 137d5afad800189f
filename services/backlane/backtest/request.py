"""The request of a backtest: one record for the command line, the SDK, the services and files."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from difflib import get_close_matches
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from backlane.backtest.switches import PROFILES, SWITCH_NAMES, EndDate, Switches
from backlane.errors import FieldViolation, InvalidRequestError

DAY_NS = 86_400_000_000_000
DEFAULT_FRACTION = 0.25
FIRST_YEAR, LAST_YEAR = 1678, 2261
"""Years that 64 bits of nanoseconds hold from their first day to their last."""
_MOMENT_FORM = "write ISO 8601, as in 2023-12-31 or 2023-12-31T14:00:00Z"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class ModelChoice(_Record):
    """Which bundle: a directory (`path`, local runs alone), or a served `name` and `version`.

    An empty version means the newest.
    """

    path: str | None = None
    name: str | None = None
    version: Annotated[str, BeforeValidator(_as_text)] = ""

    @model_validator(mode="after")
    def _path_or_name(self) -> Self:
        if (self.path is None) == (self.name is None):
            raise ValueError("give either path or name (with version)")
        return self

    @property
    def resource_name(self) -> str:
        """models/{name}/versions/{version}, or models/{name} for the newest."""
        return f"models/{self.name}" + (f"/versions/{self.version}" if self.version else "")


class DataChoice(_Record):
    """Which bars: files by timeframe (local runs alone), or nothing for the catalog."""

    files: dict[str, str] = {}


class SizingChoice(_Record):
    """How much to trade: one of three rules, by default a quarter of the cash.

    `fraction` of the cash, in (0, 1]; or `units`, all or nothing; or `target_volatility`, a yearly
    volatility of the position as a fraction: the share of the cash is target / realized, at most 1,
    the realized volatility being that of the last `volatility_period` returns.
    """

    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    units: Annotated[float, Field(gt=0, le=1e12)] | None = None
    target_volatility: Annotated[float, Field(gt=0, le=10)] | None = None
    volatility_period: Annotated[int, Field(ge=2, le=10_000)] = 20

    @model_validator(mode="before")
    @classmethod
    def _default_rule(cls, content: Any) -> Any:
        rules = ("fraction", "units", "target_volatility")
        if not isinstance(content, dict) or any(content.get(rule) is not None for rule in rules):
            return content
        return {**content, "fraction": DEFAULT_FRACTION}

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        rules = (self.fraction, self.units, self.target_volatility)
        if sum(rule is not None for rule in rules) > 1:
            raise ValueError("give one of fraction, units and target_volatility")
        return self

    @property
    def cash_fraction(self) -> float:
        """The share of the cash, where that is the rule; else 1."""
        return 1.0 if self.fraction is None else self.fraction


class ExitChoice(_Record):
    """Exits of a position beside the model's, each off unless given.

    `stop_loss` and `take_profit` are distances from the entry price, `trailing_stop` from the best
    price since, all as fractions; both a stop-loss and a take-profit make a bracket. After
    `max_holding_bars` bars the position is closed as the model would close it.
    """

    stop_loss: Annotated[float, Field(gt=0, lt=1)] | None = None
    take_profit: Annotated[float, Field(gt=0, le=100)] | None = None
    trailing_stop: Annotated[float, Field(gt=0, lt=1)] | None = None
    max_holding_bars: Annotated[int, Field(ge=1, le=10**9)] | None = None


class CostChoice(_Record):
    """Costs beside commission and slippage, each 0 unless given.

    `spread_rate`: bid-ask spread as a fraction of the price; each side pays half.
    `minimum_commission`: money, for each fill. `borrow_rate`: a year, of a short's value.
    `overnight_rate_long`, `overnight_rate_short`: a year, charged by the night; < 0 is a credit.
    """

    spread_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    minimum_commission: Annotated[float, Field(ge=0, le=1e12)] = 0.0
    borrow_rate: Annotated[float, Field(ge=0, le=10)] = 0.0
    overnight_rate_long: Annotated[float, Field(ge=-10, le=10)] = 0.0
    overnight_rate_short: Annotated[float, Field(ge=-10, le=10)] = 0.0


class MarginChoice(_Record):
    """`leverage` >= 1: the value of a position over the collateral that it takes.

    With leverage, a position is closed when its loss has eaten the collateral down to
    `maintenance`, a fraction of it in [0, 1): the margin call.
    """

    leverage: Annotated[float, Field(ge=1, le=1000)] = 1.0
    maintenance: Annotated[float, Field(ge=0, lt=1)] = 0.5

    @property
    def liquidation(self) -> float:
        """Distance of the margin call from the entry price as a fraction; 0 without leverage."""
        return (1 - self.maintenance) / self.leverage if self.leverage > 1 else 0.0


class FilterChoice(_Record):
    """`min_signal_separation`: hours that must have passed since the last fill, >= 0."""

    min_signal_separation: Annotated[float, Field(ge=0)] | None = None


class CostModelChoice(_Record):
    """Of a regression head: cost of a round trip as a fraction, and the multiple to reach."""

    round_trip_cost: Annotated[float, Field(gt=0)] | None = None
    min_edge_multiplier: Annotated[float, Field(gt=0)] | None = None


class DecisionChoice(_Record):
    """Overrides of the bundle's decisions; None leaves the bundle's word."""

    confidence_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    position_awareness: bool | None = None
    allow_short_from_flat: bool | None = None
    filters: FilterChoice = FilterChoice()
    cost_model: CostModelChoice = CostModelChoice()


def _moment(value: object) -> object:
    """Reads ISO 8601, and leaves a bare date a date: what its end is depends on the profile."""
    moment = value
    if isinstance(value, str):
        text = value.strip()
        bare = len(text) == len("2023-12-31")
        try:
            moment = date.fromisoformat(text) if bare else datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text[:40]!r} is no date or time: {_MOMENT_FORM}") from None
    if not isinstance(moment, date):  # a datetime is a date, too
        raise ValueError(_MOMENT_FORM)  # noqa: TRY004 - pydantic takes a ValueError alone
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"{moment} lies outside the years {FIRST_YEAR} to {LAST_YEAR}")
    return moment


def _known_profile(name: str) -> str:
    if name not in PROFILES:
        raise ValueError(f"{name[:40]!r} is no profile{_known(name, PROFILES)}")
    return name


def _known(name: object, names: Iterable[str]) -> str:
    """Returns the end of a message: the name that was probably meant, and those that there are."""
    known = list(names)
    close = get_close_matches(str(name)[:80], known, n=1)
    meant = f"; did you mean {close[0]}?" if close else ":"
    return f"{meant} use {', '.join(known)}"


def _refusal(problems: Mapping[tuple[str, ...], str]) -> ValidationError:
    """Returns an error at fields of its own, which a plain ValueError cannot name."""
    details = []
    for field, message in problems.items():
        problem = PydanticCustomError("value_error", "{message}", {"message": message})
        details.append(InitErrorDetails(type=problem, loc=field, input=None))
    return ValidationError.from_exception_data("request", details)


Moment = Annotated[date | datetime, BeforeValidator(_moment)]


def moment_ns(moment: date | datetime, *, whole_day: bool = False) -> int:
    """Returns UTC nanoseconds. A naive time is UTC; a bare date is its first or last nanosecond."""
    if not isinstance(moment, datetime):
        start = datetime.combine(moment, time(), UTC)
        return int(start.timestamp()) * 10**9 + (DAY_NS - 1 if whole_day else 0)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    seconds = int(aware.replace(microsecond=0).timestamp())
    return seconds * 10**9 + aware.microsecond * 1000


class BacktestRequest(_Record):
    """What to run. Every field has the name that it has in a request file and in the protos.

    Times are UTC and inclusive. Rates are fractions in [0, 1): 0.001 is 0.1 %. `switches` are
    single switches on top of the profile. The digests, when set, refuse any other bundle or data.
    """

    model: ModelChoice
    symbol: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    timeframe: str = ""
    data: DataChoice = DataChoice()
    start: Moment | None = None
    end: Moment | None = None
    initial_cash: Annotated[float, Field(gt=0, le=1e15, allow_inf_nan=False)] = 100_000.0
    commission_rate: Annotated[float, Field(ge=0, lt=1)] = 0.001
    slippage_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0005
    sizing: SizingChoice = SizingChoice()
    lot_size: Annotated[float, Field(gt=0, le=1e9)] = 1.0
    exits: ExitChoice = ExitChoice()
    costs: CostChoice = CostChoice()
    margin: MarginChoice = MarginChoice()
    profile: Annotated[str, AfterValidator(_known_profile)] = "default"
    switches: dict[str, Any] = {}
    decisions: DecisionChoice = DecisionChoice()
    model_digest: str = ""
    dataset_digests: dict[str, str] = {}

    @field_validator("switches")
    @classmethod
    def _known_switches(cls, switches: dict[str, Any]) -> dict[str, Any]:
        problems: dict[tuple[str, ...], str] = {}
        for name, value in switches.items():
            try:
                _switch_value(name, value)
            except ValueError as error:
                problems[(name[:80],)] = str(error)
        if problems:
            raise _refusal(problems)
        return switches

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        units, lots = self.sizing.units, (self.sizing.units or 0.0) / self.lot_size
        if units is not None and abs(lots - round(lots)) > 1e-9 * max(1.0, lots):
            message = f"{units} is no multiple of lot_size {self.lot_size}"
            raise _refusal({("sizing", "units"): message})
        start, end = self.first_bar_ns(), self.last_bar_ns()
        if start is not None and end is not None and start > end:
            message = f"{self.start} is after the end, {self.end}: give an earlier start"
            raise _refusal({("start",): message})
        return self

    def resolved_switches(self) -> Switches:
        """Returns the switches of the profile with the single ones on top."""
        values = {name: getattr(PROFILES[self.profile], name) for name in SWITCH_NAMES}
        given = {name: _switch_value(name, value) for name, value in self.switches.items()}
        return Switches(**(values | given))

    def first_bar_ns(self) -> int | None:
        """Returns the first bar's earliest open time, or None for the first that there is."""
        return None if self.start is None else moment_ns(self.start)

    def last_bar_ns(self) -> int | None:
        """Returns the last bar's latest open time, or None for the last that there is."""
        if self.end is None:
            return None
        whole_day = self.resolved_switches().end_date is EndDate.WHOLE_DAY
        return moment_ns(self.end, whole_day=whole_day)


def _switch_value(name: str, value: object) -> object:
    """Returns the value of a switch in its own type; ValueError says what it can be."""
    if name not in SWITCH_NAMES:
        raise ValueError(f"is no switch{_known(name, SWITCH_NAMES)}")
    kind = type(getattr(PROFILES["default"], name))
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{_shown(value)} is no value of it: use true or false")
        return value
    if kind is int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1_000_000:
            raise ValueError(
                f"{_shown(value)} is no value of it: use a whole number from 0 to 1000000"
            )
        return value
    names = [item.value for item in kind]
    if isinstance(value, kind) or (isinstance(value, str) and value in names):
        return kind(value)
    meant = value if isinstance(value, str) else ""
    raise ValueError(f"{_shown(value)} is no value of it{_known(meant, names)}")


def _shown(value: object) -> str:
    """Only what has no parts is shown: a few aliases in YAML make a list of a billion."""
    is_plain = value is None or isinstance(value, str | int | float)
    return ascii(value)[:40] if is_plain else f"a {type(value).__name__}"


def parse_request(content: object, *, root: str = "") -> BacktestRequest:
    """Builds a request from plain data, as a YAML or JSON file holds it.

    Raises InvalidRequestError with one violation for each mistake; `root` is put before the paths.
    """
    try:
        return BacktestRequest.model_validate(content)
    except ValidationError as error:
        violations = tuple(_violation(root, detail) for detail in error.errors())
        lines = "; ".join(f"{v.field}: {v.description}" for v in violations)
        raise InvalidRequestError(
            f"The request is not valid. {lines}", violations=violations
        ) from None


def _violation(root: str, detail: Any) -> FieldViolation:
    path = [str(part)[:80] for part in detail["loc"] if part not in ("date", "datetime")]
    if detail["type"] == "extra_forbidden":
        description = f"is no field of a request{_known(path[-1], _fields_beside(path))}"
    else:
        description = str(detail["msg"]).removeprefix("Value error, ")
    return FieldViolation(".".join([root, *path] if root else path) or "request", description)


def _fields_beside(path: list[str]) -> tuple[str, ...]:
    """Returns the fields of the section that the last part of `path` was written into."""
    section: type[BaseModel] = BacktestRequest
    for name in path[:-1]:
        inner = section.model_fields[name].annotation
        section = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else section
    return tuple(section.model_fields)
