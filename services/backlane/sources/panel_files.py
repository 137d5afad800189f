"""A panel from a CSV or Parquet file with one row for each instrument and time."""

from pathlib import Path

from backlane.market.finding import QualityReport
from backlane.panel.panel import Panel
from backlane.panel.rows import PRICES, check_rows, panel_from_rows
from backlane.sources.row_tables import SYMBOL_NAMES, TIME_NAMES, read_rows
from backlane.sources.unusable import UnusableFileError


def read_panel(path: Path, *, field: str = "data.panel") -> Panel:
    """Returns the panel of a file with timestamp, symbol, open, high, low, close, maybe volume.

    The rows may come in any order. A stamp is that of the close: the bar is known at it. Raises
    DataRefusedError naming everything that is wrong with the rows, and InvalidRequestError, naming
    `field`, when there is no such file.
    """
    try:
        rows = read_rows(path, field)
        time_ns = rows.times(rows.need(TIME_NAMES))
        symbol = rows.texts(rows.need(SYMBOL_NAMES))
        prices = {name: rows.numbers(rows.need((name,))) for name in PRICES}
        volume_name = rows.find(("volume",))
        volume = None if volume_name is None else rows.numbers(volume_name)
    except UnusableFileError as unusable:
        QualityReport.of(0, [unusable.finding]).raise_if_refused(str(path))
        raise
    findings = check_rows(time_ns, symbol, prices, volume)
    QualityReport.of(len(time_ns), findings).raise_if_refused(str(path))
    return panel_from_rows(time_ns, symbol, prices, volume)
