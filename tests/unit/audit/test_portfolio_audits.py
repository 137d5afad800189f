"""Strategies that look ahead are found, with instrument and bar; those that do not pass."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backlane.audit.portfolio_future import shuffled_events, shuffled_panel
from backlane.audit.portfolio_lookahead import audit_portfolio_lookahead
from backlane.audit.portfolio_stamp import PORTFOLIO_STAMP_FORMAT, PortfolioStamp
from backlane.audit.portfolio_warmup import audit_portfolio_warmup
from backlane.audit.stamp import Verdict
from backlane.backtest.portfolio_cycle import RunPlan
from backlane.backtest.portfolio_run import parse_portfolio_config, plan_run
from backlane.cli import main
from backlane.cycle.config_record import ConfigRecord
from backlane.cycle.strategies import BUILT_IN
from backlane.cycle.strategy import (
    ProposalInput,
    Strategy,
    StrategyInput,
    Targets,
    TargetStrategy,
    TradeStrategy,
)
from backlane.errors import NotEnoughBarsError
from backlane.panel.events import Events
from backlane.panel.panel import Panel
from tests.portfolios import write_config, write_panel
from tests.property.portfolio_panels import DAY_NS, panel_of
from tests.property.test_portfolio_laws import STRATEGY_PARAMETERS, events_of

PANEL = panel_of(11, 90, 3, 0.05)
EVENTS = events_of(11, PANEL)


class NoParameters(ConfigRecord):
    """A strategy of these tests takes none."""


def targets_of(close: np.ndarray[Any, Any], is_long: np.ndarray[Any, Any]) -> Targets:
    weights = np.where(np.isnan(close), np.nan, is_long / close.shape[1])
    return Targets(is_long.astype(np.int8), is_long.astype(float), weights)


def tomorrow(data: StrategyInput, _: NoParameters) -> Targets:
    """Buys what will have risen by tomorrow."""
    close = data.panel.close
    later = np.vstack([close[1:], close[-1:]])
    return targets_of(close, later > close)


def crashing(data: StrategyInput, _: NoParameters) -> Targets:
    """Needs bar 60 to be there, whatever it looks at."""
    return targets_of(data.panel.close, data.panel.close > data.panel.close[60, 0])


def undisclosed(data: StrategyInput, _: NoParameters) -> Targets:
    """Counts an event from the day on which it happened."""
    panel, insider = data.panel, data.events["insider"]
    total = np.zeros(panel.close.shape)
    rows = np.searchsorted(panel.time_ns, insider.event_ns)
    values = np.clip(insider.values["net_shares"], 0.0, None)
    np.add.at(total, (rows, insider.symbol_index), values)
    return targets_of(panel.close, total > 0.0)


def disclosed(data: StrategyInput, parameters: NoParameters) -> Targets:
    """The same, from the disclosure on."""
    insider = data.events["insider"]
    is_seen = insider.known_ns <= data.panel.known_ns[-1]
    known = Events(
        insider.symbols,
        insider.symbol_index[is_seen],
        insider.known_ns[is_seen],
        insider.known_ns[is_seen],
        {name: values[is_seen] for name, values in insider.values.items()},
    )
    return undisclosed(replace(data, events={"insider": known}), parameters)


def last_of_all(panel: Panel, *_: Any) -> dict[str, Any]:
    """A feature that knows where everything ends."""
    return {"distance": panel.close / panel.close[-1:]}


def by_rank(data: StrategyInput, _: NoParameters) -> Targets:
    """Decides by nothing that the feature says."""
    return targets_of(data.panel.close, np.ones(data.panel.close.shape, dtype=bool))


@dataclass(frozen=True, slots=True)
class Rise:
    """A signal to trade."""

    symbol: str
    size: float


@dataclass(frozen=True, slots=True)
class Rises:
    """Rises of each bar, or, where `ahead` is 1, of the next one."""

    panel: Panel
    ahead: int

    def row(self, bar: int) -> tuple[Rise, ...]:
        at = min(bar + self.ahead, len(self.panel) - 1)
        change = self.panel.close[at] / self.panel.close[at - 1] - 1.0 if at else np.zeros(1)
        names = zip(self.panel.symbols, change.tolist(), strict=False)
        return tuple(Rise(name, size) for name, size in names if size > 0.0)


def nothing_proposed(_: ProposalInput, __: NoParameters) -> tuple[()]:
    return ()


def rises(ahead: int) -> TradeStrategy:
    return TradeStrategy(NoParameters, lambda data, _: Rises(data.panel, ahead), nothing_proposed)


OWN: dict[str, Strategy] = {
    "tomorrow": TargetStrategy(NoParameters, tomorrow),
    "crashing": TargetStrategy(NoParameters, crashing),
    "undisclosed": TargetStrategy(NoParameters, undisclosed, ("insider",)),
    "disclosed": TargetStrategy(NoParameters, disclosed, ("insider",)),
    "odd_feature": TargetStrategy(NoParameters, by_rank, features=last_of_all),
    "rises": rises(0),
    "rises_ahead": rises(1),
}


def plan_of(name: str, **parameters: Any) -> RunPlan:
    registry = {**BUILT_IN, **OWN}
    content = {
        "strategy": {"name": name, "parameters": parameters},
        "data": {"panel": "panel.csv", "events": {"insider": "i.csv", "shipping": "s.csv"}},
    }
    return plan_run(parse_portfolio_config(content, registry), tuple(EVENTS), registry)


def audit(name: str, bars: int = 8, **parameters: Any) -> PortfolioStamp:
    return audit_portfolio_lookahead(plan_of(name, **parameters), PANEL, EVENTS, bar_count=bars)


def stages(stamp: PortfolioStamp) -> list[str]:
    return list(dict.fromkeys(each.stage for each in stamp.findings))


EVERY = [(name, each) for name, choices in STRATEGY_PARAMETERS.items() for each in choices]


@pytest.mark.parametrize(
    ("name", "parameters"), EVERY, ids=[f"{n}-{i}" for i, (n, _) in enumerate(EVERY)]
)
def test_what_comes_with_backlane_is_clean(name: str, parameters: dict[str, Any]):
    stamp = audit(name, **parameters)
    assert (stamp.findings, stamp.verdict, stamp.is_passed) == ((), Verdict.CLEAN, True)
    assert stamp.replay_count == 8 * 3
    assert stamp.columns["orders"]
    assert "universe" in stamp.columns["features"]


@pytest.mark.parametrize("name", ["disclosed", "rises"])
def test_a_users_own_that_waits_is_clean(name: str):
    assert audit(name).verdict is Verdict.CLEAN


def test_a_filter_over_the_whole_sample_is_found():
    stamp = audit("trend_baseline", fast=2, slow=5, volume_filter="full_sample")
    assert stages(stamp) == ["signals", "targets", "orders", "fills", "account"]
    assert stamp.verdict is Verdict.DECISIONS_DIFFER
    assert not stamp.is_passed


def test_tomorrows_close_is_found_with_instrument_and_bar():
    """The last bar of a prefix sees no rise: where the next bar rose, its signal differs there."""
    stamp = audit("tomorrow")
    checked = {int(np.flatnonzero(PANEL.time_ns == each)[0]) for each in stamp.checked_ns}
    rose = {
        (row, name)
        for row in checked
        for name, now, later in zip(
            PANEL.symbols, PANEL.close[row], PANEL.close[row + 1], strict=True
        )
        if later > now
    }
    expected = {name: min(row for row, each in rose if each == name) for _, name in rose}
    found = {
        each.instrument: each
        for each in stamp.findings
        if (each.stage, each.column) == ("signals", "tomorrow.score")
    }
    assert found.keys() == expected.keys()
    for name, each in found.items():
        assert each.first_ns <= PANEL.time_ns[expected[name]]
        assert each.size == 1.0
    causes = {each.cause for each in stamp.findings if each.stage == "orders"}
    assert causes == {"follows from signals: tomorrow.direction, tomorrow.score"}


def test_an_event_before_its_disclosure_is_found_and_called_one():
    stamp = audit("undisclosed")
    signal = [each for each in stamp.findings if each.stage == "signals"]
    assert signal
    assert all(set(each.replays) <= {"prefix", "shuffled events"} for each in signal)
    assert any(each.replays.get("shuffled events") for each in signal)
    assert stamp.verdict is Verdict.DECISIONS_DIFFER


def test_a_feature_is_found_where_nothing_follows_from_it():
    stamp = audit("odd_feature")
    assert stages(stamp) == ["features"]
    assert {each.column for each in stamp.findings} == {"odd_feature.distance"}
    assert (stamp.verdict, stamp.is_passed) == (Verdict.COLUMNS_DIFFER, False)


def test_signals_to_trade_are_found():
    stamp = audit("rises_ahead")
    assert stages(stamp) == ["signals"]
    assert {each.column for each in stamp.findings} == {"rises_ahead.size"}


def test_a_strategy_that_fails_without_its_future_is_found():
    stamp = audit("crashing")
    finding = stamp.findings[0]
    assert (finding.stage, finding.column) == ("run", "IndexError")
    assert "out of bounds" in finding.cause
    assert not stamp.is_passed


def test_the_same_seed_gives_the_same_stamp_and_another_looks_elsewhere():
    plan = plan_of("tomorrow")
    one, two, other = (
        audit_portfolio_lookahead(plan, PANEL, EVENTS, bar_count=4, seed=seed) for seed in (1, 1, 2)
    )
    assert one.to_document() == two.to_document()
    assert one.checked_ns != other.checked_ns


def test_one_bar_has_no_future():
    with pytest.raises(NotEnoughBarsError):
        audit_portfolio_lookahead(plan_of("tomorrow"), PANEL.until(0), {}, bar_count=1)


# --- another future -----------------------------------------------------------------------------


def test_a_shuffle_moves_every_later_row_and_no_other():
    panel = panel_of(5, 30, 2, 0.0)
    as_of_ns = int(panel.known_ns[9])
    again = shuffled_panel(panel, as_of_ns, np.random.default_rng(0))
    assert np.array_equal(again.close[:10], panel.close[:10])
    assert (again.close[10:] != panel.close[10:]).all()
    assert np.array_equal(np.sort(again.close[10:], axis=0), np.sort(panel.close[10:], axis=0))
    assert np.array_equal(again.time_ns, panel.time_ns)


def test_shuffled_events_are_disclosed_at_other_times_and_never_before_they_happen():
    as_of_ns = 40 * DAY_NS
    again = shuffled_events(EVENTS, as_of_ns, np.random.default_rng(0))
    for source, before in EVENTS.items():
        after, known = again[source], before.known_ns <= as_of_ns
        column = next(iter(before.values))
        assert np.array_equal(after.known_ns, before.known_ns)
        assert np.array_equal(after.values[column][known], before.values[column][known])
        assert (after.values[column][~known] != before.values[column][~known]).all()
        assert (after.event_ns <= after.known_ns).all()


# --- warm-up --------------------------------------------------------------------------------------


def warm(name: str, history: int, **parameters: Any) -> PortfolioStamp:
    panel = panel_of(11, 90, 3, 0.0)
    plan = plan_of(name, **parameters)
    return audit_portfolio_warmup(plan, panel, EVENTS, start_count=6, history_bars=history)


def test_a_trend_is_warm_after_its_slow_average():
    """The slow average of 5 bars has 4 before its own."""
    assert warm("trend_baseline", 4, fast=2, slow=5, volume_filter="none").verdict is Verdict.CLEAN
    stamp = warm("trend_baseline", 1, fast=2, slow=5, volume_filter="none")
    assert stamp.verdict is Verdict.DECISIONS_DIFFER
    assert {each.bars_loaded for each in stamp.findings} == {1}
    assert max(each.bars_needed or 0 for each in stamp.findings) == 4


def test_what_looks_at_every_bar_there_is_does_not_settle():
    stamp = warm("trend_baseline", 20, fast=2, slow=5, volume_filter="expanding_mean")
    assert not stamp.is_passed


def test_a_late_start_that_fails_is_found():
    stamp = warm("crashing", 5)
    assert stamp.findings[0].stage == "run"
    assert not stamp.is_passed


def test_history_that_leaves_nothing_is_refused():
    with pytest.raises(NotEnoughBarsError, match="nothing is left"):
        warm("tomorrow", 89)


# --- the commands ---------------------------------------------------------------------------------


def command(folder: Path, audit: str, *options: str, **parameters: Any) -> int:
    strategy = {"name": "trend_baseline", "parameters": {"fast": 3, "slow": 8, **parameters}}
    write_panel(folder, bars=80)
    path = write_config(folder, strategy=strategy)
    return main.run(["audit", audit, str(path), *options])


def test_the_commands_end_as_the_stamp_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "stamp.json"
    assert command(tmp_path, "lookahead", "--bars", "3", "--json", "--out", str(out)) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(out.read_text())
    assert (document["format"], document["is_passed"]) == (PORTFOLIO_STAMP_FORMAT, True)
    assert set(document["dataset_digests"]) == {"panel"}
    assert command(tmp_path, "lookahead", volume_filter="full_sample") == 1
    said = capsys.readouterr().out
    assert "LOOK-AHEAD: decisions depend on later data." in said
    assert "trend_baseline.weight" in said
    assert command(tmp_path, "warmup", "--history", "8", "--starts", "3") == 0
    assert command(tmp_path, "warmup", "--history", "2", "--starts", "9") == 1
    assert "NOT WARM" in capsys.readouterr().out


def test_what_does_not_fit_a_portfolio_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert command(tmp_path, "lookahead", "--symbol", "EURUSD", "--json") == 2
    assert "--symbol say" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert main.run(["audit", "warmup", "--history", "3"]) == 2
