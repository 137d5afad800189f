"""The mistakes of the reference (its SPEC's BUG marks): right under `default`, kept by a switch.

docs/equivalence.md lists them all with the test of each; those that had no test of their own are
here. Every expected number can be redone by hand.
"""

import re
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backlane.backtest.engine import run_backtest
from backlane.backtest.observer import SilentObserver
from backlane.backtest.request import parse_request
from backlane.backtest.result import BacktestRun
from backlane.backtest.rules import decision_rules
from backlane.backtest.switches import PROFILES
from backlane.cycle.loop import Outputs, close_out, new_slot, run_until
from backlane.cycle.state import new_state
from backlane.errors import InvalidStrategyError, ModelNotTradableError
from backlane.execution.order import ExitReason
from backlane.features.align import align
from backlane.features.names import feature_names
from backlane.features.rules import Alignment
from backlane.features.strategy_file import parse_strategy
from backlane.fuzzy.membership import fuzzify
from backlane.inference.model_info import BundleDecisions, ModelHead
from tests.builders import (
    HOUR_NS,
    LinearPredictor,
    make_bars,
    make_inputs,
    make_model,
    make_rules,
    random_bars,
)
from tests.golden.vectors import KTRDR, folders, read_json, run_scenario
from tests.shared import needs_shared
from tests.unit.features.strategies import strategy_content

READS = ("SPEC.md",)

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ["ktrdr-head", "ktrdr-m3"]
BUY, HOLD, SELL = 1, 0, -1


def run(profile: str, head: ModelHead = ModelHead.CLASSIFICATION, **fields: Any) -> BacktestRun:
    request = {"model": {"name": "test"}, "symbol": "TEST", "profile": profile} | fields
    predictor = LinearPredictor(make_model(head=head))
    bars = {"1h": random_bars(11, 1500)}
    return run_backtest(parse_request(request), predictor, bars, dataset_digests={})


def simulate(raw: list[int], closes: list[float], opens: list[float], **rules: float) -> Any:
    """A few bars of decisions, with 1 % commission: trades, equity, cash at the end."""
    bars = make_bars(closes, opens=opens)
    inputs, outputs = make_inputs(bars, raw), Outputs.empty(len(bars))
    state, parameters = new_state(0, 1000.0), make_rules(commission_rate=0.01, **rules)
    assert run_until(state, parameters, inputs, outputs, new_slot(), len(bars))
    close_out(state, parameters, inputs, outputs)
    return outputs.trades[0], outputs.equity, float(state[0].cash)


# --- strategies -------------------------------------------------------------------------------


def test_a_base_timeframe_that_is_not_listed_is_refused() -> None:
    content = strategy_content()
    content["training_data"]["timeframes"]["base_timeframe"] = "4h"
    with pytest.raises(InvalidStrategyError, match="base_timeframe"):
        parse_strategy(content)


def test_a_bare_timeframe_is_one_timeframe_and_not_its_letters() -> None:
    content = deepcopy(strategy_content())
    content["nn_inputs"][0]["timeframes"] = "5m"
    names = feature_names(parse_strategy(content).strategy)
    assert names[:2] == ("5m_mood_low", "5m_mood_high")


# --- features ---------------------------------------------------------------------------------


def test_warm_up_is_not_filled_with_later_values() -> None:
    values, rows = np.array([np.nan, np.nan, 7.0]), np.array([0, 1, 2])
    assert np.isnan(align(values, rows, Alignment.KNOWN_AT_CLOSE)).tolist() == [True, True, False]
    assert align(values, rows, Alignment.STAMP_FORWARD_FILL).tolist() == [7.0, 7.0, 7.0]


def test_an_unknown_feature_is_hold_and_never_a_zero() -> None:
    """What the reference trains on is 0.0 in place of NaN, and not what it is run on."""
    found = run("default", switches={"fixed_warmup_bars": 3})
    assert np.isnan(found.features.values[:4]).any(axis=1).all()
    assert (found.decision[:4] == HOLD).all()


def test_each_shape_has_one_value_at_its_corners() -> None:
    """The reference has two ways to compute a degree, which differ there."""
    for corner, parameters in ((10.0, (0, 10, 10)), (0.0, (0, 0, 10))):
        assert fuzzify(np.array([corner]), "triangular", parameters, trapezoid_edge=True) == 1.0
        assert fuzzify(np.array([corner]), "triangular", parameters, trapezoid_edge=False) == 1.0


@needs_shared
def test_the_figures_that_the_specification_gives_for_the_right_alignment_are_ours() -> None:
    """SPEC §3.3: with it, h12 has 181 trades in place of 192, and 619 of 5,950 decisions change."""
    found = [path for path in folders("scenarios", "scenario.json") if path.name == "h12_mtf1h"]
    if not found:
        pytest.skip("this set of vectors has no scenario h12_mtf1h, which the figures are of")
    config = read_json(found[0] / "scenario.json")
    theirs = run_scenario(config)
    ours = run_scenario(config, switches={"alignment": "known_at_close"})
    assert (len(theirs.trades), len(ours.trades)) == (192, 181)
    assert int((theirs.decision != ours.decision).sum()) == 619


# --- decisions --------------------------------------------------------------------------------


def test_the_decisions_of_the_bundle_count_but_at_m3() -> None:
    own = BundleDecisions(confidence_threshold=0.9, min_signal_separation_hours=7.0)
    info = replace(make_model(), decisions=own)
    request = parse_request({"model": {"name": "test"}, "symbol": "TEST"})
    for profile, expected in (("default", 0.9), ("ktrdr-head", 0.9), ("ktrdr-m3", 0.5)):
        rules = decision_rules(request, info, PROFILES[profile])
        assert rules.confidence_threshold == expected


def test_a_regime_model_trades_under_the_rules_of_the_reference_alone() -> None:
    with pytest.raises(ModelNotTradableError, match="regime"):
        run("default", ModelHead.REGIME)
    assert len(run("ktrdr-head", ModelHead.REGIME).trades) > 0


# --- account ----------------------------------------------------------------------------------


def test_a_trade_carries_both_commissions() -> None:
    opens = [100.0, 100.0, 110.0]
    # 1000 x 0.25 / 1.01 / 100 = 2 units; entry 2, exit 2.2 of commission; 20 gross
    ours, _, cash = simulate([BUY, SELL, HOLD], opens, opens)
    theirs, _, same_cash = simulate([BUY, SELL, HOLD], opens, opens, exit_leg_costs=1)
    assert cash == same_cash == pytest.approx(1000 + 20 - 2 - 2.2, rel=1e-12)
    assert ours["net_pnl"] == pytest.approx(cash - 1000, rel=1e-12)
    assert theirs["net_pnl"] == pytest.approx(20 - 2.2, rel=1e-12)


def test_the_equity_of_a_short_has_paid_its_commission() -> None:
    opens = [100.0, 100.0, 100.0]
    # 2 units: 2 of commission are gone at once; the price does not move
    _, ours, _ = simulate([SELL, HOLD, HOLD], opens, opens)
    _, theirs, _ = simulate([SELL, HOLD, HOLD], opens, opens, short_equity_with_commission=1)
    assert ours[1] == pytest.approx(998.0, rel=1e-12)
    assert theirs[1] == pytest.approx(1000.0, rel=1e-12)


def test_a_trade_is_held_from_its_entry_to_its_exit() -> None:
    """SPEC §9: entry 01:00, exit 06:00 is recorded as 4 hours there; it is 5."""
    raw, flat = [BUY, HOLD, HOLD, HOLD, HOLD, SELL, HOLD], [100.0] * 7
    ours, *_ = simulate(raw, flat, flat)
    theirs, *_ = simulate(raw, flat, flat, holding_until_last_mark=1)
    assert (ours["holding_end_ns"] - ours["entry_time_ns"]) / HOUR_NS == 5
    assert (theirs["holding_end_ns"] - theirs["entry_time_ns"]) / HOUR_NS == 4


def test_the_forced_close_is_inside_the_curve_and_the_return() -> None:
    for profile in ("default", *REFERENCE):
        whole = run(profile)
        held = int(np.flatnonzero(whole.position[:-1])[-1])  # a bar that ends with a position
        end = str(np.datetime64(int(whole.bars.open_time_ns[held]), "ns"))
        found = run(profile, end=f"{end[:19]}Z")
        assert found.trades["exit_reason"][-1] == ExitReason.END_OF_DATA
        gained = found.final_cash - found.request.initial_cash
        is_inside = found.metric("total_return") == pytest.approx(gained, rel=1e-12)
        assert is_inside is (profile == "default"), profile


def test_a_share_of_winners_is_known_while_the_run_is_on() -> None:
    """SPEC §12: there it is 0 in every update; here the trades themselves are told."""

    class Listening(SilentObserver):
        def __init__(self) -> None:
            self.net_pnl: list[float] = []

        def simulated(self, index: int, time_ns: int, equity: float, trades: Any) -> None:
            self.net_pnl += trades["net_pnl"].tolist()

    listening = Listening()
    request = parse_request({"model": {"name": "test"}, "symbol": "TEST"})
    found = run_backtest(
        request, LinearPredictor(make_model()), {"1h": random_bars(11, 1500)},
        dataset_digests={}, observer=listening,
    )  # fmt: skip
    assert listening.net_pnl == found.trades["net_pnl"].tolist()
    assert 0 < np.mean(np.array(listening.net_pnl) > 0) < 1


# --- the table ----------------------------------------------------------------------------------

ROW = re.compile(r"^\| (\d+) \| §([0-9.]+) \| .* \|$", re.MULTILINE)
TEST_ID = re.compile(r"`((?:tests|services)/[\w/]+\.py)::(\w+)`")


def rows_of_the_table() -> list[str]:
    text = (ROOT / "docs" / "equivalence.md").read_text()
    section = text.split("## Mistakes of the reference")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if ROW.match(line)]


def test_every_mistake_in_the_table_has_a_test_that_exists_or_a_reason() -> None:
    rows = rows_of_the_table()
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        found = TEST_ID.findall(row)
        assert found or "does not arise" in row, row
        for file, name in found:
            source = (ROOT / file).read_text()
            assert re.search(rf"def {name}\(", source), f"{file}::{name}"


@needs_shared
def test_the_table_has_a_row_for_every_mark_of_the_specification() -> None:
    spec = KTRDR / "SPEC.md"
    if not spec.is_file():
        pytest.skip(f"this set of vectors has no specification: {spec}")
    marked: Counter[str] = Counter()
    section = ""
    for line in spec.read_text().splitlines():
        heading = re.match(r"#+ (\d+(?:\.\d+)?)\.? ", line)
        section = heading[1] if heading else section
        if not line.startswith("Marks used below"):
            marked[section] += line.count("**BUG")
    listed = Counter(ROW.match(row)[2] for row in rows_of_the_table())
    assert listed == +marked
