"""Small storms, as tests: `make chaos` has the large ones."""

import random

import psycopg
import pytest

from tests.chaos.__main__ import POSTGRES, as_json
from tests.chaos.stand import postgres_schema
from tests.chaos.storm import Outcome, Plan, storm

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(400)]


def plan() -> Plan:
    return Plan(random.SystemRandom().randrange(1 << 31), 20, 8, storm_s_max=45)


def check(outcome: Outcome) -> None:
    figures = as_json(outcome)
    assert not outcome.problems, f"{figures}\n{outcome.logs[-20_000:]}"
    if not outcome.is_conclusive:
        pytest.skip(f"inconclusive: {figures}")


def test_a_storm_on_sqlite() -> None:
    check(storm(plan(), None))


def test_a_storm_on_two_replicas_and_postgresql() -> None:
    try:
        with postgres_schema(POSTGRES) as url:
            check(storm(plan(), url))
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL at {POSTGRES}: {error}")
