"""The stores under test: each on a file, or in a PostgreSQL schema, of its own."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from backlane.clock import Clock
from backlane.testing.operations import TERMS
from operations_service.postgres_store import PostgresOperationStore
from operations_service.store import SqliteOperationStore

POSTGRES = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test")


@asynccontextmanager
async def sqlite_store(path: Path, clock: Clock, **options: Any) -> AsyncIterator[Any]:
    store = SqliteOperationStore(path, clock, TERMS, **options)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


@asynccontextmanager
async def postgres_store(url: sa.URL, clock: Clock, **options: Any) -> AsyncIterator[Any]:
    store = PostgresOperationStore(url, clock, TERMS, **options)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


@contextmanager
def fresh_schema() -> Iterator[sa.URL]:
    """Makes a schema, yields the URL of a store in it, and drops it; skips without a server."""
    try:
        admin = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL at {POSTGRES}: {error}")
    name = f"test_{uuid.uuid4().hex[:16]}"
    with admin:
        admin.execute(f"CREATE SCHEMA {name}")
        url = sa.engine.make_url(POSTGRES)
        yield url.update_query_dict({"options": f"-csearch_path={name}"})
        admin.execute(f"DROP SCHEMA {name} CASCADE")
