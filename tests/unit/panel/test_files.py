"""Panels and events out of files: what is read, and what is refused with which words."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from backlane.errors import DataRefusedError, InvalidRequestError
from backlane.sources.event_files import read_events
from backlane.sources.panel_files import read_panel

HEADER = "timestamp,symbol,open,high,low,close,volume\n"
ROWS = (
    "2024-01-03 00:00:00+00:00,B,10,11,9,10.5,100\n"
    "2024-01-02 00:00:00+00:00,A,1,2,0.5,1.5,7\n"
    "2024-01-02 00:00:00+00:00,B,9,9.5,8,9.2,50\n"
)
DAY_2_NS = 1_704_153_600_000_000_000
DAY_NS = 86_400_000_000_000


def write(folder: Path, text: str, name: str = "panel.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_panel_is_sorted_and_has_gaps(tmp_path: Path) -> None:
    panel = read_panel(write(tmp_path, HEADER + ROWS))
    assert panel.symbols == ("A", "B")
    assert panel.time_ns.tolist() == [DAY_2_NS, DAY_2_NS + DAY_NS]
    assert panel.known_ns.tolist() == panel.time_ns.tolist()
    np.testing.assert_array_equal(panel.close, [[1.5, 9.2], [np.nan, 10.5]])
    assert panel.volume is not None
    np.testing.assert_array_equal(panel.volume, [[7.0, 50.0], [np.nan, 100.0]])


def test_parquet_is_told_by_its_content(tmp_path: Path) -> None:
    table = pa.csv.read_csv(write(tmp_path, HEADER + ROWS))
    path = tmp_path / "panel.data"
    pq.write_table(table, path)
    same, other = read_panel(path), read_panel(tmp_path / "panel.csv")
    np.testing.assert_array_equal(same.close, other.close)
    assert same.symbols == other.symbols


def test_a_packed_panel(tmp_path: Path) -> None:
    path = tmp_path / "panel.csv.gz"
    path.write_bytes(gzip.compress((HEADER + ROWS).encode()))
    assert read_panel(path).symbols == ("A", "B")


def test_a_panel_without_volume(tmp_path: Path) -> None:
    text = "Date,Ticker,Open,High,Low,Close\n2024-01-02,A,1,2,0.5,1.5\n"
    panel = read_panel(write(tmp_path, text))
    assert panel.volume is None
    assert panel.time_ns.tolist() == [DAY_2_NS]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEADER, "no rows"),
        ("timestamp,symbol,open,high,low\n2024-01-02,A,1,2,0.5\n", "no column close"),
        (HEADER + "2024-01-02,A,x,2,0.5,1.5,7\n", "open holds text"),
        (HEADER + "yesterday,A,1,2,0.5,1.5,7\n", "yesterday"),
        (HEADER + "2024-01-02,,1,2,0.5,1.5,7\n", "Row 1 has no symbol"),
        (HEADER + "2024-01-02,A,1,2,0.5,1.5,7\n" * 2, "two bars"),
        (HEADER + "2024-01-02,A,1,2,0.5,,7\n", "missing or infinite"),
        (HEADER + "2024-01-02,A,1,2,0,1.5,7\n", "zero or below"),
        (HEADER + "2024-01-02,A,1,1,2,1.5,7\n", "high is below the low"),
        (HEADER + "2024-01-02,A,1,1.2,0.5,1.5,7\n", "outside of low and high"),
        (HEADER + "2024-01-02,A,1,2,0.5,1.5,-7\n", "volume is below zero"),
        ("timestamp,symbol,close,Close\n2024-01-02,A,1,1\n", "two columns close"),
        (HEADER + "2024-01-02,A,1\n", "neither CSV nor Parquet"),
    ],
)
def test_broken_panels_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataRefusedError, match=said):
        read_panel(write(tmp_path, text))


def test_every_finding_of_a_panel_is_named(tmp_path: Path) -> None:
    rows = "2024-01-02,A,1,2,0.5,1.5,-7\n2024-01-03,A,1,1,2,1.5,7\n"
    with pytest.raises(DataRefusedError) as refused:
        read_panel(write(tmp_path, HEADER + rows))
    assert "negative_volume" in refused.value.metadata
    assert "high_below_low" in refused.value.metadata


def test_a_missing_file_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        read_panel(tmp_path / "none.csv")
    assert refused.value.violations[0].field == "data.panel"
    with pytest.raises(InvalidRequestError, match="is empty"):
        read_panel(write(tmp_path, ""))


EVENTS = "event_date,disclosure_date,symbol,net_shares,role\n"


def test_events_are_in_the_order_of_their_disclosure(tmp_path: Path) -> None:
    text = (
        EVENTS
        + "2024-01-02,2024-01-09,B,5,CEO\n2024-01-04,2024-01-05,A,-3,CFO\n"
        + "2024-01-01,2024-01-01,Z,1,CFO\n"
    )
    events = read_events(write(tmp_path, text), "insider", ("A", "B"))
    assert events.symbol_index.tolist() == [0, 1]
    assert events.event_ns.tolist() == [DAY_2_NS + 2 * DAY_NS, DAY_2_NS]
    assert events.known_ns.tolist() == [DAY_2_NS + 3 * DAY_NS, DAY_2_NS + 7 * DAY_NS]
    assert {name: each.tolist() for name, each in events.values.items()} == {
        "net_shares": [-3.0, 5.0]
    }


def test_disclosures_are_derived_for_sources_that_are_known(tmp_path: Path) -> None:
    path = write(tmp_path, "timestamp,symbol,net_shares\n2024-01-02,A,5\n")
    insider = read_events(path, "insider", ("A",))
    assert (insider.known_ns - insider.event_ns).tolist() == [2 * DAY_NS]
    with pytest.raises(DataRefusedError, match="disclosure_date"):
        read_events(path, "rumours", ("A",))


def test_nothing_is_disclosed_before_it_happens(tmp_path: Path) -> None:
    path = write(tmp_path, EVENTS + "2024-01-03,2024-01-02,A,5,CEO\n")
    with pytest.raises(DataRefusedError, match="before it happened"):
        read_events(path, "insider", ("A",))
