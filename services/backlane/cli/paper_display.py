"""What a session makes of a bar, for people and for programs."""

from dataclasses import asdict

from backlane.backtest.session_records import BarReport, OrderPlaced
from backlane.cli.output import print_json, say


def show_report(report: BarReport, *, as_json: bool) -> None:
    """Writes a report: a JSON object on a line, or lines for what happened at the bar."""
    if as_json:
        print_json(asdict(report))
        return
    time = _time_text(report.time_ns)
    say(
        f"{time}  bar {report.number:,}  equity {report.equity:,.2f}  cash {report.cash:,.2f}  "
        f"{len(report.positions)} held"
    )
    symbols = {order.number: order.symbol for order in report.orders}
    for fill in report.fills:
        side = "bought" if fill.quantity > 0 else "sold"
        say(
            f"  {side} {abs(fill.quantity):,.6g} {fill.symbol} at {fill.price:,.6g}, "
            f"cost {fill.cost:,.2f} (order {fill.order})"
        )
    for order in report.orders:
        say(f"  order {order.number}: {_order_text(order)}")
    for end in report.ended:
        if end.outcome != "filled":
            say(f"  order {end.number} {symbols.get(end.number, '')} ended: {end.outcome}")
    if any(stage.error for stage in report.decision.stages):
        say(f"  cycle failed: {report.decision.detail}")


def _order_text(order: OrderPlaced) -> str:
    side = "buy" if order.quantity > 0 else "sell"
    price = "" if order.price is None else f", last close {order.price:,.6g}"
    return f"{side} {abs(order.quantity):,.6g} {order.symbol}{price}"


def _time_text(time_ns: int) -> str:
    from datetime import UTC, datetime, timedelta

    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1_000)
    return moment.isoformat().replace("+00:00", "Z")
