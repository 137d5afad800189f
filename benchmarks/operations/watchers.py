"""Many watchers of one server: how late the last one hears of an event, and what each one costs.

The watchers use the generated stubs, so that the one process that plays them all is not what is
measured. They share 20 connections.
"""

import asyncio
import gc
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc

from backlane.api.operations.v1 import operations_service_pb2 as pb
from backlane.api.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from backlane.rpc.channel import aio_channel
from backlane.testing.servers import ServiceProcess
from benchmarks.operations.figures import Figure, spread
from benchmarks.operations.registry import (
    Run,
    begin_runs,
    new_worker,
    registry,
    resident_bytes,
)

WATCHERS, CONNECTIONS = 1_000, 20
EVENTS_PER_S = 2.0
SETTLE_S = 2.0
AT_ONCE = 50
"""Streams that are opened and cancelled side by side."""


class Watcher:
    """One open watch; notes how late each event is."""

    def __init__(self, channel: grpc.aio.Channel, name: str) -> None:
        stub: Any = OperationsServiceStub(channel)
        self._call = stub.WatchOperations(pb.WatchOperationsRequest(names=[name]))
        self.late_s: list[float] = []

    async def begin(self) -> None:
        """Reads to the end of the snapshot."""
        while (await self._call.read()).phase != pb.WatchOperationsResponse.PHASE_SYNCED:
            pass

    async def follow(self) -> None:
        """Reads until it is cancelled."""
        while (message := await self._call.read()) is not grpc.aio.EOF:
            now_ns = time.time_ns()
            self.late_s += [
                (now_ns - event.event_time.ToNanoseconds()) / 1e9
                for event in message.events
                if event.HasField("metrics_appended")
            ]

    def close(self) -> None:
        """Cancels it."""
        self._call.cancel()


def thousand(*, is_quick: bool) -> list[Figure]:
    """1,000 watchers x 2 events/s: all of one operation, then 10 each of 100 operations."""
    duration_s = 5.0 if is_quick else 30.0
    figures = []
    for operations in (1, 100):
        with tempfile.TemporaryDirectory() as folder, registry(Path(folder)) as process:
            figures += asyncio.run(_watched(process, operations, duration_s))
    return figures


async def _watched(process: ServiceProcess, operations: int, duration_s: float) -> list[Figure]:
    channels = [aio_channel(process.address, purpose="watch") for _ in range(CONNECTIONS)]
    async with new_worker(process.address) as worker:
        runs = await begin_runs(process.address, worker, operations)
        for _ in range(100):  # what a server allocates once is not the watchers'
            await runs[0].report()
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        await asyncio.sleep(SETTLE_S)
        before = resident_bytes(process)
        watchers = [
            Watcher(channels[index % CONNECTIONS], runs[index % operations].name)
            for index in range(WATCHERS)
        ]
        await asyncio.gather(*(watcher.begin() for watcher in watchers))
        following = [asyncio.create_task(watcher.follow()) for watcher in watchers]
        gc.disable()
        await asyncio.gather(
            *(_produce(run, index / operations, duration_s) for index, run in enumerate(runs))
        )
        await asyncio.sleep(SETTLE_S)
        gc.enable()
        each_bytes = (resident_bytes(process) - before) / WATCHERS
    for watcher in watchers:
        watcher.close()
    await asyncio.gather(*following, return_exceptions=True)
    await asyncio.gather(*(channel.close() for channel in channels))
    counts = {len(watcher.late_s) for watcher in watchers}
    if counts != {round(duration_s * EVENTS_PER_S)}:
        raise RuntimeError(f"watchers received {sorted(counts)} events each")
    what = "one operation" if operations == 1 else f"{operations} operations"
    late_s = [late for watcher in watchers for late in watcher.late_s]
    return [
        *spread(f"1,000 watchers of {what} x 2 events/s", late_s, (None, 100)),
        Figure("of it, memory of the server for each", each_bytes / 1024, "KiB", 32),
    ]


async def _produce(run: Run, phase: float, duration_s: float) -> None:
    begun_s = time.monotonic()
    for number in range(round(duration_s * EVENTS_PER_S)):
        due_s = begun_s + (number + phase) / EVENTS_PER_S
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        await run.report()


def leak(*, is_quick: bool) -> list[Figure]:
    """Memory that a server keeps of streams that their clients cancelled."""
    count = 2_000 if is_quick else 20_000
    with tempfile.TemporaryDirectory() as folder, registry(Path(folder)) as process:
        return asyncio.run(_cancelled(process, count))


async def _cancelled(process: ServiceProcess, count: int) -> list[Figure]:
    async with (
        new_worker(process.address) as worker,
        aio_channel(process.address, purpose="watch") as channel,
    ):
        (run,) = await begin_runs(process.address, worker, 1)
        await _open_and_cancel(channel, run.name, count // 2)  # pools and arenas fill first
        before, begun_s = resident_bytes(process), time.monotonic()
        await _open_and_cancel(channel, run.name, count)
        taken_s = time.monotonic() - begun_s
        each_bytes = (resident_bytes(process) - before) / count
    note = f"{count:,} streams after {count // 2:,} to warm up, {count / taken_s:,.0f}/s"
    return [Figure("memory leaked by each cancelled stream", each_bytes, "bytes", 64, note=note)]


async def _open_and_cancel(channel: grpc.aio.Channel, name: str, count: int) -> None:
    async def some(number: int) -> None:
        for _ in range(number):
            watcher = Watcher(channel, name)
            await watcher.begin()
            watcher.close()

    await asyncio.gather(*(some(count // AT_ONCE) for _ in range(AT_ONCE)))
    await asyncio.sleep(SETTLE_S)
