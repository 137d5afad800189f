"""The factor store: factors and features that were computed once, kept as partitioned Parquet.

A cache, and never more: whatever is missing, damaged or of other bars is computed, and a store
that cannot be written makes nothing fail. Reads are bound to the bars that ask: a panel that was
cut at a time gets the factors of its own rows, and no later ones. docs/factor-store.md tells more.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backlane.panel.panel import Panel
from backlane.signals.factor_key import (
    FactorKey,
    PanelDigests,
    first_row_needed,
    panel_rows,
)
from backlane.sources.factor_parts import (
    ENTRY_PREFIX,
    PART_PREFIX,
    SCRATCH_SUFFIX,
    Columns,
    DamagedFactorsError,
    EncodedPart,
    Entry,
    Grid,
    Part,
    PartReader,
    encode_part,
    entries_in,
    entry_text,
    read_entry,
    write_whole,
)

STORE_BYTES_MAX = 4 * 1024**3
"""Bytes of all parts together; what was used longest ago leaves first."""
ENTRIES_PER_KEY_MAX = 8
"""Panels whose factors are kept for one key; the one used longest ago leaves first."""
STORE_FOLDER = "factors"
"""Where the store is, under the home."""

Compute = Callable[[Panel], Columns]


@dataclass(slots=True)
class StoreCounts:
    """What this store did: how often everything was there, some of it, or nothing.

    `damaged` counts files that were not what was written, `unwritten` what could not be kept, of
    which `last_problem` tells the last.
    """

    hits: int = 0
    appends: int = 0
    misses: int = 0
    damaged: int = 0
    unwritten: int = 0
    evicted: int = 0
    last_problem: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class StoredFactors:
    """Factors as they were stored: `columns` are (times, symbols) by name, `time_ns` (times,)."""

    symbols: tuple[str, ...]
    time_ns: np.ndarray[tuple[int], np.dtype[np.int64]]
    columns: Columns


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """The longest beginning of a panel whose factors are stored."""

    entry: Entry | None
    parts: tuple[Part, ...]
    columns: dict[str, Grid]

    @property
    def row_count(self) -> int:
        return self.parts[-1].stop if self.parts else 0


class FactorStore:
    """Stored factors under `root`; any number of processes may share it.

    Not for several threads at once.
    """

    def __init__(self, root: Path, *, size_bytes_max: int = STORE_BYTES_MAX) -> None:
        self.root = root
        self.size_bytes_max = size_bytes_max
        self.counts = StoreCounts()
        self._digests: PanelDigests | None = None
        self._reader = PartReader()

    def get_or_compute(
        self, key: FactorKey, panel: Panel, compute: Compute, *, as_of_ns: int | None = None
    ) -> Columns:
        """Returns the factors of every bar of the panel, (times, symbols) by name.

        `compute` maps a panel to them; it is asked for what is not stored, of the bars that are
        new and as many before them as `key.history_bars` says. With `as_of_ns` the panel is cut at
        that time first. Raises ValueError where the panel has other instruments than the key, or
        `compute` returns another shape; errors of the store itself only add to `counts`.
        """
        if key.symbols != panel.symbols:
            raise ValueError("the panel has other instruments than the key: make the key from it")
        shown = panel if as_of_ns is None else panel.until(as_of_ns)
        found = self._find(key, shown)
        if found.row_count == len(shown) and found.entry is not None:
            self.counts.hits += 1
            return found.columns
        columns = _completed(key, shown, found, compute)
        if found.row_count:
            self.counts.appends += 1
        else:
            self.counts.misses += 1
        self._keep(key, shown, columns, found)
        return columns

    def read(
        self, key: FactorKey, *, start_ns: int | None = None, end_ns: int | None = None,
        as_of_ns: int | None = None,
    ) -> StoredFactors | None:  # fmt: skip
        """Returns what is stored of a key from `start_ns` to `end_ns`, both inclusive.

        Never a row later than `as_of_ns`, whatever `end_ns` says. The stamps are those of the
        bars' closes. Of several panels, the one used last is read; None where there is none.
        """
        for path in entries_in(self._folder(key)):
            try:
                entry = read_entry(path)
                if entry.is_of(key):
                    return _between(entry, self._read(entry.path.parent, entry, entry.parts),
                                    start_ns, end_ns, as_of_ns)  # fmt: skip
            except (DamagedFactorsError, OSError) as error:
                self._refuse(path, error)
        return None

    def entries(self) -> Iterator[Entry]:
        """Yields every entry that can be read, group by group."""
        for path in sorted(self.root.glob(f"*/*/{ENTRY_PREFIX}*.json")):
            with suppress(DamagedFactorsError, FileNotFoundError):
                yield read_entry(path)

    def size_bytes(self) -> int:
        """Returns the bytes of all parts."""
        return sum(_size(path) for path in self.root.glob(f"*/*/{PART_PREFIX}*.parquet"))

    def clear(self, group: str | None = None) -> int:
        """Removes everything, or one group; returns how many bytes of parts that freed."""
        if not self.root.is_dir():
            return 0
        before = self.size_bytes()
        with self._writing():
            for path in self.root.glob("*/*/*"):
                if group in (None, path.parent.parent.name) and _is_ours(path):
                    path.unlink(missing_ok=True)
            _remove_empty(self.root)
        return before - self.size_bytes()

    def _folder(self, key: FactorKey) -> Path:
        return self.root / key.group / key.digest[:32]

    def _digests_of(self, panel: Panel) -> PanelDigests:
        # Several groups are asked about the same panel in a row: it is hashed once.
        if self._digests is None or self._digests.panel is not panel:
            self._digests = PanelDigests(panel)
        return self._digests

    def _find(self, key: FactorKey, panel: Panel) -> _Found:
        digests, folder = self._digests_of(panel), self._folder(key)
        best = _Found(None, (), {})
        for path in _candidates(folder, folder / _entry_name(digests.of_first(len(panel)))):
            try:
                entry = read_entry(path)
                if not entry.is_of(key):
                    continue
                parts = _shared(entry, digests)
                if parts and parts[-1].stop > best.row_count:
                    best = _Found(entry, parts, self._read(folder, entry, parts))
                if best.row_count == len(panel):
                    os.utime(path)
                    break
            except FileNotFoundError:
                continue
            except (DamagedFactorsError, OSError) as error:
                self._refuse(path, error)
        return best

    def _read(self, folder: Path, entry: Entry, parts: tuple[Part, ...]) -> dict[str, Grid]:
        shape = (parts[-1].stop if parts else 0, len(entry.symbols))
        columns = {name: np.empty(shape) for name in entry.columns}
        for part in parts:
            read = self._reader.read(folder, part, len(entry.symbols), entry.columns)
            for name, values in read.items():
                columns[name][part.start : part.stop] = values
        return columns

    def _refuse(self, path: Path, error: Exception) -> None:
        """A damaged entry is removed, so that it is made again and not refused again.

        It is looked at anew first, while nobody writes: by now it may be another writer's.
        """
        self.counts.damaged += 1
        self.counts.last_problem = str(error)
        with suppress(OSError), self._writing():
            try:
                entry = read_entry(path)
                self._read(path.parent, entry, entry.parts)
            except (DamagedFactorsError, OSError):
                path.unlink(missing_ok=True)

    def _keep(self, key: FactorKey, panel: Panel, columns: Columns, found: _Found) -> None:
        if len(panel) == 0:
            return
        digests = self._digests_of(panel)
        encoded = _encode(key, panel, columns, digests, found)
        parts = tuple(each if isinstance(each, Part) else each.part for each in encoded)
        if sum(part.size_bytes for part in parts) > self.size_bytes_max:
            return
        folder = self._folder(key)
        path = folder / _entry_name(digests.of_first(len(panel)))
        stamps = int(panel.time_ns[0]), int(panel.time_ns[-1])
        entry = Entry(path, key.group, key.parameters, key.code, key.history_bars, key.symbols,
                      tuple(columns), len(panel), *stamps, parts)  # fmt: skip
        try:
            with self._writing():
                self._publish(entry, encoded)
                self.counts.evicted += _evict(self.root, folder, path, self.size_bytes_max)
        except OSError as error:
            self.counts.unwritten += 1
            self.counts.last_problem = str(error)

    def _publish(self, entry: Entry, encoded: list[Part | EncodedPart]) -> None:
        """Writes the parts, and the manifest last; nothing where a part it shares has gone."""
        folder = entry.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        for each in encoded:
            if isinstance(each, EncodedPart):
                write_whole(folder / each.part.file, each.content)
            elif not (folder / each.file).is_file():
                raise FileNotFoundError(f"{folder / each.file} was evicted meanwhile")
        write_whole(entry.path, entry_text(entry).encode())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Holds the store's lock: writers come one after the other, readers need none."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _entry_name(input_digest: str) -> str:
    return f"{ENTRY_PREFIX}{input_digest[:32]}.json"


def _candidates(folder: Path, exact: Path) -> Iterator[Path]:
    """Yields the manifest of the very same bars, then, when it does not do, all others."""
    yield exact
    yield from (other for other in entries_in(folder) if other != exact)


def _shared(entry: Entry, digests: PanelDigests) -> tuple[Part, ...]:
    """Returns the parts of an entry that are of the first rows of the panel, from the first on."""
    count = len(digests.panel)
    reach = [part for part in entry.parts if part.stop <= count]
    # A digest covers all rows before it: where one fits, all parts before it do.
    for last in range(len(reach), 0, -1):
        if digests.of_first(reach[last - 1].stop) == reach[last - 1].input:
            return tuple(reach[:last])
    return ()


def _completed(key: FactorKey, panel: Panel, found: _Found, compute: Compute) -> Columns:
    """Returns what was found with what `compute` says of the rows after it."""
    known = found.row_count
    start = first_row_needed(panel, known, key.history_bars) if known else 0
    computed = compute(panel if start == 0 else panel_rows(panel, start, len(panel)))
    shape = (len(panel) - start, len(panel.symbols))
    for name, grid in computed.items():
        if grid.shape != shape:
            raise ValueError(f"factor {name} has shape {grid.shape}, the panel {shape}")
    if not known:
        return {name: np.asarray(grid, np.float64) for name, grid in computed.items()}
    if set(computed) != set(found.columns):
        raise ValueError(
            f"the group has the factors {', '.join(computed)}, it was stored with "
            f"{', '.join(found.columns)}: give them another group or other parameters"
        )
    return {
        name: np.concatenate([found.columns[name], np.asarray(grid[known - start :], np.float64)])
        for name, grid in computed.items()
    }


def _encode(
    key: FactorKey, panel: Panel, columns: Columns, digests: PanelDigests, found: _Found
) -> list[Part | EncodedPart]:
    """Returns the parts by year: those that are stored as they are, the others to be written."""
    stored = {(part.start, part.stop): part for part in found.parts}
    stops = [*(int(each) for each in digests.starts[1:]), len(panel)]
    parts: list[Part | EncodedPart] = []
    for start, stop in zip((int(each) for each in digests.starts), stops, strict=True):
        known = stored.get((start, stop))
        input_digest = digests.of_first(stop)
        parts.append(
            known or encode_part(columns, key.symbols, panel.time_ns, start, stop, input_digest)
        )
    return parts


def _between(
    entry: Entry, columns: dict[str, Grid], start_ns: int | None, end_ns: int | None,
    as_of_ns: int | None,
) -> StoredFactors:  # fmt: skip
    time_ns = _stamps(entry)
    ends = [each for each in (end_ns, as_of_ns) if each is not None]
    first = 0 if start_ns is None else int(np.searchsorted(time_ns, start_ns))
    stop = int(np.searchsorted(time_ns, min(ends), side="right")) if ends else len(time_ns)
    rows = slice(first, max(first, stop))
    kept = {name: grid[rows] for name, grid in columns.items()}
    return StoredFactors(entry.symbols, time_ns[rows], kept)


def _stamps(entry: Entry) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Returns the times of an entry, from its parts."""
    folder, found = entry.path.parent, [np.empty(0, np.int64)]
    for part in entry.parts:
        times = PartReader().read(folder, part, len(entry.symbols), ("time",))["time"]
        found.append(times[:, 0].astype("datetime64[ns]").astype(np.int64))
    return np.concatenate(found)


def _evict(root: Path, folder: Path, kept: Path, size_bytes_max: int) -> int:
    """Removes entries used longest ago until all limits hold, then the parts that no entry names.

    The entry `kept` stays. Returns how many went. The lock is held: no part is about to be named.
    """
    removed = list(entries_in(folder))[ENTRIES_PER_KEY_MAX:]
    for path in removed:
        path.unlink(missing_ok=True)
    _sweep(folder)
    total = sum(_size(path) for path in root.glob(f"*/*/{PART_PREFIX}*.parquet"))
    by_age = sorted(root.glob(f"*/*/{ENTRY_PREFIX}*.json"), key=_used_at)
    for path in by_age:
        if total <= size_bytes_max:
            break
        if path != kept:
            path.unlink(missing_ok=True)
            removed.append(path)
            total -= _sweep(path.parent)
    _remove_empty(root)
    return len(removed)


def _sweep(folder: Path) -> int:
    """Removes the parts of a folder that no entry names, and scratch; returns the bytes freed."""
    named = set()
    for path in entries_in(folder):
        with suppress(DamagedFactorsError, OSError):
            named |= {part.file for part in read_entry(path).parts}
    freed = 0
    for path in folder.iterdir():
        if path.suffix == ".parquet" and path.name not in named:
            freed += _size(path)
            path.unlink(missing_ok=True)
        elif path.suffix == SCRATCH_SUFFIX:
            path.unlink(missing_ok=True)
    return freed


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _used_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # a reader refused it
        return 0


def _is_ours(path: Path) -> bool:
    return path.name.startswith((ENTRY_PREFIX, PART_PREFIX)) or path.suffix == SCRATCH_SUFFIX


def _remove_empty(root: Path) -> None:
    """Removes folders of keys and groups that hold nothing any more."""
    for folder in (*root.glob("*/*"), *root.glob("*")):
        if folder.is_dir():
            with suppress(OSError):  # it holds something
                folder.rmdir()


def home_store(home: Path, *, size_bytes_max: int = STORE_BYTES_MAX) -> FactorStore:
    """Returns the store of a home directory."""
    return FactorStore(home / STORE_FOLDER, size_bytes_max=size_bytes_max)
