"""The registry on a simulated clock, network and disk (SERVICES.md 4.4, L1).

In the suite a few seeds; `make prove STEPS=2000000` for as many as it takes. A seed that fails
prints its problems, and `Episode(seed).run()` repeats it to the last step.
"""

import os
import sys
import time

import pytest

from tests.proofs.episodes import EPISODE_STEPS, Episode

STEPS = int(os.environ.get("PROVE_STEPS", "60000"))


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_nothing_is_lost_doubled_or_out_of_order() -> None:
    steps = seed = events = deliveries = acknowledged = crashes = reconnects = 0
    began_s = time.process_time()
    while steps < STEPS:
        outcome = Episode(seed).run()
        assert outcome.problems == 0, (seed, outcome.told)
        assert outcome.events > EPISODE_STEPS / 50, f"seed {seed}: too little happened"
        steps += outcome.steps
        events += outcome.events
        deliveries += outcome.deliveries
        acknowledged += outcome.acknowledged
        crashes += outcome.crashes
        reconnects += outcome.reconnects
        seed += 1
    rate = steps / (time.process_time() - began_s)
    sys.stdout.write(
        f"\nseeds 0 to {seed - 1}: {steps} steps at {rate:.0f} steps/s/core; {events} events, "
        f"{deliveries} deliveries, {acknowledged} acknowledged writes, {crashes} crashes of the "
        f"registry, {reconnects} reconnects; nothing lost, doubled or out of order"
    )
    assert crashes > 0
    assert reconnects > 0


def test_the_same_seed_is_the_same_run() -> None:
    """Two runs of a seed leave the same trace to the last byte; another seed another one."""
    first, second, other = (Episode(seed).run(5_000) for seed in (7, 7, 8))
    assert first == second
    assert first.digest != other.digest
