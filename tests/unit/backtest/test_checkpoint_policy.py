"""When a checkpoint is due."""

import json

from backlane.backtest.checkpoint_policy import (
    COST_FACTOR,
    CheckpointPolicy,
    CheckpointSchedule,
)
from tests.shared import KTRDR, needs_shared


def asked(schedule: CheckpointSchedule, now_s: float, bars: int) -> bool:
    is_due = schedule.is_due(now_s, bars)
    if is_due:
        schedule.taken(now_s, bars)
    return is_due


def test_time_counts_from_the_start() -> None:
    schedule = CheckpointSchedule(CheckpointPolicy(30, 1_000), now_s=100.0)
    assert not asked(schedule, 129.9, 10)
    assert asked(schedule, 130.0, 11)
    assert not asked(schedule, 159.9, 12)
    assert asked(schedule, 160.0, 13)


def test_bars_count_from_the_bar_where_the_attempt_began() -> None:
    schedule = CheckpointSchedule(CheckpointPolicy(30, 1_000), now_s=0.0, simulated_bars=5_000)
    assert not asked(schedule, 1.0, 5_999)
    assert asked(schedule, 1.0, 6_000)
    assert not asked(schedule, 1.0, 6_999)
    assert asked(schedule, 1.0, 7_000)


def test_one_that_takes_long_to_write_makes_room_for_the_run() -> None:
    schedule = CheckpointSchedule(CheckpointPolicy(30, 1_000), now_s=0.0)
    assert asked(schedule, 1.0, 1_000)
    schedule.written(3.0, cost_s=2.0)
    assert not asked(schedule, 3.0 + 2 * COST_FACTOR - 0.1, 900_000)
    assert asked(schedule, 3.0 + 2 * COST_FACTOR, 900_001)


@needs_shared
def test_the_reference_but_for_its_mistake() -> None:
    """ktrdr counts time only from its first checkpoint on (SPEC 13.5, a mistake); then as we do."""
    recorded = json.loads((KTRDR / "runtime" / "checkpoint_policy.json").read_text())
    policy = CheckpointPolicy(recorded["time_interval_seconds"], recorded["unit_interval"])
    rows = recorded["sequence"]
    first = next(index for index, row in enumerate(rows) if row["should_checkpoint"])
    schedule = CheckpointSchedule(policy, rows[first]["clock"], rows[first]["unit"])
    for row in rows[first + 1 :]:
        assert asked(schedule, row["clock"], row["unit"]) == row["should_checkpoint"], row

    whole = CheckpointSchedule(policy, rows[0]["clock"])
    assert not rows[1]["should_checkpoint"]
    assert rows[1]["clock"] - rows[0]["clock"] >= recorded["time_interval_seconds"]
    assert asked(whole, rows[1]["clock"], rows[1]["unit"])
