"""What is told of one bar of a finished run: plain records, for a table and for JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from backlane.audit.indicators_at import IndicatorValue
from backlane.audit.stamp import iso_time


class FilterState(StrEnum):
    """What a filter did at the bar."""

    PASSED = "passed"
    FIRED = "fired"  # it made the decision HOLD
    NOT_ASKED = "not asked"  # one before it had fired
    OFF = "off"


@dataclass(frozen=True, slots=True)
class FilterStep:
    """One filter, in the order of their asking; `numbers` says what it compared."""

    name: str
    state: FilterState
    numbers: str


@dataclass(frozen=True, slots=True)
class FillStory:
    """One fill with its arithmetic, as texts that a reader can redo. `action` is open or close.

    `reference_price` is None where the directory does not tell it (stops fill within a bar).
    """

    time_ns: int
    side: str
    action: str
    reason: str
    quantity: float
    price: float
    reference_price: float | None
    price_arithmetic: str
    commission_arithmetic: str


@dataclass(frozen=True, slots=True)
class OrderStory:
    """What was ordered at the close of the bar, and what became of it."""

    side: str
    purpose: str
    outcome: str
    fill: FillStory | None = None


@dataclass(frozen=True, slots=True)
class HeldPosition:
    """The position when the decision was made; side is LONG, SHORT or FLAT."""

    side: str
    quantity: float = 0.0
    entry_price: float | None = None
    entry_ns: int | None = None
    unrealized_pnl: float | None = None


@dataclass(frozen=True, slots=True)
class AccountStory:
    """The account at the close of the bar, and at that of the marked bar before it (None: none)."""

    equity: float
    cash: float
    position: float
    equity_before: float | None
    cash_before: float | None
    arithmetic: str


@dataclass(frozen=True, slots=True)
class BarStory:
    """Everything that the result knows about one bar; times are UTC nanoseconds."""

    open_ns: int
    close_ns: int
    number: int
    bar_count: int
    prices: Mapping[str, float]
    fills: tuple[FillStory, ...]
    held: HeldPosition
    features: Mapping[str, float | None]
    indicators: tuple[IndicatorValue, ...]
    scores: Mapping[str, float | None]
    confidence: float | None
    raw_decision: str
    filters: tuple[FilterStep, ...]
    decision: str
    reason: str
    order: OrderStory | None
    account: AccountStory | None
    notes: tuple[str, ...]

    def to_document(self) -> dict[str, Any]:
        """Returns the story as plain data for JSON; times are ISO 8601."""
        document: dict[str, Any] = _with_times(asdict(self))
        return document


def _with_times(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key.removesuffix("_ns") + "_time" if key.endswith("_ns") else key: iso_time(each)
            if key.endswith("_ns") and each is not None
            else _with_times(each)
            for key, each in value.items()
        }
    if isinstance(value, tuple | list):
        return [_with_times(each) for each in value]
    return value
