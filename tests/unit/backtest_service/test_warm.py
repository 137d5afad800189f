"""Bars that a worker keeps: by digest, up to a number of bytes, the last used longest."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from backlane.errors import BacklaneError
from backlane.market.timeframe import Timeframe
from backlane.sources.catalog import Catalog
from backlane.sources.synthetic import SYNTHETIC_SYMBOL, synthetic_bars
from backtest_service.warm import WarmBars

BAR_COUNT = 100
BYTES = BAR_COUNT * 6 * 8
LABELS = ("1h", "30m", "15m")


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog(tmp_path)
    for label in LABELS:
        bars = synthetic_bars(
            7, datetime(2015, 1, 5, tzinfo=UTC), BAR_COUNT, Timeframe.parse(label)
        )
        catalog.import_bars(bars, "synthetic")
    return catalog


class Reader:
    def __init__(self, catalog: Catalog, bytes_max: int) -> None:
        self.warm = WarmBars(catalog, bytes_max)
        self._digests = {
            label: catalog.get(SYNTHETIC_SYMBOL, Timeframe.parse(label)).digest for label in LABELS
        }

    def __call__(self, label: str):
        return self.warm.get(SYNTHETIC_SYMBOL, Timeframe.parse(label), self._digests[label])


def test_bars_are_read_once(catalog: Catalog):
    read = Reader(catalog, 10 * BYTES)
    first = read("1h")
    assert read("1h") is first
    assert read("30m") is not first
    assert read.warm.size_bytes == 2 * BYTES


def test_the_last_used_stay_within_the_limit(catalog: Catalog):
    read = Reader(catalog, 2 * BYTES)
    hour, half = read("1h"), read("30m")
    assert read("1h") is hour
    read("15m")  # takes the place of the one that was used longest ago
    assert read.warm.size_bytes == 2 * BYTES
    assert read("1h") is hour
    assert read("30m") is not half


def test_what_is_larger_than_the_limit_is_read_and_not_kept(catalog: Catalog):
    read = Reader(catalog, BYTES - 1)
    assert len(read("1h")) == BAR_COUNT
    assert read.warm.size_bytes == 0


def test_other_bars_than_those_asked_for_are_never_given(catalog: Catalog):
    read = Reader(catalog, 10 * BYTES)
    read("1h")
    with pytest.raises(BacklaneError, match="sha256"):
        read.warm.get(SYNTHETIC_SYMBOL, Timeframe.parse("1h"), "sha256:00")
