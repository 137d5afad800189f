"""Small storms, as tests: `make chaos` has the large ones.

One with too little traffic for a verdict is tried again once, with the next seed; then it fails.
"""

from collections.abc import Callable

import psycopg
import pytest

from tests.chaos.__main__ import POSTGRES, as_json
from tests.chaos.stand import postgres_schema
from tests.chaos.storm import Outcome, Plan, storm

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(900)]

SEEDS = (5, 6)


def check(run: Callable[[Plan], Outcome]) -> None:
    for seed in SEEDS:
        outcome = run(Plan(seed, 20, 8, storm_s_max=60))
        assert not outcome.problems, f"{as_json(outcome)}\n{outcome.logs[-20_000:]}"
        if outcome.is_conclusive:
            return
    pytest.fail(f"inconclusive twice: {outcome.shortfalls}\n{as_json(outcome)}")


def test_a_storm_on_sqlite() -> None:
    check(lambda plan: storm(plan, None))


def on_postgresql(plan: Plan) -> Outcome:
    with postgres_schema(POSTGRES) as url:
        return storm(plan, url)


def test_a_storm_on_two_replicas_and_postgresql() -> None:
    try:
        check(on_postgresql)
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL at {POSTGRES}: {error}")
