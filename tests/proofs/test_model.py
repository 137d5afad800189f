"""The core under every interleaving (SERVICES.md 4.4, L0), and the mutants that prove the proof.

`make prove` searches with three messages under way, the suite with two.
"""

import os
import sys
import time
from collections.abc import Iterator

import pytest

from backlane.operations import transitions
from tests.proofs.laws import ViolationError
from tests.proofs.mutants import MUTANTS
from tests.proofs.search import Found, Search
from tests.proofs.world import World

IS_WHOLE = "PROVE_WHOLE" in os.environ
"""Whether `make prove` asks for the whole search."""
SITUATIONS = {2: 130_529, 3: 410_129}
"""What the search saw when it was written: fewer means that it has lost sight of something."""


@pytest.fixture(autouse=True)
def _few_releases() -> Iterator[None]:
    """One free release instead of a hundred: both branches, and a bounded search."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transitions, "RELEASES_MAX", 1)
        yield


def tell(line: str) -> None:
    """Says a figure to whoever runs pytest with -s."""
    sys.stdout.write(f"\n{line}")


def prove(in_flight_max: int, max_attempts: int = 3) -> tuple[Found, Found]:
    world = World(max_attempts)
    found = Search(world, in_flight_max).run()
    return found, Search(world, min(in_flight_max, 2)).run(world.resumptions())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_law_holds_under_every_interleaving() -> None:
    in_flight_max = 3 if IS_WHOLE else 2
    began_s = time.monotonic()
    found, resumed = prove(in_flight_max)
    tell(f"{in_flight_max} under way: {found}; after a resume: {resumed}")
    tell(f"{time.monotonic() - began_s:.1f} s")
    assert found.situations >= SITUATIONS[in_flight_max]
    assert found.ended > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_hidden_by_leaving_zombies_out() -> None:
    """The same operations are reached with all that is believed and under way kept as without."""
    reached = []
    for keeps_zombies in (False, True):
        world = World(max_attempts=2 if IS_WHOLE else 1)
        found = Search(world, 1, keeps_zombies=keeps_zombies).run()
        tell(f"zombies kept {keeps_zombies}: {found}")
        reached.append(set(world.known))
    assert reached[0] == reached[1]


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_the_search_finds_the_mutant(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    with pytest.raises((ViolationError, transitions.IllegalTransitionError)) as raised:
        prove(in_flight_max=1)
    tell(f"{name}: {raised.value}")


def test_there_are_enough_mutants() -> None:
    assert len(MUTANTS) >= 12
