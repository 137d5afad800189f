"""The request of a backtest: one record for the command line, the SDK, the services and files."""

from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from backlane.backtest.switches import PROFILES, SWITCH_NAMES, EndDate, Switches
from backlane.errors import FieldViolation, InvalidRequestError

DAY_NS = 86_400_000_000_000


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
    """How much to trade: `fraction` of the cash, in (0, 1]."""

    fraction: Annotated[float, Field(gt=0, le=1)] = 0.25


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
    if isinstance(value, str):
        text = value.strip()
        bare = len(text) == len("2023-12-31")
        return date.fromisoformat(text) if bare else datetime.fromisoformat(text)
    if isinstance(value, date):  # a datetime is a date, too
        return value
    raise ValueError("write an ISO 8601 date or time, as in 2023-12-31 or 2023-12-31T14:00:00Z")


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
    profile: str = "default"
    switches: dict[str, Any] = {}
    decisions: DecisionChoice = DecisionChoice()
    model_digest: str = ""
    dataset_digests: dict[str, str] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.profile not in PROFILES:
            raise ValueError(f"profile {self.profile!r} is unknown: use {', '.join(PROFILES)}")
        switches = self.resolved_switches()
        start, end = self.first_bar_ns(), self._end_ns(switches)
        if start is not None and end is not None and start > end:
            raise ValueError("start is after end")
        return self

    def resolved_switches(self) -> Switches:
        """Returns the switches of the profile with the single ones on top."""
        values = {name: getattr(PROFILES[self.profile], name) for name in SWITCH_NAMES}
        for name, value in self.switches.items():
            if name not in values:
                raise ValueError(f"switch {name!r} is unknown: use {', '.join(SWITCH_NAMES)}")
            values[name] = _switch_value(name, value, type(values[name]))
        return Switches(**values)

    def first_bar_ns(self) -> int | None:
        """Returns the first bar's earliest open time, or None for the first that there is."""
        return None if self.start is None else moment_ns(self.start)

    def last_bar_ns(self) -> int | None:
        """Returns the last bar's latest open time, or None for the last that there is."""
        return self._end_ns(self.resolved_switches())

    def _end_ns(self, switches: Switches) -> int | None:
        if self.end is None:
            return None
        return moment_ns(self.end, whole_day=switches.end_date is EndDate.WHOLE_DAY)


def _switch_value(name: str, value: object, kind: type) -> object:
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        if kind is int and not 0 <= value <= 1_000_000:  # type: ignore[operator]
            raise ValueError(f"switch {name!r} must lie between 0 and 1,000,000")
        return value
    if kind not in (bool, int):
        try:
            return kind(value)
        except ValueError:
            known = ", ".join(item.value for item in kind)  # type: ignore[attr-defined]
            raise ValueError(f"switch {name!r} cannot be {value!r}: use {known}") from None
    raise ValueError(
        f"switch {name!r} must be {'true or false' if kind is bool else 'a whole number'}"
    )


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
    path = [str(part) for part in detail["loc"] if part not in ("date", "datetime")]
    description = str(detail["msg"]).removeprefix("Value error, ")
    return FieldViolation(".".join([root, *path] if root else path) or "request", description)
