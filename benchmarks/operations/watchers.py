"""Many watchers of one server: how late the last one hears of an event, and what each one costs.

The watchers use the generated stubs, so that the one process that plays them all is not what is
measured, and look into what they received when all is over. They share 20 connections.
"""

import asyncio
import gc
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc

from backlane.api.operations.v1 import operations_service_pb2 as pb
from backlane.client.workers import AsyncWorkerClient
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
SETTLE_S, LEAK_SETTLE_S = 2.0, 0.5
FILLING_RUNS, FILLING_EVENTS = 64, 130
"""Their events fill the newest part of the log, which a server keeps in memory (8,192 events)."""

AT_ONCE = 50
"""Streams that are opened and cancelled side by side."""

LEAK_PARTS = 20
"""After each of which the memory is looked at."""


_WATCH = "/backlane.api.operations.v1.OperationsService/WatchOperations"
_decoded = pb.WatchOperationsResponse.FromString


class Watcher:
    """One open watch; keeps what it received, and when."""

    def __init__(self, channel: grpc.aio.Channel, name: str) -> None:
        watch: Any = channel.unary_stream(
            _WATCH, request_serializer=pb.WatchOperationsRequest.SerializeToString
        )
        self._call = watch(pb.WatchOperationsRequest(names=[name]))
        self._received: list[tuple[int, bytes]] = []

    async def begin(self) -> None:
        """Reads to the end of the snapshot."""
        while _decoded(await self._call.read()).phase != pb.WatchOperationsResponse.PHASE_SYNCED:
            pass

    async def follow(self) -> None:
        """Reads until it is cancelled."""
        while (message := await self._call.read()) is not grpc.aio.EOF:
            self._received.append((time.time_ns(), message))

    def late_s(self) -> list[float]:
        """Returns how late each event of a point was, in the order of arrival."""
        return [
            (received_ns - event.event_time.ToNanoseconds()) / 1e9
            for received_ns, message in self._received
            for event in _decoded(message).events
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
        await _fill(process.address, worker)
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
    late = [watcher.late_s() for watcher in watchers]
    counts = set(map(len, late))
    if counts != {round(duration_s * EVENTS_PER_S)}:
        raise RuntimeError(f"watchers received {sorted(counts)} events each")
    what = "one operation" if operations == 1 else f"{operations} operations"
    late_s = list(itertools.chain.from_iterable(late))
    return [
        *spread(f"1,000 watchers of {what} x 2 events/s", late_s, (None, 100)),
        Figure("of it, memory of the server for each", each_bytes / 1024, "KiB", 32),
    ]


async def _fill(address: str, worker: AsyncWorkerClient) -> None:
    """Has the server allocate what it allocates once, which is not the watchers'."""

    async def report(run: Run) -> None:
        for _ in range(FILLING_EVENTS):
            await run.report()

    await asyncio.gather(*map(report, await begin_runs(address, worker, FILLING_RUNS)))


async def _produce(run: Run, phase: float, duration_s: float) -> None:
    begun_s = time.monotonic()
    for number in range(round(duration_s * EVENTS_PER_S)):
        due_s = begun_s + (number + phase) / EVENTS_PER_S
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        await run.report()


def leak(*, is_quick: bool) -> list[Figure]:
    """Memory that a server keeps of streams that their clients cancelled.

    What is resident goes up and down by 2 MB from one look to the next, which is 100 bytes for each
    of 20,000 streams. So it is looked at after each of many parts, and what counts is the slope of
    the line through them.
    """
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
        streams, resident = [0], [resident_bytes(process)]
        begun_s = time.monotonic()
        while streams[-1] < count:
            await _open_and_cancel(channel, run.name, count // LEAK_PARTS)
            streams.append(streams[-1] + count // LEAK_PARTS)
            resident.append(resident_bytes(process))
        taken_s = time.monotonic() - begun_s
    each_bytes, _ = statistics.linear_regression(streams, resident)
    note = (
        f"{count:,} streams after {count // 2:,} to warm up, {count / taken_s:,.0f}/s; "
        f"resident {min(resident) / 2**20:.1f} to {max(resident) / 2**20:.1f} MiB"
    )
    return [Figure("memory leaked by each cancelled stream", each_bytes, "bytes", 64, note=note)]


async def _open_and_cancel(channel: grpc.aio.Channel, name: str, count: int) -> None:
    async def some(number: int) -> None:
        for _ in range(number):
            watcher = Watcher(channel, name)
            await watcher.begin()
            watcher.close()

    await asyncio.gather(*(some(count // AT_ONCE) for _ in range(AT_ONCE)))
    await asyncio.sleep(LEAK_SETTLE_S)
