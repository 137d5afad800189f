"""The story of one bar: what was seen, what was decided and why, what it cost."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from backlane.audit.explain_fills import (
    fills_at,
    held_position,
    last_fill_ns,
    open_entry_price,
    order_story,
    read_trades,
)
from backlane.audit.explain_filters import filter_steps
from backlane.audit.indicators_at import IndicatorValue
from backlane.audit.recorded import BARS, DECISIONS, EQUITY, FEATURES, RecordedResult, Table
from backlane.audit.stamp import iso_time
from backlane.audit.story import AccountStory, BarStory
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.market.timeframe import Timeframe

_DECIDED = ("confidence", "raw_decision", "decision", "reason")
_SAME_MONEY = 1e-9
"""Relative: within it, an arithmetic that is shown is what the engine computed."""


def bar_at(result: RecordedResult, time_ns: int) -> int:
    """Returns the index of the simulated bar that opens at, or contains, a moment.

    Raises InvalidRequestError, naming the bars around it, where there is none.
    """
    times = result.tables[DECISIONS]["time"]
    length_ns = Timeframe.parse(str(result.document["config"]["timeframe"])).length_ns
    index = int(np.searchsorted(times, time_ns, "right")) - 1
    if index >= 0 and time_ns < int(times[index]) + length_ns:
        return index
    if index < 0:
        where = f"the first simulated bar opens at {iso_time(int(times[0]))}"
    elif index == len(times) - 1:
        where = f"the last simulated bar opens at {iso_time(int(times[-1]))}"
    else:
        before, after = iso_time(int(times[index])), iso_time(int(times[index + 1]))
        where = f"there is a gap: the bars around it open at {before} and {after}"
    message = f"No simulated bar contains {iso_time(time_ns)}: {where}."
    raise InvalidRequestError(message, violations=(FieldViolation("--time", message),))


def explain_bar(
    result: RecordedResult,
    index: int,
    *,
    indicators: tuple[IndicatorValue, ...] = (),
    notes: tuple[str, ...] = (),
) -> BarStory:
    """Tells everything that a result knows about one simulated bar."""
    config, tables = result.document["config"], result.tables
    decisions = tables[DECISIONS]
    times = decisions["time"]
    time_ns = int(times[index])
    prices = _prices(tables.get(BARS), index)
    trades = read_trades(result)
    held = held_position(trades, config, time_ns, prices.get("close"))
    features = _features(tables[FEATURES], index)
    row = {name: values[index] for name, values in decisions.items()}
    confidence = _known(row["confidence"])
    filters, doubt = filter_steps(
        config,
        raw_decision=str(row["raw_decision"]),
        confidence=confidence,
        reason=str(row["reason"]),
        features=features,
        held=held,
        time_ns=time_ns,
        last_fill_ns=last_fill_ns(trades, config, time_ns),
    )
    next_ns = int(times[index + 1]) if index + 1 < len(times) else None
    return BarStory(
        open_ns=time_ns,
        close_ns=time_ns + Timeframe.parse(str(config["timeframe"])).length_ns,
        number=index + 1,
        bar_count=len(times),
        prices=prices,
        fills=fills_at(trades, result, time_ns),
        held=held,
        features=features,
        indicators=indicators,
        scores={
            name: _known(value) for name, value in row.items() if name not in ("time", *_DECIDED)
        },
        confidence=confidence,
        raw_decision=str(row["raw_decision"]),
        filters=filters,
        decision=str(row["decision"]),
        reason=str(row["reason"]),
        order=order_story(
            trades,
            result,
            decision=str(row["decision"]),
            held=held,
            time_ns=time_ns,
            next_ns=next_ns,
        ),
        account=_account(
            tables[EQUITY], time_ns, open_entry_price(trades, time_ns), prices.get("close")
        ),
        notes=(*notes, *doubt),
    )


def _prices(bars: Table | None, index: int) -> dict[str, float]:
    if bars is None:
        return {}
    return {name: float(values[index]) for name, values in bars.items() if name != "time"}


def _features(table: Table, index: int) -> Mapping[str, float | None]:
    return {name: _known(values[index]) for name, values in table.items() if name != "time"}


def _known(value: Any) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number


def _account(
    equity: Table, time_ns: int, entry_price: float | None, close: float | None
) -> AccountStory | None:
    """Returns the account at the bar's close; None for a bar that was not marked."""
    times = equity["time"]
    row = int(np.searchsorted(times, time_ns))
    if row == len(times) or times[row] != time_ns:
        return None
    now = {name: float(equity[name][row]) for name in ("equity", "cash", "position")}
    before = {name: float(equity[name][row - 1]) if row else None for name in ("equity", "cash")}
    return AccountStory(
        **now,
        equity_before=before["equity"],
        cash_before=before["cash"],
        arithmetic=_equity_arithmetic(now, entry_price, close),
    )


def _equity_arithmetic(now: Mapping[str, float], entry: float | None, close: float | None) -> str:
    """Returns equity = cash + value as a text that adds up, "" where more is in it than this."""
    cash, quantity = now["cash"], abs(now["position"])
    if quantity == 0.0:
        value, text = 0.0, f"{cash!r}"
    elif close is None:
        return ""
    elif now["position"] > 0:
        value, text = quantity * close, f"{cash!r} + {quantity:.10g} x {close!r}"
    elif entry is None:
        return ""
    else:
        value = quantity * entry + quantity * (entry - close)
        text = f"{cash!r} + {quantity:.10g} x {entry!r} + {quantity:.10g} x ({entry!r} - {close!r})"
    is_all = math.isclose(cash + value, now["equity"], rel_tol=_SAME_MONEY)
    return f"{text} = {now['equity']!r}" if is_all else ""
