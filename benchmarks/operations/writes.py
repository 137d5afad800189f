"""Durable acknowledged writes each second: one SQLite file with full sync, and PostgreSQL.

A write is one call of AppendTelemetry with one event, answered when it is on the disk. Through
gRPC it is sent by a process of its own, which uses the generated stub: what the SDK adds to a call
is not the registry's, and client and server share the machine. Through the store it is made by
tasks in this process, which is the store's own limit.
"""

import asyncio
import itertools
import multiprocessing
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from backlane.api.operations.v1.worker_service_pb2_grpc import WorkerServiceStub
from backlane.clock import SystemClock
from backlane.operations.commands import Claim, NewOperation, TelemetryBatch
from backlane.operations.events import MetricPoint
from backlane.operations.operation import Operation
from backlane.operations.store import OperationStore
from backlane.rpc.channel import aio_channel
from benchmarks.operations.figures import Figure, percentile
from benchmarks.operations.registry import KIND, SPEC, begin_runs, new_worker, registry
from operations_service.settings import OperationsServiceSettings
from operations_service.stores import open_store

POSTGRES = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test")
PROCESSES, TASKS = 1, 128
TARGET_PER_S = 3_000
READY_S = 60.0


def run(*, is_quick: bool) -> list[Figure]:
    """Through gRPC and through the store, on each database that is there."""
    duration_s = 3.0 if is_quick else 10.0
    figures = _on("one SQLite file, full sync", "", TARGET_PER_S, duration_s)
    with _postgres_schema() as url:
        if url:
            figures += _on("PostgreSQL", url, None, duration_s)
    return figures


def _on(where: str, url: str, target: float | None, duration_s: float) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        settings = {"STORE_URL": url} if url else {}
        with registry(Path(folder), **settings) as process:
            taken = _through_grpc(process.address, duration_s)
        through_grpc = _figure(f"writes to {where}, gRPC", taken, target, duration_s, PROCESSES)
        file = Path(folder) / "store" / "operations.sqlite"
        own = OperationsServiceSettings(store_url=url or f"sqlite:///{file}")
        taken = asyncio.run(_through_store(open_store(own, SystemClock()), duration_s))
        return [through_grpc, _figure(f"writes to {where}, store", taken, target, duration_s, 1)]


def _figure(
    name: str, taken_s: list[float], target: float | None, duration_s: float, processes: int
) -> Figure:
    waited = (
        f"p50 {percentile(taken_s, 50) * 1e3:.1f} ms, p99 {percentile(taken_s, 99) * 1e3:.1f} ms"
    )
    note = f"{processes} x {TASKS} callers, {waited} each"
    return Figure(name, len(taken_s) / duration_s, "/s", target, is_floor=True, note=note)


def _through_grpc(address: str, duration_s: float) -> list[float]:
    spawning = multiprocessing.get_context("spawn")
    # All begin when the last one is ready: the time to start a process is not that of a write.
    ready = spawning.Barrier(PROCESSES)
    with ProcessPoolExecutor(
        PROCESSES, mp_context=spawning, initializer=_share, initargs=(ready,)
    ) as pool:
        asked = [pool.submit(_client, address, duration_s) for _ in range(PROCESSES)]
        return list(itertools.chain.from_iterable(each.result() for each in asked))


_shared: list[Barrier] = []


def _share(ready: Barrier) -> None:
    _shared.append(ready)


def _client(address: str, duration_s: float) -> list[float]:
    return asyncio.run(_write_through_grpc(address, duration_s))


async def _write_through_grpc(address: str, duration_s: float) -> list[float]:
    taken_s: list[float] = []
    async with new_worker(address) as worker, aio_channel(address) as channel:
        runs = await begin_runs(address, worker, TASKS)
        stub: Any = WorkerServiceStub(channel)
        await asyncio.to_thread(_shared[0].wait, READY_S)
        ends_s = time.monotonic() + duration_s

        async def write(number: int) -> None:
            while (begun_s := time.monotonic()) < ends_s:
                await stub.AppendTelemetry(runs[number].next_request())
                taken_s.append(time.monotonic() - begun_s)

        await asyncio.gather(*(write(number) for number in range(TASKS)))
    return taken_s


async def _through_store(store: OperationStore, duration_s: float) -> list[float]:
    await store.start()
    try:
        held = [await _held(store) for _ in range(TASKS)]
        taken_s: list[float] = []
        ends_s = time.monotonic() + duration_s

        async def write(operation: Operation) -> None:
            for number in itertools.count(1):
                if (begun_s := time.monotonic()) >= ends_s:
                    return
                points = (MetricPoint("equity", number, 1.0),)
                batch = TelemetryBatch(number, points=points)
                await store.append(operation.name, operation.epoch, batch)
                taken_s.append(time.monotonic() - begun_s)

        await asyncio.gather(*(write(operation) for operation in held))
    finally:
        await store.stop()
    return taken_s


async def _held(store: OperationStore) -> Operation:
    await store.create(NewOperation(str(uuid.uuid4()), KIND, SPEC))
    held = await store.claim(Claim(str(uuid.uuid4()), "bench", (KIND,)))
    if held is None:
        raise RuntimeError("nothing to take")
    return held


@contextmanager
def _postgres_schema() -> Iterator[str]:
    """Yields the URL of a schema of its own; the empty text where there is no server."""
    try:
        admin = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError:
        yield ""
        return
    name = f"bench_{uuid.uuid4().hex[:16]}"
    with admin:
        admin.execute(f"CREATE SCHEMA {name}")
        try:
            url = sa.engine.make_url(POSTGRES)
            url = url.update_query_dict({"options": f"-csearch_path={name}"})
            yield url.render_as_string(hide_password=False)
        finally:
            admin.execute(f"DROP SCHEMA {name} CASCADE")
