"""Checks on the orders of a cycle before they are sent, cutting or dropping them (SPEC B5).

In this order: quality block, notional of a symbol (drops), weight of a symbol, sector, region and
currency exposure (cut), turnover (cuts), drawdown de-risk (cuts), gross notional (drops).
Corrections, SPEC C2 "pre-trade": the sign of an order stays in its side; an order that reduces a
position is neither cut nor dropped, except by the quality block; quantities are not truncated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum

from backlane.errors import FieldViolation, InvalidRequestError
from backlane.execution.target_orders import OrderSide


class PretradeCode(StrEnum):
    """Why an order was cut or dropped; the values are those of the reference."""

    QUALITY_BLOCK = "qa_block_trading"
    MAX_NOTIONAL = "max_notional_per_symbol"
    MAX_WEIGHT = "RISK_REDUCE_MAX_WEIGHT_PER_SYMBOL"
    MAX_SECTOR = "RISK_REDUCE_MAX_SECTOR_EXPOSURE"
    MAX_REGION = "RISK_REDUCE_MAX_REGION_EXPOSURE"
    MAX_CURRENCY = "RISK_REDUCE_MAX_FX_EXPOSURE"
    TURNOVER = "RISK_REDUCE_TURNOVER_CAP"
    DRAWDOWN = "RISK_DERISK_DRAWDOWN"
    MAX_GROSS = "max_gross_exposure"


@dataclass(frozen=True, slots=True)
class PretradeOrder:
    """An order before it is sent: positive units, at a positive reference price.

    `is_from_flat` marks the second leg of an order that turns a position around: another order of
    the same cycle closes what is held, so that this one starts at zero.
    """

    symbol: str
    side: OrderSide
    quantity: float
    price: float
    is_from_flat: bool = False

    @property
    def signed_quantity(self) -> float:
        """The units by which it changes the position."""
        return self.quantity if self.side is OrderSide.BUY else -self.quantity

    @property
    def notional(self) -> float:
        """What is traded, money, never negative."""
        return self.quantity * self.price


@dataclass(frozen=True, slots=True)
class PretradeLimits:
    """Limits of a cycle's orders; None is off. Notionals are money, the others shares of equity.

    `drawdown_threshold` is a positive fraction; from there on orders are scaled by
    `de_risk_scale`, in [0, 1]. Instruments in `base_currency` have no currency exposure.
    """

    notional_per_symbol_max: float | None = None
    weight_per_symbol_max: float | None = None
    sector_exposure_max: float | None = None
    region_exposure_max: float | None = None
    currency_exposure_max: float | None = None
    turnover_max: float | None = None
    drawdown_threshold: float | None = None
    de_risk_scale: float = 0.0
    gross_notional_max: float | None = None
    base_currency: str = "USD"

    def __post_init__(self) -> None:
        numbers = {item.name: getattr(self, item.name) for item in fields(self)}
        del numbers["base_currency"]
        mistakes = tuple(
            FieldViolation(name, f"is {value!r}; give a number from 0")
            for name, value in numbers.items()
            if value is not None and not value >= 0.0
        )
        if self.de_risk_scale > 1.0:
            mistakes += (FieldViolation("de_risk_scale", f"is {self.de_risk_scale!r}, above 1"),)
        if mistakes:
            said = "; ".join(f"{mistake.field}: {mistake.description}" for mistake in mistakes)
            raise InvalidRequestError(
                f"{len(mistakes)} pre-trade limit(s) cannot be used: {said}", violations=mistakes
            )


@dataclass(frozen=True, slots=True)
class InstrumentGroups:
    """Sector, region and currency of an instrument; what is unknown is empty and not checked."""

    sector: str = ""
    region: str = ""
    currency: str = ""


@dataclass(frozen=True, slots=True)
class PretradeBook:
    """What is held, in signed units, at which prices, and what it is all worth.

    `peak_equity` is the highest equity so far. Prices are money per unit.
    """

    positions: Mapping[str, float]
    prices: Mapping[str, float]
    equity: float
    current_equity: float
    peak_equity: float
    groups: Mapping[str, InstrumentGroups] = field(default_factory=dict)

    def is_reducing(self, order: PretradeOrder) -> bool:
        """Whether an order leaves no larger position than there was, on either side of zero."""
        held = self.held(order)
        return abs(held + order.signed_quantity) <= abs(held)

    def held(self, order: PretradeOrder) -> float:
        """Returns the signed units that an order starts from."""
        return 0.0 if order.is_from_flat else self.positions.get(order.symbol, 0.0)

    def price(self, order: PretradeOrder) -> float:
        """Returns the price by which an exposure is valued: the last one, else the order's."""
        return self.prices.get(order.symbol, order.price)

    @property
    def drawdown(self) -> float:
        """The fall from the peak, a positive fraction."""
        if self.peak_equity <= 0.0:
            return 0.0
        return max((self.peak_equity - self.current_equity) / self.peak_equity, 0.0)


@dataclass(frozen=True, slots=True)
class OrderCut:
    """One order that a check changed; `quantity_after` is 0 when it was dropped."""

    code: PretradeCode
    symbol: str
    quantity_before: float
    quantity_after: float


@dataclass(frozen=True, slots=True)
class PretradeResult:
    """The orders that may be sent, in the order given, and every cut on the way there."""

    orders: tuple[PretradeOrder, ...]
    cuts: tuple[OrderCut, ...]


@dataclass(slots=True)
class _Sheet:
    """The orders as they stand between two checks; a dropped one is None."""

    book: PretradeBook
    orders: list[PretradeOrder | None]
    cuts: list[OrderCut] = field(default_factory=list)

    def increasing(self) -> list[int]:
        """Returns the places of the orders that make a position larger."""
        return [
            place
            for place, order in enumerate(self.orders)
            if order is not None and not self.book.is_reducing(order)
        ]

    def scale(self, places: Sequence[int], factor: float, code: PretradeCode) -> None:
        """Multiplies quantities by a factor in [0, 1]; one that becomes 0 is dropped."""
        for place in places:
            order = self.orders[place]
            if order is None or factor >= 1.0:
                continue
            after = order.quantity * max(factor, 0.0)
            self.cuts.append(OrderCut(code, order.symbol, order.quantity, after))
            self.orders[place] = replace(order, quantity=after) if after > 0.0 else None

    def values_after(self) -> dict[str, float]:
        """Returns the value of every position once the orders have filled, never negative."""
        units = dict(self.book.positions)
        prices = dict(self.book.prices)
        for order in self.orders:
            if order is not None:
                units[order.symbol] = units.get(order.symbol, 0.0) + order.signed_quantity
                prices.setdefault(order.symbol, order.price)
        return {symbol: abs(held) * prices.get(symbol, 0.0) for symbol, held in units.items()}

    def traded(self) -> float:
        """Returns the notional of all orders."""
        return sum(order.notional for order in self.orders if order is not None)


def check_orders(
    orders: Sequence[PretradeOrder],
    book: PretradeBook,
    limits: PretradeLimits,
    *,
    is_blocked: bool = False,
) -> PretradeResult:
    """Returns what is left of the orders of a cycle; `is_blocked` is the verdict on its data."""
    sheet = _Sheet(book, list(orders))
    if is_blocked:
        sheet.scale(range(len(orders)), 0.0, PretradeCode.QUALITY_BLOCK)
        return PretradeResult((), tuple(sheet.cuts))
    _drop_large(sheet, limits)
    _cut_to_weight(sheet, limits)
    _cut_groups(sheet, limits)
    _cut_turnover(sheet, limits)
    if limits.drawdown_threshold is not None and book.drawdown >= limits.drawdown_threshold:
        sheet.scale(sheet.increasing(), limits.de_risk_scale, PretradeCode.DRAWDOWN)
    gross = sum(order.notional for order in orders)
    if limits.gross_notional_max is not None and gross > limits.gross_notional_max:
        sheet.scale(sheet.increasing(), 0.0, PretradeCode.MAX_GROSS)
    kept = tuple(order for order in sheet.orders if order is not None)
    return PretradeResult(kept, tuple(sheet.cuts))


def _drop_large(sheet: _Sheet, limits: PretradeLimits) -> None:
    ceiling = limits.notional_per_symbol_max
    for place in sheet.increasing() if ceiling is not None else ():
        order = sheet.orders[place]
        if order is not None and ceiling is not None and order.notional > ceiling:
            sheet.scale((place,), 0.0, PretradeCode.MAX_NOTIONAL)


def _cut_to_weight(sheet: _Sheet, limits: PretradeLimits) -> None:
    """Cuts an order so that its position ends at the weight allowed."""
    if limits.weight_per_symbol_max is None:
        return
    for place in sheet.increasing():
        order = sheet.orders[place]
        if order is None:
            continue
        price = sheet.book.price(order)
        units_max = limits.weight_per_symbol_max * sheet.book.equity / price
        held = sheet.book.held(order)
        direction = 1.0 if order.side is OrderSide.BUY else -1.0
        room = units_max - held * direction
        sheet.scale((place,), room / order.quantity, PretradeCode.MAX_WEIGHT)


def _cut_groups(sheet: _Sheet, limits: PretradeLimits) -> None:
    """Cuts the orders of a group by limit / gross exposure of the group, once for each kind.

    As in the reference, one pass: where what is held alone is too much, something is left over.
    """
    kinds = (
        ("sector", limits.sector_exposure_max, PretradeCode.MAX_SECTOR),
        ("region", limits.region_exposure_max, PretradeCode.MAX_REGION),
        ("currency", limits.currency_exposure_max, PretradeCode.MAX_CURRENCY),
    )
    for kind, share, code in kinds:
        if share is None:
            continue
        exposure: dict[str, float] = {}
        for symbol, value in sheet.values_after().items():
            name = _group(sheet.book, symbol, kind, limits)
            exposure[name] = exposure.get(name, 0.0) + value
        allowed = share * sheet.book.equity
        for name, value in exposure.items():
            if name and value > allowed:
                places = [
                    place
                    for place in sheet.increasing()
                    if (order := sheet.orders[place]) is not None
                    and _group(sheet.book, order.symbol, kind, limits) == name
                ]
                sheet.scale(places, allowed / value, code)


def _group(book: PretradeBook, symbol: str, kind: str, limits: PretradeLimits) -> str:
    name = str(getattr(book.groups.get(symbol, InstrumentGroups()), kind))
    return "" if kind == "currency" and name == limits.base_currency else name


def _cut_turnover(sheet: _Sheet, limits: PretradeLimits) -> None:
    """Cuts the increasing orders to what reducing ones leave of the turnover allowed."""
    if limits.turnover_max is None:
        return
    places = sheet.increasing()
    increasing = sum(
        order.notional for place in places if (order := sheet.orders[place]) is not None
    )
    left = limits.turnover_max * sheet.book.equity - (sheet.traded() - increasing)
    if increasing > max(left, 0.0):
        sheet.scale(places, left / increasing, PretradeCode.TURNOVER)
