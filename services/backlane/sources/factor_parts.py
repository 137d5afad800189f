"""The files of stored factors: Parquet parts, one for each year, and the manifest that names them.

    <root>/<group>/<key>/part-<digest>.parquet   time, symbol and one column for each factor
    <root>/<group>/<key>/entry-<input>.json      which parts are the factors of which bars

A part is named for the digest of its bytes: two writers that disagree write two files, and a file
that was changed is known by it. The manifest is written last and says all that a reader relies on.
"""

import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from backlane.signals.factor_key import FactorKey

ENTRY_FORMAT = "backlane.factors.v1"
ENTRY_BYTES_MAX = 1 << 20
"""Size of a manifest; real ones have some KiB."""
ENTRY_PREFIX, PART_PREFIX, SCRATCH_SUFFIX = "entry-", "part-", ".tmp"

_PART_NAME = rf"{PART_PREFIX}[0-9a-f]{{32}}\.parquet"

Grid = NDArray[np.float64]
Columns = Mapping[str, Grid]


class DamagedFactorsError(Exception):
    """A file of the store is not what was written; stays inside `sources`."""


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file: rows `start` to `stop` of the panel, and the digest of all rows to `stop`.

    `crc32` and `size_bytes` are those of the file. The file is named for its SHA-256, which no two
    contents share; that its bytes are still those, the checksum tells in a quarter of the time.
    """

    file: str
    crc32: int
    size_bytes: int
    start: int
    stop: int
    input: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One manifest: the factors `columns` of the first `row_count` rows of a panel, in parts.

    `path` is its own file; `group`, `parameters`, `code`, `history_bars` and `symbols` repeat the
    key; `first_ns` and `last_ns` are the stamps of the bars, None where there is none.
    """

    path: Path
    group: str
    parameters: str
    code: str
    history_bars: int | None
    symbols: tuple[str, ...]
    columns: tuple[str, ...]
    row_count: int
    first_ns: int | None
    last_ns: int | None
    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> int:
        """Of its parts, some of which it may share with other entries."""
        return sum(part.size_bytes for part in self.parts)

    def is_of(self, key: FactorKey) -> bool:
        """Whether these are the factors of that key."""
        return (
            self.group == key.group
            and self.parameters == key.parameters
            and self.code == key.code
            and self.history_bars == key.history_bars
            and self.symbols == key.symbols
        )


def entry_text(entry: Entry) -> str:
    """Returns a manifest as it is written."""
    content = {"format": ENTRY_FORMAT, **asdict(entry)}
    del content["path"]
    return json.dumps(content, indent=1) + "\n"


def read_entry(path: Path) -> Entry:
    """Returns a manifest; raises DamagedFactorsError, and FileNotFoundError when it is gone."""
    with path.open("rb") as file:
        raw = file.read(ENTRY_BYTES_MAX + 1)
    try:
        if len(raw) > ENTRY_BYTES_MAX:
            raise DamagedFactorsError(f"{path} has more than {ENTRY_BYTES_MAX} bytes")
        content: Any = json.loads(raw)
        if content.pop("format") != ENTRY_FORMAT:
            raise DamagedFactorsError(f"{path} has another format")
        parts = tuple(Part(**each) for each in content.pop("parts"))
        for name in ("symbols", "columns"):
            content[name] = tuple(content[name])
        entry = Entry(path=path, parts=parts, **content)
        numbers = [n for part in parts for n in (part.start, part.stop, part.size_bytes)]
        if not all(type(each) is int for each in (*numbers, entry.row_count)):
            raise DamagedFactorsError(f"{path}: a count is no whole number")
        if not all(re.fullmatch(_PART_NAME, part.file) for part in parts):
            raise DamagedFactorsError(f"{path} names something that is no part")
        bounds = [0, *(part.stop for part in parts)]
        if [part.start for part in parts] != bounds[:-1] or bounds[-1] != entry.row_count:
            raise DamagedFactorsError(f"{path}: its parts do not follow each other")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFactorsError(f"{path}: {error}") from error
    return entry


def entries_in(folder: Path) -> Iterator[Path]:
    """Yields the manifests of a key, the ones used last first."""
    found = []
    for path in folder.glob(f"{ENTRY_PREFIX}*.json"):
        try:
            found.append((path.stat().st_mtime_ns, path.name, path))
        except FileNotFoundError:  # another process evicted it
            continue
    for _, _, path in sorted(found, reverse=True):
        yield path


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPart:
    """A part that is to be written: its place in a manifest, and its bytes."""

    part: Part
    content: bytes


def encode_part(
    columns: Columns,
    symbols: tuple[str, ...],
    time_ns: NDArray[np.int64],
    start: int,
    stop: int,
    input_digest: str,
) -> EncodedPart:
    """Returns rows `start` to `stop` of the grids (times, symbols) as a Parquet file."""
    count = stop - start
    places = np.tile(np.arange(len(symbols), dtype=np.int32), count)
    arrays = [
        pa.array(np.repeat(time_ns[start:stop], len(symbols)), pa.timestamp("ns", "UTC")),
        pa.DictionaryArray.from_arrays(places, pa.array(symbols, pa.string())),
        *(pa.array(np.ascontiguousarray(grid[start:stop]).ravel()) for grid in columns.values()),
    ]
    names = ("time", "symbol", *columns)
    # Columns that hold no null (NaN is a number) are read in half the time.
    kinds = zip(names, arrays, strict=True)
    schema = pa.schema([pa.field(name, array.type, nullable=False) for name, array in kinds])
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays(arrays, schema=schema),
        sink,
        # Prices do not repeat: a dictionary or a compression of them costs more than it saves.
        compression="none",
        use_dictionary=["time", "symbol"],
        write_statistics=False,
    )
    content = sink.getvalue().to_pybytes()
    digest = hashlib.sha256(content).hexdigest()
    name = f"{PART_PREFIX}{digest[:32]}.parquet"
    checksum = zlib.crc32(content)
    return EncodedPart(Part(name, checksum, len(content), start, stop, input_digest), content)


class PartReader:
    """Reads parts one after the other into the same memory.

    Fresh pages for each would cost a hit more than everything else.
    """

    def __init__(self) -> None:
        self._room = bytearray()

    def read(
        self, folder: Path, part: Part, symbol_count: int, names: tuple[str, ...]
    ) -> dict[str, Grid]:
        """Returns the columns of a part, (times, symbols) each.

        Raises DamagedFactorsError for a file that is not the one that was written, and
        FileNotFoundError where there is none.
        """
        path = folder / part.file
        content = self._content(path, part)
        try:
            table = pq.ParquetFile(pa.BufferReader(pa.py_buffer(content))).read(
                columns=list(names), use_threads=False
            )
            shape = (part.stop - part.start, symbol_count)
            return {name: table.column(name).to_numpy().reshape(shape) for name in names}
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise DamagedFactorsError(f"{path}: {error}") from error

    def _content(self, path: Path, part: Part) -> memoryview:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size != part.size_bytes:
                raise DamagedFactorsError(f"{path} has {size} bytes, not {part.size_bytes}")
            if len(self._room) < size:
                self._room = bytearray(size)
            content = memoryview(self._room)[:size]
            count = file.readinto(content)
        if count != size or zlib.crc32(content) != part.crc32:
            raise DamagedFactorsError(f"{path} is not the file that was written")
        return content


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file beside its place and renames it: nobody ever reads a half of it.

    Nothing is forced to the disk: what a power cut tears is known by its digest, and made again.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}{SCRATCH_SUFFIX}")
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
