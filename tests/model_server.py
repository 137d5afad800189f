"""A model_service in this process, on a thread with an event loop of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backlane.testing.servers import running
from model_service.app import build
from model_service.settings import ModelServiceSettings


@contextmanager
def serving(models_dir: Path, **settings: object) -> Iterator[str]:
    """Yields host:port; for tests whose client is synchronous."""
    address: list[str] = []
    started, loop = threading.Event(), asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        async with running(build(settings_for(models_dir, **settings))) as at:
            address.append(at)
            started.set()
            await done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield address[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(30)
        loop.close()


def settings_for(models_dir: Path, **settings: object) -> ModelServiceSettings:
    """Settings for a test: any free port, quick to drain."""
    return ModelServiceSettings(
        models_dir=models_dir, **{"port": 0, "drain_grace_s": 2.0} | settings
    )
