"""What the page says, section by section, as plain values: the template only lays them out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backlane.backtest.switches import Switches
from backlane.report.document import FunnelEntry
from backlane.report.formats import (
    ABSENT,
    cut,
    in_unit,
    money,
    percent,
    short,
    time_ns,
)
from backlane.report.texts import (
    CONFIG_TEXTS,
    DIGEST_TEXTS,
    FILL_TEXTS,
    REASON_TEXTS,
    STAGE_TEXTS,
)

if TYPE_CHECKING:
    import pandas as pd

    from backlane.report.frames import ResultFrames

REQUEST_CHARS_MAX = 20_000
"""Characters of request.json that the page shows."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One headline number; `tone` is won, lost or nothing."""

    title: str
    value: str
    note: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric: `exact` is its value to the last bit, "" where it has none."""

    id: str
    title: str
    value: str
    exact: str
    formula: str
    note: str
    source: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A name, a value, what it means; `is_unusual` when the default is another."""

    name: str
    value: str
    meaning: str = ""
    is_unusual: bool = False


@dataclass(frozen=True, slots=True)
class Loss:
    """How many a reason stopped."""

    reason: str
    count: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the funnel; `share_pct` is the width of its bar."""

    name: str
    entered: str
    passed: str
    meaning: str
    share_pct: float
    losses: tuple[Loss, ...]


@dataclass(frozen=True, slots=True)
class Month:
    """One month's return; `heat` from -4 (the worst shown) to 4."""

    text: str
    heat: int


# metric of the tile -> the text below it, with metrics in their units
_TILES: Mapping[str, str] = {
    "total_return_pct": "{total_return} net",
    "annualized_return": "compounded",
    "sharpe_ratio": "Sortino {sortino_ratio}",
    "max_drawdown_pct": "{max_drawdown} from the peak",
    "final_equity": "",
    "total_trades": "{winning_trades} won, {losing_trades} lost",
    "win_rate": "expectancy {expectancy}",
    "profit_factor": "{avg_win} a win, {avg_loss} a loss",
}
_TONED = ("total_return_pct", "annualized_return")


def tiles(result: "ResultFrames") -> list[Tile]:
    """Returns the headline numbers that the result has; undefined ones with their reason."""
    metrics: dict[Any, Any] = dict(result.metrics.to_dict("index"))
    shown = {id_: in_unit(row["value"], row["unit"]) for id_, row in metrics.items()}
    cash = result.document.initial_cash
    found = []
    for id_, note in _TILES.items():
        if id_ not in metrics:
            continue
        row = metrics[id_]
        text = _fill_in(note, shown)
        if id_ == "final_equity" and cash is not None:
            text = f"from {money(cash)}"
        tone = ""
        if id_ in _TONED and row["value"] != 0 and shown[id_] != ABSENT:
            tone = "won" if row["value"] > 0 else "lost"
        reason = row["undefined_reason"]
        found.append(Tile(row["title"], shown[id_], short(reason) or text, tone))
    return found


def _fill_in(note: str, shown: Mapping[Any, str]) -> str:
    try:
        return note.format_map(shown)
    except KeyError:
        return ""


def metric_groups(result: "ResultFrames") -> dict[str, list[MetricRow]]:
    """Returns the metrics of the equity curve, those of the trades, and any further ones."""
    groups: dict[str, list[MetricRow]] = {}
    for id_, row in result.metrics.iterrows():
        name = {"trades": "From the trades", "": "Further metrics"}.get(
            row["basis"], "From the equity curve"
        )
        value = row["value"]
        is_defined = bool(np.isfinite(value))
        basis = f"{row['sample_count']:,} {row['basis']}".strip()
        notes = [basis, row["annualization"]]
        if not is_defined:
            reason = row["undefined_reason"] or "no reason is given"
            notes = [f"undefined: {reason}", *notes]
        groups.setdefault(name, []).append(
            MetricRow(
                short(str(id_)),
                short(row["title"]),
                in_unit(value, row["unit"]),
                repr(float(value)) if is_defined else "",
                row["formula"],
                short("; ".join(note for note in notes if note)),
                row["source"],
            )
        )
    return groups


def stages(entries: tuple[FunnelEntry, ...]) -> list[Stage]:
    """Returns the funnel, the commonest loss of each stage first."""
    widest = max((entry.entered for entry in entries), default=0) or 1
    return [
        Stage(
            short(entry.stage),
            f"{entry.entered:,}",
            f"{entry.passed:,}",
            STAGE_TEXTS.get(entry.stage, ""),
            round(min(100.0, max(0.0, 100 * entry.passed / widest)), 3),
            tuple(
                Loss(short(reason), f"{count:,}", REASON_TEXTS.get(reason, ""))
                for reason, count in sorted(entry.dropped.items(), key=lambda item: -item[1])
            ),
        )
        for entry in entries
    ]


def months(table: "pd.DataFrame") -> dict[str, list[Month]]:
    """Returns for each year of a table of `monthly_returns` its months and the whole year."""
    values = table[list(range(1, 13))].to_numpy()
    reach = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 0.0
    return {
        str(year): [
            *(_month(float(row[month]), reach) for month in range(1, 13)),
            Month(_return_text(float(row["year"])), 0),
        ]
        for year, row in table.iterrows()
    }


def _month(value: float, reach: float) -> Month:
    heat = round(4 * value / reach) if reach > 0 and np.isfinite(value) else 0
    return Month(_return_text(value), heat)


def _return_text(value: float) -> str:
    return percent(value).rstrip("%") if np.isfinite(value) else ""


def assumptions(config: Mapping[str, Any]) -> dict[str, list[Fact]]:
    """Returns every key of the configuration: the plain ones, then each nested group."""
    groups: dict[str, list[Fact]] = {"Run and costs": []}
    for key, value in config.items():
        if isinstance(value, Mapping):
            title = short(str(key)).replace("_", " ").capitalize()
            groups[title] = [_fact(f"{key}.{name}", each) for name, each in value.items()]
        else:
            groups["Run and costs"].append(_fact(str(key), value))
    return groups


_DEFAULT_SWITCHES = {
    f"switches.{name}": getattr(value, "value", value)
    for name, value in ((name, getattr(Switches(), name)) for name in Switches.__slots__)
}


def _fact(key: str, value: Any) -> Fact:
    is_unusual = key in _DEFAULT_SWITCHES and value != _DEFAULT_SWITCHES[key]
    name = key.rpartition(".")[2]
    return Fact(short(name), short(_value_text(name, value)), CONFIG_TEXTS.get(key, ""), is_unusual)


_FRACTIONS = (
    *("fraction", "target_volatility", "stop_loss", "take_profit", "trailing_stop"),
    *("maintenance", "confidence_threshold", "edge"),
)


def _value_text(name: str, value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.endswith("_ns"):
        return f"{time_ns(value)} UTC"
    if isinstance(value, float):
        text = f"{value:,.10g}"
        is_fraction = "_rate" in name or name in _FRACTIONS
        return f"{text} ({100 * value:.6g}%)" if is_fraction else text
    if isinstance(value, int | str):
        return str(value)
    return json.dumps(value, sort_keys=True)


def fill_sentence(result: "ResultFrames") -> str:
    """Returns what the profile assumes about fills; "" for a switch that is not known."""
    return FILL_TEXTS.get(str(result.document.switch("fill")), "")


def identity(result: "ResultFrames") -> dict[str, list[Fact]]:
    """Returns every digest, every version, and whatever else result.json says."""
    document = result.document
    digests = {
        "result": document.result_digest,
        "orders": document.order_digest,
        "config": document.config_digest,
        "model": document.model.digest,
    }
    facts = [Fact(name, short(value), DIGEST_TEXTS[name]) for name, value in digests.items()]
    facts += [
        Fact(f"bars {short(label)}", short(value), "the bars of this timeframe")
        for label, value in document.datasets.items()
    ]
    groups = {
        "Digests": facts,
        "Versions": [Fact(short(key), short(text)) for key, text in document.versions.items()],
        "Seconds of each phase": [
            Fact(short(phase), f"{seconds:.3f}") for phase, seconds in document.timings.items()
        ],
        "Also in result.json": [
            Fact(short(key), short(_value_text(key, value)))
            for key, value in (document.model_extra or {}).items()
        ],
    }
    return {title: found for title, found in groups.items() if found}


def request_text(request: Mapping[str, Any]) -> str:
    """Returns the request as it runs again, cut at REQUEST_CHARS_MAX."""
    return cut(json.dumps(request, indent=2), REQUEST_CHARS_MAX)
