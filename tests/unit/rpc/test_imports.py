"""The garbage collector and what a process imports."""

import gc

import pytest

from backlane.rpc.imports import kept_for_good


@pytest.fixture(autouse=True)
def thaw():
    """Gives back to the collector what a case has set aside."""
    yield
    gc.unfreeze()


def test_the_collector_rests_meanwhile_and_never_looks_at_it_again():
    before = gc.get_freeze_count()
    with kept_for_good():
        assert not gc.isenabled()
        made = [[] for _ in range(1_000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(made)


def test_the_collector_works_on_after_an_import_that_fails():
    with pytest.raises(ImportError), kept_for_good():
        raise ImportError
    assert gc.isenabled()
