"""The law of resuming: cut anywhere, written and read back, a run ends in the same bits."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backlane.backtest.checkpoint import Binding, Checkpoint, decode, encode
from backlane.backtest.checkpointing import checkpoint_of, restore
from backlane.backtest.engine import run_backtest
from backlane.backtest.observer import SilentObserver
from backlane.backtest.prepare import Prepared, prepare
from backlane.backtest.request import BacktestRequest, parse_request
from backlane.backtest.result import BacktestRun
from backlane.cycle.loop import Outputs, Slot, new_slot, run_until
from backlane.cycle.state import new_state
from backlane.errors import CancelledRunError, CheckpointForeignError
from backlane.inference.predictor import Predictor
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.sources.files import read_bars
from tests.builders import LinearPredictor, make_model, random_bars
from tests.bundle_maker import BundleMaker
from tests.shared import KTRDR, needs_shared
from tests.unit.audit.runs import MTF_STRATEGY, coarser

BINDING = Binding("00" * 32, "sha256:model", {"1h": "sha256:x"}, {"backlane": "1"})
BAR_COUNT, CUT_COUNT = 2_500, 20
BARS = random_bars(11, BAR_COUNT)
EXITS = {
    "exits": {
        "stop_loss": 0.003,
        "take_profit": 0.004,
        "trailing_stop": 0.005,
        "max_holding_bars": 9,
    },
    "costs": {"spread_rate": 0.0002, "borrow_rate": 0.1, "overnight_rate_long": 0.05},
    "margin": {"leverage": 3},
    "decisions": {"allow_short_from_flat": True, "filters": {"min_signal_separation": 2}},
}
REQUESTS: dict[str, dict[str, object]] = {
    "default": {},
    "ktrdr-head": {"profile": "ktrdr-head"},
    "ktrdr-m3": {"profile": "ktrdr-m3", "switches": {"nan_features": "hold"}},
    "exits": EXITS,
    "sizing": {"sizing": {"target_volatility": 0.2}, "switches": {"fill": "this_close"}},
    "separated": {"decisions": {"filters": {"min_signal_separation": 24}}},
}


@dataclass(frozen=True)
class Case:
    request: BacktestRequest
    predictor: Predictor
    bars: Mapping[str, BarSeries] = field(default_factory=lambda: {"1h": BARS})

    def run(self, **options: object) -> BacktestRun:
        return run_backtest(self.request, self.predictor, self.bars, dataset_digests={}, **options)

    def prepared(self) -> Prepared:
        return prepare(self.request, self.predictor, self.bars, SilentObserver(), new_slot())


def ask(**fields: object) -> BacktestRequest:
    return parse_request({"model": {"name": "test"}, "symbol": "TEST"} | fields)


def sequence_case(folder: Path) -> Case:
    maker = BundleMaker(architecture="lstm", hidden_size=4, sequence_length=6, seed=1)
    weights = {
        name: 4 * values for name, values in maker.weights().items()
    }  # else it never decides
    predictor = load_predictor(read_bundle(maker.write(folder / "lstm" / "1", weights)))
    filters = {"min_signal_separation": 0}
    decisions = {"confidence_threshold": 0, "allow_short_from_flat": True, "filters": filters}
    request = ask(decisions=decisions)
    return Case(request, predictor)


def mtf_case() -> Case:
    fine = random_bars(5, BAR_COUNT, timeframe="15m")
    predictor = LinearPredictor(make_model(MTF_STRATEGY))
    return Case(ask(timeframe="15m", **EXITS), predictor, {"15m": fine, "1h": coarser(fine, "1h")})


@pytest.fixture(scope="module", params=[*REQUESTS, "mtf", "lstm"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    if request.param == "mtf":
        return mtf_case()
    if request.param == "lstm":
        return sequence_case(tmp_path_factory.mktemp("models"))
    return Case(ask(**REQUESTS[request.param]), LinearPredictor(make_model()))


def reread(checkpoint: Checkpoint) -> Checkpoint:
    return decode(b"".join(encode(checkpoint, BINDING)), BINDING)


def cut_at(prepared: Prepared, stops: list[int], cash: float) -> Checkpoint:
    """Simulates to each stop in turn, every time from a checkpoint of the one before."""
    first, bar_count = prepared.first_index, len(prepared.window.base)
    state, outputs = new_state(first, cash), Outputs.empty(bar_count)
    for stop in stops:
        run_until(state, prepared.rules, prepared.inputs, outputs, new_slot(), stop)
        checkpoint = reread(checkpoint_of(prepared.raw_scores, first, state, outputs))
        assert checkpoint.progress is not None
        state, outputs = restore(checkpoint, checkpoint.progress, first, bar_count)
    return checkpoint


class Recorder(SilentObserver):
    def __init__(self) -> None:
        self.told: list[tuple[int, int, float, bytes]] = []

    def simulated(
        self, bar_index: int, time_ns: int, equity: float, trades: NDArray[np.void]
    ) -> None:
        self.told.append((bar_index, time_ns, equity, trades.tobytes()))


def test_a_run_that_was_cut_ends_in_the_same_bits_and_tells_the_same(case: Case) -> None:
    recorder = Recorder()
    whole, prepared = case.run(observer=recorder), case.prepared()
    assert len(whole.trades) > 10
    first, cash = prepared.first_index, case.request.initial_cash
    for cut in np.random.default_rng(1).integers(first, len(prepared.window.base), CUT_COUNT):
        again = Recorder()
        resume = cut_at(prepared, [int(cut)], cash)
        resumed = case.run(resume=resume, observer=again)
        assert resumed.provenance == whole.provenance
        assert resumed.metrics == whole.metrics
        assert resumed.funnel == whole.funnel
        assert again.told == recorder.told


def test_a_run_that_was_cut_again_and_again_ends_in_the_same_bits(case: Case) -> None:
    whole, prepared = case.run(), case.prepared()
    rng = np.random.default_rng(2)
    stops = sorted(rng.integers(prepared.first_index, len(prepared.window.base), 9).tolist())
    resume = cut_at(prepared, stops, case.request.initial_cash)
    # Where the reference counts from zero again after a resume, bars keep their numbers.
    assert resume.simulated_bars == stops[-1] - prepared.first_index
    assert case.run(resume=resume).provenance == whole.provenance


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    fields=st.sampled_from([*REQUESTS.values()]),
    bar_count=st.integers(60, 300),
    cuts=st.lists(st.floats(0, 1), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_any_cut_of_any_run(
    fields: dict[str, object], bar_count: int, cuts: list[float], seed: int
) -> None:
    case = Case(
        ask(**fields), LinearPredictor(make_model(), seed), {"1h": random_bars(seed, bar_count)}
    )
    prepared = case.prepared()
    first = prepared.first_index
    stops = [first + round(cut * (bar_count - first)) for cut in sorted(cuts)]
    resume = cut_at(prepared, stops, case.request.initial_cash)
    assert case.run(resume=resume).provenance == case.run().provenance


class Taker:
    """Takes a checkpoint whenever it may, and asks for the end at a given one."""

    def __init__(self, slot: NDArray[np.float64] | None = None, cancel_at: int = -1) -> None:
        self.taken: list[Checkpoint] = []
        self.final: list[Checkpoint] = []
        self._slot, self._cancel_at = slot, cancel_at

    def is_due(self, simulated_bars: int) -> bool:
        return True

    def take(self, checkpoint: Checkpoint, *, is_final: bool = False) -> None:
        (self.final if is_final else self.taken).append(reread(checkpoint))
        if self._slot is not None and len(self.taken) == self._cancel_at:
            self._slot[Slot.CANCEL] = 1


def test_each_checkpoint_on_the_way_leads_to_the_same_end(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backlane.backtest.checkpointing.BLOCK_ROWS", 700)
    monkeypatch.setattr("backlane.backtest.checkpointing.SEQUENCE_BLOCK_ROWS", 700)
    whole, taker = case.run(), Taker()
    assert case.run(checkpoints=taker).provenance == whole.provenance
    half_scored = [one for one in taker.taken if one.progress is None]
    assert [len(one.scores) for one in half_scored][:3] == [700, 1400, 2100]
    assert len(taker.taken) > len(half_scored) > 0
    assert not taker.final
    for checkpoint in taker.taken:
        assert case.run(resume=checkpoint).provenance == whole.provenance
        again = case.run(resume=checkpoint, checkpoints=Taker())
        assert again.provenance == whole.provenance


@pytest.mark.parametrize("cancel_at", [1, 3, 4, 5])
def test_a_cancelled_run_leaves_what_it_has_done(
    case: Case, monkeypatch: pytest.MonkeyPatch, cancel_at: int
) -> None:
    monkeypatch.setattr("backlane.backtest.checkpointing.BLOCK_ROWS", 900)
    monkeypatch.setattr("backlane.backtest.checkpointing.SEQUENCE_BLOCK_ROWS", 900)
    slot = new_slot()
    taker = Taker(slot, cancel_at)
    with pytest.raises(CancelledRunError):
        case.run(checkpoints=taker, slot=slot)
    (final,) = taker.final
    assert final.simulated_bars >= taker.taken[-1].simulated_bars
    assert len(final.scores) >= len(taker.taken[-1].scores)
    assert case.run(resume=final).provenance == case.run().provenance


def test_a_run_over_other_bars_does_not_go_on_from_it() -> None:
    case = Case(ask(), LinearPredictor(make_model()))
    resume = cut_at(case.prepared(), [1_000], 10_000)
    shorter = replace(case, bars={"1h": BARS.rows(0, 2_000)})
    with pytest.raises(CheckpointForeignError, match="number of bars"):
        shorter.run(resume=resume)
    later = replace(case, request=ask(switches={"fixed_warmup_bars": 50}))
    with pytest.raises(CheckpointForeignError, match="first simulated bar"):
        later.run(resume=resume)


# --- what the reference loses, one by one (SPEC 12) --------------------------------------------


def forget(name: str, value: float) -> Callable[[Checkpoint], Checkpoint]:
    def change(checkpoint: Checkpoint) -> Checkpoint:
        assert checkpoint.progress is not None
        state = checkpoint.progress.state.copy()
        assert state[name][0] != value, f"nothing to forget in {name} here"
        state[name] = value
        return replace(checkpoint, progress=replace(checkpoint.progress, state=state))

    return change


Condition = Callable[[NDArray[np.void], np.void], bool]


def cut_where(case: Case, trades: NDArray[np.void], condition: Condition) -> Checkpoint:
    """The first checkpoint after bar 300 at which state and the trade to be are as asked."""
    prepared = case.prepared()
    for stop in range(300, 2_000):
        checkpoint = cut_at(prepared, [stop], case.request.initial_cash)
        assert checkpoint.progress is not None
        state = checkpoint.progress.state
        if condition(state, trades[state["trade_count"][0]]):
            return checkpoint
    raise AssertionError("no such bar")


@pytest.mark.parametrize(
    ("fields", "condition", "forgotten"),
    [
        (EXITS, lambda s, _: s["pending"][0] != 0 and s["side"][0] == 0, forget("pending", 0)),
        (
            {"decisions": {"filters": {"min_signal_separation": 400}}},
            lambda s, _: s["has_filled"][0] == 1,
            forget("has_filled", 0),
        ),
        ({}, lambda s, trade: trade["mae"] == s["mae"][0] < 0, forget("mae", 0.0)),
        ({}, lambda s, trade: trade["mfe"] == s["mfe"][0] > 0, forget("mfe", 0.0)),
        (
            {"profile": "ktrdr-head"},
            lambda s, _: s["side"][0] != 0 and s["pending"][0] == -s["side"][0],
            forget("last_mark_ns", 0),
        ),
        (
            EXITS,
            lambda s, _: s["side"][0] != 0 and s["best_price"][0] > 0,
            forget("entry_index", 0),
        ),
    ],
    ids=["pending order", "last fill time", "mae", "mfe", "last mark", "entry bar"],
)
def test_what_the_reference_forgets_matters_and_is_kept(
    fields: dict[str, object],
    condition: Condition,
    forgotten: Callable[[Checkpoint], Checkpoint],
) -> None:
    case = Case(ask(**fields), LinearPredictor(make_model()))
    whole = case.run()
    checkpoint = cut_where(case, whole.trades, condition)
    assert case.run(resume=checkpoint).provenance == whole.provenance
    without = case.run(resume=forgotten(checkpoint))
    assert without.provenance.result_digest != whole.provenance.result_digest


@needs_shared
def test_where_the_reference_resumes_to_other_figures_we_do_not() -> None:
    """Three resumes of the reference: one gives other trades, none the same metrics (SPEC 12)."""
    recorded = json.loads((KTRDR / "runtime" / "checkpoint_resume.json").read_text())
    config, uninterrupted = recorded["config"], recorded["uninterrupted"]
    bundle = read_bundle(next((KTRDR / "bundles" / config["bundle"]).iterdir()))
    decisions = config["decisions"]
    request = parse_request(
        {
            "model": {"path": config["bundle"]},
            "symbol": "EURUSD",
            "start": config["range"][0],
            "end": config["range"][1],
            "initial_cash": config["initial_capital"],
            "commission_rate": config["commission"],
            "slippage_rate": config["slippage"],
            "profile": "ktrdr-head",
            "decisions": {
                key: decisions[key]
                for key in (
                    "confidence_threshold",
                    "position_awareness",
                    "allow_short_from_flat",
                    "filters",
                )
            },
        }
    )
    bars = read_bars(KTRDR / "data" / "EURUSD_1h.csv", "EURUSD", Timeframe.parse("1h")).series
    case = Case(request, load_predictor(bundle), {"1h": bars})
    prepared = case.prepared()
    for resume in recorded["resumes"]:
        assert resume["result"]["metrics"] != uninterrupted["metrics"]  # the mistake
        cut = prepared.first_index + resume["state"]["bar_index"] + 1
        checkpoint = cut_at(prepared, [cut], request.initial_cash)
        assert checkpoint.progress is not None
        # Bar and cash of the reference's own state; the cash within rounding (SPEC 18).
        assert abs(checkpoint.progress.state["cash"][0] - resume["state"]["cash"]) <= 1e-6
        assert len(checkpoint.progress.trades) == len(resume["state"]["trades"])
        run = case.run(resume=checkpoint)
        assert run.provenance == case.run().provenance
        assert len(run.trades) == uninterrupted["n_trades"]
        expected = [trade["net_pnl"] for trade in uninterrupted["trades"]]
        np.testing.assert_allclose(run.trades["net_pnl"], expected, rtol=0, atol=1e-6)
        assert abs(run.final_cash - uninterrupted["final_cash"]) <= 1e-6
        for metric, value in uninterrupted["metrics"].items():
            if value is not None and metric in {one.id for one in run.metrics}:
                assert run.metric(metric) == pytest.approx(value, rel=1e-7), metric
