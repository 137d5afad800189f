"""What a finished portfolio run gave, for people; the same for local and remote runs."""

from pathlib import Path
from typing import Any

from backlane.cli.output import print_json, print_table, say

_SHOWN_METRICS = (
    "total_return",
    "annualized_return",
    "volatility",
    "sharpe_ratio",
    "max_drawdown",
    "turnover",
)


def show_document(
    document: dict[str, Any], out: Path | None, *, operation: str | None, as_json: bool
) -> None:
    """Writes what result.json says, and where the files are."""
    if as_json:
        about = {} if operation is None else {"operation": operation}
        print_json({**document, **about, "out": None if out is None else str(out)})
        return
    say(
        f"{len(document['symbols'])} instruments, {document['bar_count']:,} bars, "
        f"{document['first_time']} to {document['last_time']}"
    )
    counts, metrics = document["counts"], document["metrics"]
    rows = [
        ("final equity", f"{document['final_equity']:,.2f}"),
        ("costs", f"{document['total_cost']:,.2f}"),
        ("orders / fills", f"{counts['orders']:,} / {counts['fills']:,}"),
        ("trades (open)", f"{counts['trades']:,} ({counts['open_trades']:,})"),
        *((name, "-" if (value := metrics.get(name)) is None else f"{value:.4f}")
          for name in _SHOWN_METRICS),
    ]  # fmt: skip
    print_table(("", "value"), rows, right=("value",))
    stale = document["held_without_a_bar"]
    if stale:
        say(f"note: held without a bar at the end, valued at its last close: {', '.join(stale)}")
    if failed := document.get("cycles", {}).get("failed"):
        say(f"note: {failed} cycles failed; the first: {document['cycles']['first_failure']}")
    if operation is not None:
        say(f"operation  {operation}")
    if out is not None:
        say(f"result  {out}")
    elif operation is not None:
        say(f"result  backlane portfolio result {operation} --out DIR")


def show_end_of_day(document: dict[str, Any], out: Path | None, *, as_json: bool) -> None:
    """Writes the orders to send after the last bar, and where the files are."""
    if as_json:
        print_json({**document, "out": None if out is None else str(out)})
        return
    say(f"after the bar of {document['bar_time']}: equity {document['equity']:,.2f}")
    rows = [
        (each["symbol"], each["side"], f"{each['quantity']:,.6g}", each["kind"])
        for each in document["orders"]
    ]
    if rows:
        print_table(("symbol", "side", "quantity", "kind"), rows, right=("quantity",))
    else:
        say("no orders")
    say(f"{len(document['positions'])} positions held")
    if out is not None:
        say(f"result  {out}")
