"""The catalog: one Parquet file for each symbol and timeframe, under the home directory.

`<home>/data/<symbol>/<timeframe>.parquet` holds the columns open_time (UTC nanoseconds), open,
high, low, close and volume; the file's own metadata, under `backlane.dataset`, holds the rest as
JSON. A dataset is one file, so it is replaced by one rename: a reader sees the old bars or the
new ones. The digest is that of `backlane.market.digest`, checked at every load.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from backlane.clock import Clock, SystemClock
from backlane.errors import (
    BacklaneError,
    DatasetChangedError,
    DatasetCorruptError,
    DatasetExistsError,
    DatasetNotFoundError,
    InvalidRequestError,
    StoreUnavailableError,
)
from backlane.market.bars import BarSeries
from backlane.market.digest import bars_digest
from backlane.market.quality import check_bars
from backlane.market.symbol import checked_symbol
from backlane.market.timeframe import Timeframe

_FORMAT = 1
_METADATA_KEY = b"backlane.dataset"
_SUFFIX = ".parquet"
_COLUMNS = ("open", "high", "low", "close", "volume")
_SCHEMA = pa.schema(
    [("open_time", pa.timestamp("ns", "UTC")), *((name, pa.float64()) for name in _COLUMNS)]
)
# What a damaged file can do to those who read it; an OSError of Arrow's own has no number.
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, InvalidRequestError)
MAX_LISTED = 20


@dataclass(frozen=True, slots=True)
class Dataset:
    """What the catalog knows about the bars of one symbol and timeframe.

    Times are UTC nanoseconds; `digest` is `sha256:` and 64 hex digits; `provenance` says in a
    sentence where the bars come from.
    """

    symbol: str
    timeframe: Timeframe
    digest: str
    bar_count: int
    first_open_time_ns: int
    last_open_time_ns: int
    provenance: str
    imported_at: int
    path: Path


class Catalog:
    """The datasets under one home directory.

    Several processes may read and import at once: imports into one home wait for each other.
    """

    def __init__(self, home: Path, clock: Clock | None = None) -> None:
        self._root = home / "data"
        self._clock = clock or SystemClock()

    def import_bars(self, series: BarSeries, provenance: str, *, replace: bool = False) -> Dataset:
        """Stores the bars and returns their dataset; the same bars again change nothing.

        Raises DataRefusedError for bars that the checks refuse, DatasetExistsError when other
        bars are there and `replace` is not set, and StoreUnavailableError when nothing can be
        written; then everything is as before.
        """
        path = self._path(series.symbol, series.timeframe)
        check_bars(series).raise_if_refused(f"{series.symbol} {series.timeframe}")
        dataset = Dataset(
            symbol=series.symbol,
            timeframe=series.timeframe,
            digest=bars_digest(series),
            bar_count=len(series),
            first_open_time_ns=int(series.open_time_ns[0]),
            last_open_time_ns=int(series.open_time_ns[-1]),
            provenance=provenance,
            imported_at=self._clock.now_ns(),
            path=path,
        )
        try:
            with self._writing():
                if path.exists() and not replace:
                    held = _read_dataset(path, series.symbol, series.timeframe)
                    _check_same(held, dataset)
                    if _is_whole(held):
                        return held
                _write(dataset, series)
        except OSError as error:
            raise StoreUnavailableError(
                f"The catalog cannot write {path}: {error.strerror or error}.",
                metadata={"path": str(path)},
            ) from error
        return dataset

    def find(self, symbol: str, timeframe: Timeframe) -> Dataset | None:
        """Returns the dataset, or None when there is none; otherwise like `get`."""
        path = self._path(symbol, timeframe)
        return _read_dataset(path, symbol, timeframe) if path.exists() else None

    def get(self, symbol: str, timeframe: Timeframe) -> Dataset:
        """Returns the dataset without reading its bars.

        Raises DatasetNotFoundError, naming what is there, DatasetCorruptError, and
        StoreUnavailableError when the machine cannot read it.
        """
        dataset = self.find(symbol, timeframe)
        if dataset is None:
            raise self._not_found(symbol, timeframe)
        return dataset

    def list(self) -> tuple[Dataset, ...]:
        """Returns every readable dataset, by symbol and then by length; `damaged` has the rest."""
        return self._scan()[0]

    def damaged(self) -> tuple[Path, ...]:
        """Returns the files in the catalog that are no readable dataset."""
        return self._scan()[1]

    def load(
        self, symbol: str, timeframe: Timeframe, *, expected_digest: str | None = None
    ) -> BarSeries:
        """Returns the bars, after comparing them with their digest.

        Raises DatasetNotFoundError; DatasetCorruptError when the bars are not what was imported;
        DatasetChangedError when they are not those of `expected_digest`.
        """
        dataset = self.get(symbol, timeframe)
        if expected_digest is not None and dataset.digest != expected_digest:
            raise DatasetChangedError(
                f"The bars of {symbol} {timeframe} are {dataset.digest}, but {expected_digest} was "
                "asked for: they were replaced since. Import the earlier bars, or ask anew.",
                metadata={
                    "symbol": symbol,
                    "timeframe": timeframe.label,
                    "digest": dataset.digest,
                    "expected_digest": expected_digest,
                },
            )
        return _read_bars(dataset)

    def _path(self, symbol: str, timeframe: Timeframe) -> Path:
        return self._root / checked_symbol(symbol) / f"{timeframe.label}{_SUFFIX}"

    def _scan(self) -> tuple[tuple[Dataset, ...], tuple[Path, ...]]:
        datasets, damaged = [], []
        for path in sorted(self._root.glob(f"[!.]*/[!.]*{_SUFFIX}")):
            try:
                timeframe = Timeframe.parse(path.name.removesuffix(_SUFFIX))
                datasets.append(_read_dataset(path, path.parent.name, timeframe))
            except BacklaneError:
                damaged.append(path)
        datasets.sort(key=lambda found: (found.symbol, found.timeframe))
        return tuple(datasets), tuple(damaged)

    def _not_found(self, symbol: str, timeframe: Timeframe) -> DatasetNotFoundError:
        held = [f"{dataset.symbol} {dataset.timeframe}" for dataset in self.list()]
        more = f" and {len(held) - MAX_LISTED} more" if len(held) > MAX_LISTED else ""
        listed = f"it holds {', '.join(held[:MAX_LISTED])}{more}" if held else "it is empty"
        return DatasetNotFoundError(
            f"The catalog {self._root} has no bars of {symbol} {timeframe}; {listed}. Import them: "
            f"backlane data import FILE --symbol {symbol} --timeframe {timeframe}",
            metadata={"symbol": symbol, "timeframe": timeframe.label, "catalog": str(self._root)},
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Holds the home's import lock: between the look and the rename nobody else writes."""
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _check_same(held: Dataset, offered: Dataset) -> None:
    if held.digest == offered.digest:
        return
    raise DatasetExistsError(
        f"The catalog already has other bars of {held.symbol} {held.timeframe}: {held.bar_count} "
        f"bars, {held.digest}, {held.provenance}. Nothing was changed; --replace puts these "
        f"{offered.bar_count} bars ({offered.digest}) in their place.",
        metadata={
            "symbol": held.symbol,
            "timeframe": held.timeframe.label,
            "digest": held.digest,
            "offered_digest": offered.digest,
        },
    )


def _is_whole(dataset: Dataset) -> bool:
    try:
        _read_bars(dataset)
    except DatasetCorruptError:
        return False
    return True


def _write(dataset: Dataset, series: BarSeries) -> None:
    about = {
        "format": _FORMAT,
        "symbol": dataset.symbol,
        "timeframe": dataset.timeframe.label,
        "digest": dataset.digest,
        "bar_count": dataset.bar_count,
        "first_open_time_ns": dataset.first_open_time_ns,
        "last_open_time_ns": dataset.last_open_time_ns,
        "provenance": dataset.provenance,
        "imported_at": dataset.imported_at,
    }
    table = pa.table(
        [
            pa.array(series.open_time_ns, pa.timestamp("ns", "UTC")),
            *(pa.array(getattr(series, name)) for name in _COLUMNS),
        ],
        schema=_SCHEMA.with_metadata({_METADATA_KEY: json.dumps(about).encode()}),
    )
    folder = dataset.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    # One fixed name, safe under the lock: what a killed import leaves is overwritten by the next.
    partial = folder / f".{dataset.path.name}.partial"
    try:
        with partial.open("wb") as file:
            pa.parquet.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(dataset.path)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    # The rename itself is on disk only when the folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_dataset(path: Path, symbol: str, timeframe: Timeframe) -> Dataset:
    with _reading(path):
        with pa.parquet.ParquetFile(path) as file:
            about: dict[str, Any] = json.loads(file.schema_arrow.metadata[_METADATA_KEY])
            bar_count = file.metadata.num_rows
        dataset = Dataset(
            symbol=about["symbol"],
            timeframe=Timeframe.parse(about["timeframe"]),
            digest=about["digest"],
            bar_count=about["bar_count"],
            first_open_time_ns=about["first_open_time_ns"],
            last_open_time_ns=about["last_open_time_ns"],
            provenance=about["provenance"],
            imported_at=about["imported_at"],
            path=path,
        )
    if (dataset.symbol, dataset.timeframe, dataset.bar_count) != (symbol, timeframe, bar_count):
        raise _corrupt(
            path,
            f"it says that it holds {dataset.bar_count} bars of {dataset.symbol} "
            f"{dataset.timeframe}, where {bar_count} of {symbol} {timeframe} are",
        )
    return dataset


def _read_bars(dataset: Dataset) -> BarSeries:
    with _reading(dataset.path):
        with pa.parquet.ParquetFile(dataset.path) as file:
            table = file.read()
        if not table.schema.equals(_SCHEMA):
            raise _corrupt(dataset.path, "its columns are not those of bars")
        # Copies: what Arrow lends is read-only, which compiled code takes for another type.
        times = np.array(table["open_time"].cast(pa.int64()).to_numpy(), dtype=np.int64)
        columns = [np.array(table[name].to_numpy(), dtype=np.float64) for name in _COLUMNS]
    series = BarSeries(dataset.symbol, dataset.timeframe, times, *columns)
    if bars_digest(series) != dataset.digest:
        raise _corrupt(dataset.path, f"its bars are not those of its digest {dataset.digest}")
    return series


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tells damage of the file from trouble of the machine, which no new import would mend."""
    try:
        yield
    except MemoryError:  # Arrow's own is a MemoryError and an ArrowException
        raise
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise StoreUnavailableError(
                f"The dataset {path} cannot be read: {os.strerror(error.errno)}.",
                metadata={"path": str(path)},
            ) from error
        what = str(error).partition("\n")[0] or "it is no dataset"
        raise _corrupt(path, what) from error


def _corrupt(path: Path, what: str) -> DatasetCorruptError:
    return DatasetCorruptError(
        f"The dataset {path} is damaged: {what}. Import the bars again with --replace.",
        metadata={"path": str(path)},
    )
