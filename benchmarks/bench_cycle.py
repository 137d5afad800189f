"""The compiled loop, against copying the arrays that it reads: the machine's limit."""

import numpy as np

from backlane.cycle.loop import Inputs, Outputs, new_slot, run_until
from backlane.cycle.state import new_rules, new_state
from backlane.decisions.decision import DecisionReason
from benchmarks.timing import Row, paired_medians

BARS = 1_000_000


def make_inputs(seed: int = 1) -> Inputs:
    """A million one-minute bars of a random walk, with a fifth of them decided."""
    rng = np.random.default_rng(seed)
    close = 1.1 * np.exp(np.cumsum(rng.normal(0, 1e-4, BARS)))
    open_ = np.concatenate((close[:1], close[:-1]))
    return Inputs(
        np.arange(BARS, dtype=np.int64) * 60 * 10**9,
        open_,
        np.maximum(open_, close) * 1.0001,
        np.minimum(open_, close) * 0.9999,
        close,
        rng.choice(np.array([-1, 0, 1], dtype=np.int8), BARS, p=[0.1, 0.8, 0.1]),
        rng.uniform(0.3, 1.0, BARS),
        np.full(BARS, DecisionReason.MODEL_HOLD, dtype=np.int8),
        np.full(BARS, 0.25),
    )


def run() -> list[Row]:
    """Returns the loop with everything on, and the copy."""
    inputs = make_inputs()
    rules = new_rules()
    values = {
        "confidence_threshold": 0.5,
        "min_separation_hours": 0.5,
        "position_awareness": 1,
        "allow_short_from_flat": 1,
        "shorts": 1,
        "commission_rate": 1e-5,
        "slippage_rate": 1e-5,
        "extreme_excursions": 1,
    }
    for name, value in values.items():
        rules[name] = value
    outputs = Outputs.empty(BARS, record_count=1 << 17)

    def loop() -> None:
        run_until(new_state(0, 1e5), rules, inputs, outputs, new_slot(), BARS)

    def copy() -> None:
        for name in ("time_ns", "open", "high", "low", "close"):
            getattr(inputs, name).copy()

    found = paired_medians({"loop": loop, "copy": copy}, BARS)
    return [
        Row(
            "loop, everything on, 1M bars",
            found["loop"],
            "array copy",
            found["loop"] / found["copy"],
        ),
        Row("copying the five arrays (limit)", found["copy"]),
    ]
