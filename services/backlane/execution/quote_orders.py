"""The life of orders at a venue that quotes a bid and an ask: post-only limits and market orders.

SPEC A8, with time as an argument and chance as a function. A post-only order joins the book on its
own side and is rejected where it would trade at once; it fills at its limit once the other side of
a later quote reaches it. Corrections (SPEC C1 "fees"): a buy must be covered with its commission,
and nothing is sold that is not held.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from backlane.execution.cost_model import BPS
from backlane.execution.target_orders import OrderSide
from backlane.execution.tier_costs import Liquidity, TierCosts

SECOND_NS = 1_000_000_000
OPEN_ORDERS_MAX = 10_000


class QuoteOrderStatus(StrEnum):
    """Where an order stands."""

    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"


class QuoteRejection(StrEnum):
    """Why a venue takes no order."""

    WOULD_TRADE = "would_trade"  # post-only, and the other side is already there
    NO_CASH = "no_cash"
    NOT_HELD = "not_held"
    TOO_MANY_OPEN = "too_many_open"
    NOT_POSITIVE = "not_positive"


@dataclass(frozen=True, slots=True)
class PriceQuote:
    """The best prices at which others buy and sell."""

    bid: float
    ask: float

    @classmethod
    def around(cls, close: float, spread_bps: float) -> "PriceQuote":
        """Returns the quote half a spread away from a close: 100 and 10 bps are 99.95, 100.05."""
        half = spread_bps * BPS / 2.0
        return cls(close * (1.0 - half), close * (1.0 + half))


@dataclass(frozen=True, slots=True)
class QuoteOrder:
    """An order and what became of it; `notional` is money, `commission` what was charged.

    `limit_price` is None for a market order, `fill_price` until it is filled.
    """

    id: str
    symbol: str
    side: OrderSide
    notional: float
    limit_price: float | None
    placed_ns: int
    status: QuoteOrderStatus = QuoteOrderStatus.OPEN
    fill_price: float | None = None
    commission: float = 0.0
    liquidity: Liquidity | None = None
    rejection: QuoteRejection | None = None


@dataclass(frozen=True, slots=True)
class QuoteVenue:
    """A venue as it stands: money and units of one account, open orders, and those that ended.

    Rejected orders are in neither list. Every function here returns another one and leaves this.
    """

    cash: float
    units: Mapping[str, float] = field(default_factory=dict)
    open_orders: tuple[QuoteOrder, ...] = ()
    ended: tuple[QuoteOrder, ...] = ()
    rejected_count: int = 0


@dataclass(frozen=True, slots=True)
class QuoteRules:
    """How a venue trades: costs, and the time that an order lives, in simulated seconds.

    An order is ended when it is `time_to_live_s` old, before it could fill.
    """

    costs: TierCosts = field(default_factory=TierCosts)
    time_to_live_s: float = 300.0


def post_only_price(side: OrderSide, quote: PriceQuote, cushion_bps: float) -> float:
    """Returns the limit of a post-only order, `cushion_bps` away from its own side of the quote.

    bid (1 - cushion) to buy, ask (1 + cushion) to sell: a bid of 100 and 5 bps give 99.95.
    """
    if side is OrderSide.BUY:
        return quote.bid * (1.0 - cushion_bps * BPS)
    return quote.ask * (1.0 + cushion_bps * BPS)


def place_market(
    venue: QuoteVenue,
    order_id: str,
    symbol: str,
    side: OrderSide,
    notional: float,
    quote: PriceQuote,
    now_ns: int,
    rules: QuoteRules,
) -> tuple[QuoteVenue, QuoteOrder]:
    """Returns the venue after an order that takes what is quoted, and the order."""
    price = quote.ask if side is OrderSide.BUY else quote.bid
    order = QuoteOrder(order_id, symbol, side, notional, None, now_ns)
    rejection = _rejection(venue, order, price, Liquidity.TAKER, rules)
    if rejection is not None:
        return _rejected(venue, order, rejection)
    filled = _filled(order, price, Liquidity.TAKER, rules)
    return _booked(venue, filled), filled


def place_post_only(
    venue: QuoteVenue,
    order_id: str,
    symbol: str,
    side: OrderSide,
    notional: float,
    quote: PriceQuote,
    now_ns: int,
    rules: QuoteRules,
    cushion_bps: float = 0.0,
) -> tuple[QuoteVenue, QuoteOrder]:
    """Returns the venue after an order that only waits, and the order.

    The same identifier again, while that order is open, is that order.
    """
    known = next((each for each in venue.open_orders if each.id == order_id), None)
    if known is not None:
        return venue, known
    limit = post_only_price(side, quote, cushion_bps)
    order = QuoteOrder(order_id, symbol, side, notional, limit, now_ns)
    if is_reached(order, quote):
        return _rejected(venue, order, QuoteRejection.WOULD_TRADE)
    rejection = _rejection(venue, order, limit, Liquidity.MAKER, rules)
    if rejection is None and len(venue.open_orders) >= OPEN_ORDERS_MAX:
        rejection = QuoteRejection.TOO_MANY_OPEN
    if rejection is not None:
        return _rejected(venue, order, rejection)
    return replace(venue, open_orders=(*venue.open_orders, order)), order


def is_reached(order: QuoteOrder, quote: PriceQuote) -> bool:
    """Tells whether the other side of a quote has come to the limit of an order."""
    if order.limit_price is None:
        return True
    if order.side is OrderSide.BUY:
        return quote.ask <= order.limit_price
    return quote.bid >= order.limit_price


def advance(
    venue: QuoteVenue,
    quotes: Mapping[str, PriceQuote],
    now_ns: int,
    rules: QuoteRules,
    fills: Callable[[QuoteOrder], bool],
) -> QuoteVenue:
    """Returns the venue at a later time: orders that are too old end, reached ones may fill.

    In the order in which they were placed. `fills` says whether one that was reached is filled, for
    chance, and is asked for those alone. What the account can no longer pay ends as rejected.
    """
    waiting = venue.open_orders
    venue = replace(venue, open_orders=())
    for order in waiting:
        if now_ns - order.placed_ns >= rules.time_to_live_s * SECOND_NS:
            venue = _ended(venue, replace(order, status=QuoteOrderStatus.EXPIRED))
            continue
        quote = quotes.get(order.symbol)
        limit = order.limit_price
        if quote is None or limit is None or not is_reached(order, quote) or not fills(order):
            venue = replace(venue, open_orders=(*venue.open_orders, order))
            continue
        rejection = _rejection(venue, order, limit, Liquidity.MAKER, rules)
        if rejection is None:
            venue = _booked(venue, _filled(order, limit, Liquidity.MAKER, rules))
        else:
            refused = replace(order, status=QuoteOrderStatus.REJECTED, rejection=rejection)
            venue = _ended(venue, refused)
    return venue


def cancel(venue: QuoteVenue, order_id: str) -> tuple[QuoteVenue, QuoteOrder | None]:
    """Returns the venue without an open order, and the order; None where it is not open."""
    order = next((each for each in venue.open_orders if each.id == order_id), None)
    if order is None:
        return venue, None
    left = tuple(each for each in venue.open_orders if each.id != order_id)
    ended = replace(order, status=QuoteOrderStatus.CANCELLED)
    return _ended(replace(venue, open_orders=left), ended), ended


def _rejection(
    venue: QuoteVenue, order: QuoteOrder, price: float, liquidity: Liquidity, rules: QuoteRules
) -> QuoteRejection | None:
    if not (order.notional > 0.0 and price > 0.0):
        return QuoteRejection.NOT_POSITIVE
    if order.side is OrderSide.BUY:
        needed = order.notional * (1.0 + rules.costs.commission_rate(liquidity))
        return QuoteRejection.NO_CASH if needed > venue.cash else None
    is_held = order.notional / price <= venue.units.get(order.symbol, 0.0)
    return None if is_held else QuoteRejection.NOT_HELD


def _rejected(
    venue: QuoteVenue, order: QuoteOrder, rejection: QuoteRejection
) -> tuple[QuoteVenue, QuoteOrder]:
    refused = replace(order, status=QuoteOrderStatus.REJECTED, rejection=rejection)
    return replace(venue, rejected_count=venue.rejected_count + 1), refused


def _ended(venue: QuoteVenue, order: QuoteOrder) -> QuoteVenue:
    return replace(venue, ended=(*venue.ended, order))


def _filled(order: QuoteOrder, price: float, liquidity: Liquidity, rules: QuoteRules) -> QuoteOrder:
    return replace(
        order,
        status=QuoteOrderStatus.FILLED,
        fill_price=price,
        commission=order.notional * rules.costs.commission_rate(liquidity),
        liquidity=liquidity,
    )


def _booked(venue: QuoteVenue, order: QuoteOrder) -> QuoteVenue:
    """Moves the money and the units of a filled order."""
    sign = 1.0 if order.side is OrderSide.BUY else -1.0
    price = order.fill_price or 0.0
    held = venue.units.get(order.symbol, 0.0) + sign * order.notional / price
    cash = venue.cash - sign * order.notional - order.commission
    moved = replace(venue, cash=cash, units={**venue.units, order.symbol: held})
    return _ended(moved, order)
