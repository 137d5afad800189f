"""The bundles under the models folder: which are there, which are in memory.

The folder is looked at with every call, so a new version appears without a restart. What a bundle
says of itself is kept until the file system shows that one of its files has changed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from torch import nn

from backlane.errors import (
    BacklaneError,
    BundleCorruptError,
    BundleInvalidError,
    BundlePickledError,
    ModelDigestMismatchError,
)
from backlane.inference.model_info import ModelEntry, ModelInfo, ModelState
from backlane.inference.model_name import ModelName
from backlane.inference.networks import build_network
from backlane.inference.torch_predictor import TorchPredictor
from backlane.sources.bundle import (
    WEIGHTS_FILE,
    bundle_fingerprint,
    probe_network,
    read_bundle,
    read_bundle_info,
)
from backlane.sources.bundle_paths import BUNDLE_COUNT_MAX, list_bundles, resolve_bundle
from model_service.cache import Loaded, NetworkCache

# How often a bundle may change between two looks at it before that is an error.
_CHANGES_MAX = 3

ResultT = TypeVar("ResultT")
_Fingerprint = tuple[tuple[str, int, int, int], ...]


class ModelRepository:
    """Finds, describes, loads and drops bundles under `root`.

    Loads come one after the other, so that two never need memory at once; a caller that goes away
    does not stop a load that others may wait for. Only the event loop that started it may call it.
    """

    def __init__(self, root: Path, *, cache_bytes_max: int) -> None:
        self._root = root
        self._cache = NetworkCache(cache_bytes_max)
        self._described: dict[Path, tuple[_Fingerprint, ModelInfo]] = {}
        self._failures: dict[str, str] = {}
        self._loading: dict[str, asyncio.Task[Loaded]] = {}
        self._one_load = asyncio.Lock()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read")

    async def start(self) -> None:
        """Nothing to begin: bundles are read when they are asked for."""

    async def stop(self) -> None:
        """Ends the reading thread."""
        for task in self._loading.values():
            task.cancel()
        self._reader.shutdown(wait=False, cancel_futures=True)

    async def probe(self) -> None:
        """Raises unless the models folder can be listed."""
        if not self._root.is_dir():
            raise NotADirectoryError(f"there is no models folder {self._root}")

    async def names(self) -> list[ModelName]:
        """Every bundle there is, in the order of `list_bundles`."""
        return await self._read(list_bundles, self._root)

    async def entries(self, names: list[ModelName]) -> list[ModelEntry]:
        """What each of these bundles is; one that cannot be read is in the list as FAILED."""
        return [await self._entry(name) for name in names]

    async def describe(self, name: ModelName) -> ModelEntry:
        """What a bundle is, and where it stands.

        Raises what `resolve_bundle` and `read_bundle_info` raise.
        """
        _, info = await self._described_bundle(name)
        return self._as_entry(info)

    async def load(self, name: ModelName, expected_digest: str = "") -> ModelEntry:
        """Brings a bundle into memory and warms it up; at once when it is there.

        Raises what `read_bundle` raises, ModelDigestMismatchError and LimitExceededError.
        """
        async with self.use(name, expected_digest) as predictor:
            return self._as_entry(predictor.info)

    async def unload(self, name: ModelName) -> None:
        """Takes a bundle out of memory once the predictions under way have ended."""
        _, info = await self._described_bundle(name)
        if info.digest in self._loading:
            await asyncio.wait({self._loading[info.digest]})
        loaded = self._cache.pop(info.digest)
        if loaded is not None:
            await loaded.idle.wait()

    @asynccontextmanager
    async def use(
        self, name: ModelName, expected_digest: str = ""
    ) -> AsyncIterator[TorchPredictor]:
        """Holds a bundle in memory, loading it when it is not there; raises what `load` raises."""
        info, loaded = await self._ready(name, expected_digest)
        with self._cache.used(loaded) as network:
            yield TorchPredictor(info, network)

    async def _ready(self, name: ModelName, expected_digest: str) -> tuple[ModelInfo, Loaded]:
        for _ in range(_CHANGES_MAX):
            folder, info = await self._described_bundle(name)
            _require_digest(info, expected_digest)
            loaded = self._cache.get(info.digest)
            if loaded is None:
                loaded = await self._load(folder, info)
            if loaded is not None:
                return info, loaded
        raise BundleInvalidError(
            f"{name} changed {_CHANGES_MAX} times while it was read; bundles are immutable: give a "
            "changed one a new version.",
            metadata={"name": str(name)},
        )

    async def _load(self, folder: Path, info: ModelInfo) -> Loaded | None:
        """Loads a bundle, or waits for the load of it; None when its files are others by now."""
        digest = info.digest
        if digest not in self._loading:
            task = asyncio.create_task(self._load_once(folder, info), name=f"load {info.name}")
            self._loading[digest] = task
            task.add_done_callback(lambda _: self._loading.pop(digest, None))
        try:
            return await asyncio.shield(self._loading[digest])
        except _BundleChangedError:
            self._described.pop(folder, None)
            return None

    async def _load_once(self, folder: Path, info: ModelInfo) -> Loaded:
        async with self._one_load:
            try:
                size_bytes = (folder / WEIGHTS_FILE).stat().st_size
                self._cache.make_room(size_bytes, info.name)
                network, size_bytes = await self._read(
                    _read_network, folder, self._root, info.digest
                )
            except (BundleInvalidError, BundleCorruptError, BundlePickledError) as error:
                self._failures[info.digest] = error.message
                raise
            self._failures.pop(info.digest, None)
            loaded = Loaded(network, size_bytes)
            self._cache.put(info.digest, loaded)
            return loaded

    async def _entry(self, name: ModelName) -> ModelEntry:
        try:
            return await self.describe(name)
        except BacklaneError as error:
            return ModelEntry(str(name), ModelState.FAILED, reason=error.message)

    def _as_entry(self, info: ModelInfo) -> ModelEntry:
        if info.digest in self._cache:
            return ModelEntry(info.name, ModelState.READY, info)
        reason = self._failures.get(info.digest, "")
        state = ModelState.FAILED if reason else ModelState.UNLOADED
        return ModelEntry(info.name, state, info, reason)

    async def _described_bundle(self, name: ModelName) -> tuple[Path, ModelInfo]:
        folder, fingerprint = await self._read(_look_up, self._root, name)
        known = self._described.get(folder)
        if known is not None and known[0] == fingerprint:
            return folder, known[1]
        info = await self._read(partial(read_bundle_info, root=self._root), folder)
        if len(self._described) >= BUNDLE_COUNT_MAX:
            self._described.clear()
        self._described[folder] = (fingerprint, info)
        return folder, info

    async def _read(self, function: Callable[..., ResultT], *arguments: object) -> ResultT:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, partial(function, *arguments))


def _look_up(root: Path, name: ModelName) -> tuple[Path, _Fingerprint]:
    folder = resolve_bundle(root, name)
    return folder, bundle_fingerprint(folder, root=root)


class _BundleChangedError(Exception):
    """The files are not those that were described."""


def _read_network(folder: Path, root: Path, digest: str) -> tuple[nn.Module, int]:
    """Reads a bundle and predicts once with it, so that the first caller waits for nothing."""
    bundle = read_bundle(folder, root=root)
    if bundle.info.digest != digest:
        raise _BundleChangedError
    network = build_network(bundle.network_spec, bundle.weights)
    probe_network(TorchPredictor(bundle.info, network))
    return network, bundle.size_bytes


def _require_digest(info: ModelInfo, expected: str) -> None:
    if expected and expected != info.digest:
        raise ModelDigestMismatchError(
            f"{info.name} has the digest {info.digest}, the request was made for {expected}: the "
            "bundle was replaced. Ask for the version that is there, or restore the other.",
            metadata={"name": info.name, "expected": expected, "found": info.digest},
        )
