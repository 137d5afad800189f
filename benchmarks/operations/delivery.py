"""From a commit to the client: undisturbed, under kills, and with a server that hangs.

Producer and watcher are one process beside the server. Each event carries as its value the
monotonic time at which it was asked for, so that the time of its way through request, write, sync
and stream is known; from its commit on it is less.
"""

import asyncio
import os
import signal
import tempfile
import time
from contextlib import aclosing, suppress
from pathlib import Path

from backlane.client.async_operations import AsyncOperationsClient
from backlane.client.operations import OperationsClient, watch_request
from backlane.errors import BacklaneError
from backlane.operations.events import MetricsAppended
from backlane.operations.watching import Phase, WatchMessage
from backlane.testing.servers import ServiceProcess, wait_until_async
from benchmarks.operations.figures import Figure, spread
from benchmarks.operations.registry import KIND, SPEC, Run, begin_runs, new_worker, registry

WARM_UP = 200
SYNCS = 200
PAUSE_S = 0.005
KILL_INTERVAL_S = 1.2
SERVES_S_MIN = 0.2
"""A server that is killed before it has served would deliver nothing at all."""
PATIENCE_S = 60.0


def delivery(*, is_quick: bool) -> list[Figure]:
    """From the event's time, taken just before its commit, to the watcher; and from the request."""
    with tempfile.TemporaryDirectory() as folder, registry(Path(folder)) as process:
        syncs = _syncs(Path(folder) / "sync")
        return asyncio.run(_undisturbed(process.address, 1_000 if is_quick else 5_000, syncs))


def _syncs(file: Path) -> list[float]:
    taken = []
    with file.open("wb", buffering=0) as target:
        for _ in range(SYNCS):
            begun_s = time.monotonic()
            target.write(bytes(4096))
            os.fsync(target.fileno())
            taken.append(time.monotonic() - begun_s)
    return taken


async def _undisturbed(address: str, count: int, syncs: list[float]) -> list[Figure]:
    from_commit: list[float] = []
    from_request: list[float] = []
    async with new_worker(address) as worker, AsyncOperationsClient(address) as client:
        (run,) = await begin_runs(address, worker, 1)
        synced = asyncio.Event()

        async def watch() -> None:
            async with aclosing(client.watch(watch_request(run.name))) as messages:
                async for message in messages:
                    _note(message, from_commit, from_request)
                    if message.phase is Phase.SYNCED:
                        synced.set()
                    if len(from_commit) >= count + WARM_UP:
                        return

        watching = asyncio.create_task(watch())
        await synced.wait()
        for _ in range(count + WARM_UP):
            await run.report(time.monotonic())
            await asyncio.sleep(PAUSE_S)
        await watching
    return [
        *spread("commit to client", from_commit[WARM_UP:], (2, 20), "one event each 5 ms"),
        *spread("of it, a write and fsync of 4 KiB on this disk (anchor)", syncs),
        *spread("the same, from the request that writes it", from_request[WARM_UP:]),
    ]


def _note(message: WatchMessage, from_commit: list[float], from_request: list[float]) -> None:
    now_s, now_ns = time.monotonic(), time.time_ns()
    for event in message.events:
        if isinstance(event.body, MetricsAppended):
            from_commit.append((now_ns - event.time_ns) / 1e9)
            from_request.extend(now_s - point.value for point in event.body.points)


def under_kills(*, is_quick: bool) -> list[Figure]:
    """The longest way of an event while the server is killed, and started, each 1.2 s."""
    with tempfile.TemporaryDirectory() as folder, registry(Path(folder)) as process:
        return asyncio.run(_under_kills(process, 8.0 if is_quick else 20.0))


async def _under_kills(process: ServiceProcess, duration_s: float) -> list[Figure]:
    address = process.address
    from_commit: list[float] = []
    from_request: list[float] = []
    reported = kills = 0
    restarts: list[float] = []
    is_over = asyncio.Event()
    async with new_worker(address) as worker, AsyncOperationsClient(address) as client:
        (run,) = await begin_runs(address, worker, 1)

        synced = asyncio.Event()

        async def watch() -> None:
            async with aclosing(client.watch(watch_request(run.name))) as messages:
                async for message in messages:
                    _note(message, from_commit, from_request)
                    synced.set()

        async def produce() -> None:
            nonlocal reported
            while not is_over.is_set():
                await _insist(run, is_over)
                reported += 1
                await asyncio.sleep(PAUSE_S)

        watching = asyncio.create_task(watch())
        await synced.wait()
        producing = asyncio.create_task(produce())
        ends_s = time.monotonic() + duration_s
        while time.monotonic() < ends_s:
            killed_s = time.monotonic()
            await asyncio.to_thread(process.kill)
            await asyncio.to_thread(process.start)
            restarts.append(time.monotonic() - killed_s)
            kills += 1
            await asyncio.sleep(max(SERVES_S_MIN, killed_s + KILL_INTERVAL_S - time.monotonic()))
        await asyncio.sleep(3)
        is_over.set()
        await producing
        await wait_until_async(lambda: len(from_commit) >= reported, PATIENCE_S)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    if len(from_commit) != reported:
        raise RuntimeError(f"{reported} events written, {len(from_commit)} delivered")
    note = f"{kills} kills, {reported:,} events, none lost or doubled"
    return [
        Figure(
            "commit to client under kill -9 each 1.2 s, worst", max(from_commit), "s", 1, note=note
        ),
        Figure("of it, from the request that writes it, worst", max(from_request), "s"),
        *spread("of it, a killed server back at SERVING", restarts),
    ]


async def _insist(run: Run, is_over: asyncio.Event) -> None:
    """Writes one event, once: a batch that was taken already is acknowledged."""
    asked_s = time.monotonic()
    batch = run.next_batch(asked_s)
    while True:
        try:
            await run.send(batch)
        except BacklaneError:
            if is_over.is_set():
                raise
            await asyncio.sleep(0.02)
        else:
            return


def silent_server(*, is_quick: bool) -> list[Figure]:
    """How long a client with default settings watches a server that was stopped by SIGSTOP."""
    del is_quick
    lost: list[float] = []
    stopped_s = 0.0
    with (
        tempfile.TemporaryDirectory() as folder,
        registry(Path(folder)) as process,
        OperationsClient(process.address) as client,
    ):
        messages = client.watch(
            watch_request(client.create(KIND, SPEC).name),
            on_lost=lambda _error, _left_s: lost.append(time.monotonic()),
            reconnect_deadline_s=0.5,
        )
        with suppress(BacklaneError):
            for message in messages:
                # A bookmark was just sent: what comes after is the whole silence.
                if message.phase is Phase.LIVE and not stopped_s:
                    process.signal(signal.SIGSTOP)
                    stopped_s = time.monotonic()
        process.signal(signal.SIGCONT)
    return [
        Figure("silent server noticed by a watcher", lost[0] - stopped_s, "s", 15, note="SIGSTOP")
    ]
