"""Replay at a pace, the spread of mode stress, and what the mode sections refuse."""

from typing import Any

import pytest

from backlane.backtest.mode_config import ReplayConfig
from backlane.backtest.portfolio_run import parse_portfolio_config, run_portfolio
from backlane.backtest.portfolio_session import PortfolioSession
from backlane.backtest.replay import replayed
from backlane.backtest.session_bars import rows_of, setup_of
from backlane.clock import ManualClock
from backlane.errors import InvalidRequestError
from tests.portfolios import config_of
from tests.property.portfolio_panels import panel_of

WEEK_S = 7 * 86_400


class Sleeper:
    """Sleeps on a clock that stands still by itself, and notes when it was woken."""

    def __init__(self) -> None:
        self.clock, self.slept_s = ManualClock(), list[float]()

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.clock.advance(seconds)


def times_of(pace: dict[str, float], bars: int = 8, work_s: float = 0.0) -> list[float]:
    """When each report of a replay came, seconds after its start; each takes `work_s` to read."""
    panel, sleeper = panel_of(1, bars, 2, 0.0), Sleeper()
    session = PortfolioSession(setup_of(config_of(), panel, {}))
    config, found = ReplayConfig(**pace), []
    for _ in replayed(session, rows_of(panel, {}), config, sleeper.clock, sleeper.sleep):
        found.append(sleeper.clock.monotonic_s())
        sleeper.clock.advance(work_s)
    return found


def test_bars_come_at_their_pace() -> None:
    assert times_of({}) == [0.0] * 8
    assert times_of({"bars_per_second": 4}) == [at / 4 for at in range(8)]
    # The panel is daily: a week of it in a minute is a day in 60 / 7 s.
    expected = [60 / 7 * at for at in range(8)]
    assert times_of({"realtime_factor": WEEK_S / 60}) == pytest.approx(expected, rel=1e-12)


def test_a_slow_reader_delays_nothing_after_it() -> None:
    assert times_of({"bars_per_second": 2}, work_s=0.25) == [at / 2 for at in range(8)]
    assert times_of({"bars_per_second": 2}, work_s=1.0) == [float(at) for at in range(8)]


def test_the_spread_is_widened_and_nothing_else() -> None:
    """Of 2.5 bps half-spread times 3, at the same fills: three times as much is paid for it."""
    panel = panel_of(2, 60, 3, 0.0)
    plain = run_portfolio(parse_portfolio_config(config_of(compounding=False)), panel, {})
    changes: dict[str, Any] = {"mode": "stress", "stress": {"spread_multiplier": 3}}
    config = parse_portfolio_config(config_of(compounding=False, **changes))
    wide = run_portfolio(config, panel, {})
    assert wide.fills["quantity"].tolist() == plain.fills["quantity"].tolist()
    for one, other, factor in zip(plain.cost_parts(), wide.cost_parts(), (1, 3, 1), strict=True):
        assert other == pytest.approx(one * factor, rel=1e-12)


def test_stress_is_for_its_mode_alone() -> None:
    panel = panel_of(2, 40, 3, 0.0)
    stress = {"shock": {"probability": 0.2, "size": 0.3}}
    plain = run_portfolio(parse_portfolio_config(config_of()), panel, {})
    kept = run_portfolio(parse_portfolio_config(config_of(stress=stress)), panel, {})
    assert kept.equity.tobytes() == plain.equity.tobytes()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"mode": "live"}, "mode"),
        ({"mode": "stress"}, "config"),
        ({"replay": {"bars_per_second": 2, "realtime_factor": 3}}, "replay"),
        ({"replay": {"bars_per_second": -1}}, "replay.bars_per_second"),
        ({"stress": {"shock": {"probability": 0.1}}}, "stress.shock.size"),
        ({"stress": {"shock": {"probability": 2, "size": 0.1}}}, "stress.shock.probability"),
        ({"stress": {"gap": {"probability": 0.1, "size": 1}}}, "stress.gap.size"),
        ({"stress": {"missing": {"probability": 0.1, "bars": 0}}}, "stress.missing.bars"),
        ({"stress": {"spread_multiplier": 0.5}}, "stress.spread_multiplier"),
        ({"stress": {"seeds": 1}}, "stress.seeds"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_mistakes_are_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_portfolio_config(config_of(**changes))
    assert [each.field for each in refused.value.violations] == [field]
