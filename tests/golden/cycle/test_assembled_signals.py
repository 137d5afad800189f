"""Features, factors, strategies and weights of SPEC part B, against the recorded vectors.

Deliberate deviations from the reference (SPEC part C), each told at its test: no mode ignores
disclosures (Q10), forward-looking factors have other names (Q8), equal scores flag nobody
("flags"), a weight is a share of the capital and not money taken for units (Q5).

rtol 1e-9 is the vectors' own for signals and features: their windows keep running sums, ours are
computed afresh, which rounds differently. atol 1e-12 covers differences of nearly equal numbers.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from backlane.panel.events import Events
from backlane.panel.panel import Panel
from backlane.signals import factors as core
from backlane.signals import multifactor, rebalance, technical
from backlane.signals.event_insider_shipping import (
    EventParameters,
    LegRule,
    combine_legs,
    event_insider_shipping,
    insider_windows,
    shipping_mean,
)
from backlane.signals.event_windows import (
    DAY_NS,
    EventTime,
    distinct_events,
    event_windows,
)
from backlane.signals.market_regime import (
    Exposure,
    MarketRegime,
    fraction_above_mean,
    regime_exposure,
    regime_state,
)
from backlane.signals.meta_model import (
    LogisticModel,
    LogisticTerm,
    filter_signals,
    scale_signals,
)
from backlane.signals.signal import Direction, Signals
from backlane.signals.target_weights import long_short_weights, long_weights
from backlane.signals.trend_baseline import TrendParameters, VolumeFilter, trend_baseline
from backlane.sources.event_files import read_events
from tests.golden.cycle.assembled import ASSEMBLED, load_panel, needs_assembled

pytestmark = needs_assembled
VECTORS = ASSEMBLED
RTOL = 1e-9
ATOL = 1e-12
FORWARD = {name.removeprefix("forward_"): factor for name, factor in core.FORWARD_FACTORS.items()}
"""The reference calls its forward-looking factors by the names of the trailing ones (SPEC Q8)."""
TRAILING = {
    f"ref_{name}_trailing": core.FACTORS[name] for name in ("returns_12m", "momentum_12m_excl_1m")
}


@pytest.fixture(scope="module")
def panel() -> Panel:
    return load_panel()


@pytest.fixture(scope="module")
def computed(panel: Panel) -> dict[str, np.ndarray]:
    """Every factor under the name that the vectors give it."""
    named = {**core.FACTORS, **FORWARD, **TRAILING}
    return {name: factor(panel) for name, factor in named.items()}


@pytest.fixture(scope="module")
def insider(panel: Panel) -> Events:
    return read_events(VECTORS / "events_insider.csv", "insider", panel.symbols)


@pytest.fixture(scope="module")
def shipping(panel: Panel) -> Events:
    return read_events(VECTORS / "events_shipping.csv", "shipping", panel.symbols)


def table(name: str) -> pd.DataFrame:
    return pd.read_parquet(VECTORS / name)


def read_json(name: str):
    return json.loads((VECTORS / name).read_text())


def stamps(times: pd.Series) -> np.ndarray:
    return times.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[ns]").astype("i8")


def grid(rows: pd.DataFrame, column: str, symbols: tuple[str, ...]) -> np.ndarray:
    wide = rows.pivot(index="timestamp", columns="symbol", values=column)
    return wide[list(symbols)].to_numpy()


def directions(rows: pd.DataFrame, column: str, symbols: tuple[str, ...]) -> np.ndarray:
    names = grid(rows, column, symbols)
    return np.vectorize(lambda name: int(Direction[name]))(names)


def same(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(
        np.asarray(actual, float), np.asarray(expected, float), RTOL, ATOL, equal_nan=True
    )


def undisclosed(events: Events) -> Events:
    """The events as if each were disclosed when it happened, which the reference assumes (Q10)."""
    order = np.argsort(events.event_ns, kind="stable")
    values = {name: column[order] for name, column in events.values.items()}
    at = events.event_ns[order]
    return Events(events.symbols, events.symbol_index[order], at, at, values)


def test_technical_features(panel: Panel):
    rows = table("features_ta.parquet")
    for column in rows.columns.drop(["timestamp", "symbol"]):
        kind, _, period = column.rpartition("_")
        actual = {
            "ma": technical.simple_mean,
            "atr": technical.average_true_range,
            "rsi": technical.relative_strength,
        }.get(kind)
        made = actual(panel, int(period)) if actual else technical.log_return(panel)
        same(made, grid(rows, column, panel.symbols))


def test_factors(panel: Panel, computed: dict[str, np.ndarray]):
    rows = table("factors.parquet")
    columns = rows.columns.drop(["timestamp", "symbol"])
    assert set(columns) <= set(computed)
    for column in columns:
        same(computed[column], grid(rows, column, panel.symbols))


def test_no_forward_factor_is_found_among_the_factors():
    assert not set(core.FORWARD_FACTORS) & set(core.FACTORS)


def trend_variants() -> dict[str, TrendParameters]:
    params = read_json("trend_signals_summary.json")["params"]
    main = {"fast_period": params["fast"], "slow_period": params["slow"]}
    other = {"fast_period": params["alt_fast"], "slow_period": params["alt_slow"]}
    fixed = {
        "volume_filter": VolumeFilter.FIXED,
        "volume_threshold": float(params["fixed_threshold"]),
    }
    return {
        "asis": TrendParameters(**main, volume_filter=VolumeFilter.FULL_SAMPLE),
        "novol": TrendParameters(**main, volume_filter=VolumeFilter.NONE),
        "fixedvol": TrendParameters(**main, **fixed),
        "alt_novol": TrendParameters(**other, volume_filter=VolumeFilter.NONE),
        "pitvol_ref": TrendParameters(**main, volume_filter=VolumeFilter.EXPANDING_MEAN),
    }


@pytest.mark.parametrize("variant", ["asis", "novol", "fixedvol", "alt_novol", "pitvol_ref"])
def test_trend_signals(panel: Panel, variant: str):
    rows = table("trend_signals.parquet")
    signals = trend_baseline(panel, trend_variants()[variant])
    expected = directions(rows, f"dir_{variant}", panel.symbols)
    np.testing.assert_array_equal(signals.direction, expected)
    same(signals.score, grid(rows, f"score_{variant}", panel.symbols))
    summary = read_json("trend_signals_summary.json")[variant]
    assert int((signals.direction == Direction.LONG).sum()) == summary["long"]
    assert signals.score.sum() == pytest.approx(summary["score_sum"], rel=RTOL)


def test_trend_targets_in_shares(panel: Panel):
    """The weights are those of the as-is signals, sized as units of the close (SPEC Q5, Q9)."""
    rows = table("trend_targets_shares.parquet")
    weights = long_weights(trend_baseline(panel, trend_variants()["asis"]))
    at = np.searchsorted(panel.time_ns, stamps(rows.timestamp))
    column = np.searchsorted(panel.symbols, rows.symbol.to_numpy(str))
    expected = np.zeros(weights.shape)
    expected[at, column] = rows.target_weight
    same(weights, expected)
    capital = read_json("_params.json")["config"]["capital"]
    units = weights[at, column] * capital / panel.close[at, column]
    same(units, rows.target_qty.to_numpy())


@pytest.mark.parametrize("days", [20, 60])
def test_insider_features(panel: Panel, insider: Events, days: int):
    rows = table("event_features_signals.parquet")
    windows = insider_windows(panel, insider, days)
    same(windows.total, grid(rows, f"insider_net_buy_{days}d", panel.symbols))
    expected = grid(rows, f"insider_trade_count_{days}d", panel.symbols)
    np.testing.assert_array_equal(windows.count, expected)


def test_shipping_features(panel: Panel, shipping: Events):
    """ref_ is as disclosed. The others ignore disclosure: no mode of ours does, the events do."""
    rows = table("event_features_signals.parquet")
    expected = grid(rows, "ref_shipping_congestion_7d_pit", panel.symbols)
    same(shipping_mean(panel, shipping), expected)
    leaked = undisclosed(shipping)
    for column, source, days in (
        ("shipping_congestion_score_7d", "congestion_score", 7),
        ("shipping_ships_count_7d", "ships", 7),
        ("shipping_congestion_score", "congestion_score", 1),
        ("shipping_ships_count", "ships", 1),
    ):
        made = shipping_mean(panel, leaked, source, days)
        same(made, grid(rows, column, panel.symbols))


def event_parameters(**changes) -> EventParameters:
    limits = read_json("_params.json")["config"]["ins"]
    return EventParameters(
        insider_buy_threshold=limits["insider_net_buy_threshold"],
        insider_sell_threshold=limits["insider_net_sell_threshold"],
        congestion_low_threshold=limits["shipping_congestion_low_threshold"],
        congestion_high_threshold=limits["shipping_congestion_high_threshold"],
        **changes,
    )


def test_event_signals_with_both_legs_as_disclosed(panel: Panel, insider: Events, shipping: Events):
    rows = table("event_features_signals.parquet")
    signals = event_insider_shipping(panel, insider, shipping, event_parameters())
    expected = directions(rows, "ref_direction_and_rule_pit", panel.symbols)
    np.testing.assert_array_equal(signals.direction, expected)


@pytest.mark.parametrize(("suffix", "weights"), [("asis", (1.0, 1.0)), ("w04_07", (0.4, 0.7))])
def test_event_signals_with_weighted_legs(
    panel: Panel, insider: Events, shipping: Events, suffix: str, weights: tuple[float, float]
):
    rows = table("event_features_signals.parquet")
    parameters = event_parameters(
        rule=LegRule.WEIGHTED, insider_weight=weights[0], shipping_weight=weights[1]
    )
    net_shares = insider_windows(panel, insider, parameters.insider_days).total
    signals = combine_legs(net_shares, shipping_mean(panel, undisclosed(shipping)), parameters)
    expected = directions(rows, f"direction_{suffix}", panel.symbols)
    np.testing.assert_array_equal(signals.direction, expected)
    same(signals.score, grid(rows, f"score_{suffix}", panel.symbols))


def test_derived_disclosure(panel: Panel, tmp_path: Path):
    """Without disclosures in the file, trades of insiders count as known two days after."""
    rows = table("insider_features_derived_disclosure.parquet")
    path = tmp_path / "insider.csv"
    file = pd.read_csv(VECTORS / "events_insider.csv").drop(columns="disclosure_date")
    file.to_csv(path, index=False)
    events = read_events(path, "insider", panel.symbols)
    symbols = tuple(sorted(rows.symbol.unique()))
    places = [panel.symbols.index(symbol) for symbol in symbols]
    for days in (20, 60):
        windows = insider_windows(panel, events, days)
        same(windows.total[:, places], grid(rows, f"insider_net_buy_{days}d", symbols))
        expected = grid(rows, f"insider_trade_count_{days}d", symbols)
        np.testing.assert_array_equal(windows.count[:, places], expected)


def test_event_panel_as_of(panel: Panel, insider: Events):
    """Rows after as_of see only what was known at it."""
    rows = table("event_panel_pit.parquet")
    symbols = tuple(sorted(rows.symbol.unique()))
    places = [panel.symbols.index(symbol) for symbol in symbols]
    for as_of, part in rows.groupby("as_of"):
        known = distinct_events(insider.until(as_of.value))
        windows = event_windows(
            known, "net_shares", panel.time_ns, panel.known_ns, 30 * DAY_NS, EventTime.DISCLOSED
        )
        expected = grid(part, "event_count_30d", symbols)
        np.testing.assert_array_equal(windows.count[:, places], expected)
        same(windows.total[:, places], grid(part, "event_sum_30d", symbols))
        same(windows.mean()[:, places], grid(part, "event_mean_30d", symbols))


def test_disclosure_count(panel: Panel, insider: Events):
    rows = table("disclosure_count.parquet")
    symbols = tuple(sorted(rows.symbol.unique()))
    places = [panel.symbols.index(symbol) for symbol in symbols]
    known = distinct_events(insider)
    windows = event_windows(
        known, "net_shares", panel.time_ns, panel.known_ns, 30 * DAY_NS, EventTime.DISCLOSED
    )
    expected = grid(rows, "alt_disclosure_count_30d_v1", symbols)
    np.testing.assert_array_equal(windows.count[:, places], expected)


BUNDLES = ["asis", "trailing"]


def read_bundle(name: str) -> multifactor.FactorBundle:
    """Reads a bundle as the reference did: with limits of the whole sample (SPEC Q12)."""
    content = yaml.safe_load((VECTORS / f"bundle_{name}.yaml").read_text())
    factors = tuple(
        multifactor.WeightedFactor(each["name"], each["weight"], each["direction"] == "negative")
        for each in content["factors"]
    )
    options = content["options"]
    winsorizing = multifactor.Winsorizing.NONE
    if options["winsorize"]:
        winsorizing = multifactor.Winsorizing.FULL_SAMPLE
    limits = tuple(options["winsorize_limits"])
    return multifactor.FactorBundle(factors, winsorizing, limits, options["zscore"])


def scores_of(name: str, panel: Panel, computed: dict[str, np.ndarray]):
    return multifactor.factor_scores(read_bundle(name), computed, np.isfinite(panel.close))


@pytest.mark.parametrize("name", BUNDLES)
def test_multifactor_scores(panel: Panel, computed: dict[str, np.ndarray], name: str):
    rows = table("mf_scores.parquet")
    scores = scores_of(name, panel, computed)
    same(scores.score, grid(rows, f"{name}__mf_score", panel.symbols))
    for factor, values in scores.standardized.items():
        expected = grid(rows, f"{name}__{factor}_z", panel.symbols)
        same(values, expected)


@pytest.mark.parametrize("name", BUNDLES)
def test_multifactor_flags(panel: Panel, computed: dict[str, np.ndarray], name: str):
    """Where the reference flags both ways (equal scores), we flag neither (SPEC C2, "flags")."""
    rows = table("mf_scores.parquet")
    config = read_json("_params.json")["config"]
    score = scores_of(name, panel, computed).score
    made = multifactor.long_short_flags(score, config["topq"], config["botq"])
    is_long = grid(rows, f"{name}__mf_long_flag", panel.symbols)
    is_short = grid(rows, f"{name}__mf_short_flag", panel.symbols)
    np.testing.assert_array_equal(made, is_long - is_short)


@pytest.mark.parametrize("frequency", ["M", "W"])
@pytest.mark.parametrize("name", BUNDLES)
def test_multifactor_weights(
    panel: Panel, computed: dict[str, np.ndarray], name: str, frequency: str
):
    """By the calendar's days, as recorded; rows flagged both ways cancel out, ours are none."""
    rows = pd.read_csv(VECTORS / f"mf_signals_{name}_{frequency}.csv", parse_dates=["timestamp"])
    config = read_json("_params.json")["config"]
    score = scores_of(name, panel, computed).score
    direction = multifactor.long_short_flags(score, config["topq"], config["botq"])
    is_decided = rebalance.rebalance_bars(
        panel.time_ns, rebalance.Rebalance(frequency), rebalance.RebalanceRule.CALENDAR_DAY
    )
    days = np.unique(stamps(rows.timestamp))
    np.testing.assert_array_equal(panel.time_ns[is_decided], days)
    flat = np.full(len(panel), 1.0)
    weights = long_short_weights(direction, config["gross"] * flat, 0.0 * flat)[is_decided]
    net = rows.pivot_table(
        index="timestamp", columns="symbol", values="target_weight", aggfunc="sum", fill_value=0.0
    ).reindex(columns=list(panel.symbols), fill_value=0.0)
    same(weights, net.to_numpy())
    once = rows[~rows.duplicated(["timestamp", "symbol"], keep=False)]
    at = np.searchsorted(panel.time_ns, stamps(once.timestamp))
    column = np.searchsorted(panel.symbols, once.symbol.to_numpy(str))
    expected = [int(Direction[text]) for text in once.direction]
    np.testing.assert_array_equal(direction[at, column], expected)
    same(score[at, column], once.score.to_numpy())


def test_rebalance_calendar(panel: Panel):
    recorded = read_json("mf_metrics.json")["rebalance_calendar"]
    first = rebalance.rebalance_bars(panel.time_ns, rebalance.Rebalance.MONTHLY)
    days = panel.time_ns[first].astype("datetime64[ns]").astype("datetime64[D]").astype(str)
    assert days.tolist() == recorded["reference_first_session_of_month"]
    upstream = rebalance.rebalance_bars(
        panel.time_ns, rebalance.Rebalance.MONTHLY, rebalance.RebalanceRule.CALENDAR_DAY
    )
    assert int(upstream.sum()) == recorded["upstream_month_rule_days"]


def test_regime_state(panel: Panel, computed: dict[str, np.ndarray]):
    rows = pd.read_csv(VECTORS / "regime_state.csv")
    state = regime_state(
        fraction_above_mean(panel), computed["trend_strength_200"], computed["rv_20"]
    )
    assert list(state.label) == rows.regime_label.tolist()
    same(state.trend_score, rows.regime_trend_score.to_numpy())
    same(state.macro_score, rows.regime_macro_score.to_numpy())
    same(state.risk_score, rows.regime_risk_score.to_numpy())
    same(state.confidence, rows.regime_confidence.to_numpy())
    same(state.fraction_above_mean, rows.fraction_above_ma_50.to_numpy())


def test_regime_overlay():
    recorded = read_json("mf_regime_overlay.json")
    exposures = {
        MarketRegime(label): Exposure(**limits) for label, limits in recorded["risk_map"].items()
    }
    otherwise = Exposure(recorded["default_gross"], 0.0)
    labels = [MarketRegime(label) for label in recorded["targets"]]
    gross, net = regime_exposure(labels, exposures, otherwise)
    signals = recorded["signals"]
    row = np.array([int(Direction[each["direction"]]) for each in signals], np.int8)
    weights = long_short_weights(np.tile(row, (len(labels), 1)), gross, net)
    for made, targets in zip(weights, recorded["targets"].values(), strict=True):
        by_symbol = {each["symbol"]: each["target_weight"] for each in targets}
        same(made, [by_symbol[each["symbol"]] for each in signals])


@pytest.fixture(scope="module")
def meta(panel: Panel) -> tuple[Signals, np.ndarray, float]:
    """Trend signals, what the recorded formula says of them, and the least confidence."""
    recorded = read_json("meta_model.json")
    rsi, change, span = recorded["coef"]
    model = LogisticModel(
        recorded["intercept"],
        (
            LogisticTerm("rsi_14", rsi, 50.0, 25.0),
            LogisticTerm("log_return", change, 0.0, 1.0 / 40.0),
            LogisticTerm("atr_14", span, 3.0, 6.0),
        ),
    )
    features = {
        "rsi_14": technical.relative_strength(panel, 14),
        "log_return": technical.log_return(panel),
        "atr_14": technical.average_true_range(panel, 14),
    }
    signals = trend_baseline(panel, trend_variants()["fixedvol"])
    return signals, model.confidence(features), recorded["min_confidence"]


def test_meta_model_filters(panel: Panel, meta: tuple[Signals, np.ndarray, float]):
    rows = table("meta_filter_signals.parquet")
    recorded = read_json("meta_model.json")
    signals, confidence, least = meta
    same(confidence, grid(rows, "meta_confidence", panel.symbols))
    kept = filter_signals(signals, confidence, least)
    np.testing.assert_array_equal(kept.direction, directions(rows, "direction", panel.symbols))
    same(kept.score, grid(rows, "score", panel.symbols))
    assert int((signals.direction == Direction.LONG).sum()) == recorded["long_before"]
    assert int((kept.direction == Direction.LONG).sum()) == recorded["long_after_filter"]


def test_meta_model_scales(panel: Panel, meta: tuple[Signals, np.ndarray, float]):
    """The recorded signals were filtered first, and then scaled."""
    rows = table("meta_scaling_signals.parquet")
    signals, confidence, least = meta
    scaled = scale_signals(filter_signals(signals, confidence, least), confidence)
    np.testing.assert_array_equal(scaled.direction, directions(rows, "direction", panel.symbols))
    same(scaled.score, grid(rows, "final_score", panel.symbols))


def test_position_sizing():
    for case in read_json("position_sizing.json"):
        signals = case["signals"]
        made = long_weights(
            Signals(
                np.array([[int(Direction[each["direction"]]) for each in signals]], np.int8),
                np.array([[each["score"] for each in signals]], float),
            ),
            top_n=case["top_n"],
            equal=case["equal_weight"],
        )[0]
        expected = {each["symbol"]: each for each in case["targets"]}
        wanted = {each["symbol"]: w for each, w in zip(signals, made, strict=True) if w != 0.0}
        assert set(wanted) == set(expected), case
        for symbol, weight in wanted.items():
            assert weight == pytest.approx(expected[symbol]["target_weight"], rel=RTOL)
            units = weight * case["capital"]  # upstream counts money here, not units (SPEC Q5)
            assert units == pytest.approx(expected[symbol]["target_qty"], rel=RTOL)
