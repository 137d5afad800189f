"""Both stores keep the promises of the OperationStore port."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from backlane.clock import ManualClock
from backlane.testing.contracts.operation_attempts import OperationAttemptsContract
from backlane.testing.contracts.operation_keeping import OperationKeepingContract
from backlane.testing.contracts.operation_store import OpenStore, OperationStoreContract
from tests.contract.stores import fresh_schema, postgres_store, sqlite_store


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000_000_000_000)


class OnSqlite:
    @pytest.fixture
    def open_store(self, tmp_path: Path, clock: ManualClock) -> OpenStore:
        return partial(sqlite_store, tmp_path / "data" / "operations.sqlite", clock)


class OnPostgres:
    @pytest.fixture
    def open_store(self, clock: ManualClock) -> Iterator[OpenStore]:
        with fresh_schema() as url:
            yield partial(postgres_store, url, clock)


class TestSqliteOperationStore(OnSqlite, OperationStoreContract):
    pass


class TestSqliteAttempts(OnSqlite, OperationAttemptsContract):
    pass


class TestSqliteKeeping(OnSqlite, OperationKeepingContract):
    pass


class TestPostgresOperationStore(OnPostgres, OperationStoreContract):
    pass


class TestPostgresAttempts(OnPostgres, OperationAttemptsContract):
    pass


class TestPostgresKeeping(OnPostgres, OperationKeepingContract):
    pass
