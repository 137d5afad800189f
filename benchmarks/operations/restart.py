"""How soon a registry serves again that was killed with much on its way."""

import asyncio
import tempfile
import time
from pathlib import Path

import psutil

from backlane.client.async_operations import AsyncOperationsClient
from backlane.operations.operation import State
from backlane.operations.selection import Selection
from backlane.testing.servers import ServiceProcess
from benchmarks.operations.figures import Figure, percentile
from benchmarks.operations.registry import KIND, SPEC, begin_runs, new_worker, registry

OPERATIONS, RUNNING, REPORTS = 10_000, 100, 20
AT_ONCE = 50


def run(*, is_quick: bool) -> list[Figure]:
    """From the start of the process to SERVING, after kill -9 with 10,000 operations."""
    restarts: list[float] = []
    processor: list[float] = []
    with tempfile.TemporaryDirectory() as folder, registry(Path(folder)) as process:
        asyncio.run(_fill(process.address))
        for _ in range(2 if is_quick else 7):
            process.kill()
            begun_s = time.monotonic()
            process.start()
            restarts.append(time.monotonic() - begun_s)
            used = psutil.Process(process.pid).cpu_times()
            processor.append(used.user + used.system)
        asyncio.run(_check(process))
    note = f"{len(restarts)} times after kill -9; {RUNNING} of them running"
    return [
        Figure(
            "restart with 10,000 operations to SERVING, worst", max(restarts), "s", 2, note=note
        ),
        Figure("of it, median", percentile(restarts, 50), "s"),
        Figure("of it, processor time, median", percentile(processor, 50), "s"),
    ]


async def _fill(address: str) -> None:
    async with new_worker(address) as worker, AsyncOperationsClient(address) as client:
        for each in await begin_runs(address, worker, RUNNING):
            for _ in range(REPORTS):
                await each.report()

        async def some() -> None:
            for _ in range((OPERATIONS - RUNNING) // AT_ONCE):
                await client.create(KIND, SPEC, labels={"user": "bench"})

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def _check(process: ServiceProcess) -> None:
    async with AsyncOperationsClient(process.address) as client:
        chosen = Selection(states=frozenset({State.RUNNING}))
        running = [one async for one in client.list_operations(chosen)]
    if len(running) != RUNNING:
        raise RuntimeError(f"{len(running)} of {RUNNING} still run after the restarts")
