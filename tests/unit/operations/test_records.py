"""A record with a change is a new record, and the old one stays as it is."""

import dataclasses

import pytest

from backlane.operations.lease import Instant
from backlane.operations.operation import Operation, Payload, State
from backlane.operations.records import replace

OPERATION = Operation("operations/1", "uid", "kind", State.QUEUED, Payload("type", b"x"), 1)


def test_it_does_what_that_of_the_standard_library_does() -> None:
    changes = {"state": State.RUNNING, "attempt": 2, "labels": {"a": "b"}, "is_deleted": True}
    assert replace(OPERATION, **changes) == dataclasses.replace(OPERATION, **changes)
    assert replace(OPERATION) == OPERATION
    assert OPERATION.attempt == 0


def test_it_works_on_any_record() -> None:
    assert replace(Instant(1, 2.0), monotonic_s=3.0) == Instant(1, 3.0)


def test_a_field_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError, match="no_such_field"):
        replace(OPERATION, no_such_field=1)
