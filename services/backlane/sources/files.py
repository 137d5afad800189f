"""Bars from a file of any vendor: read, checked, and used only when nothing is wrong with them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backlane.errors import FieldViolation, InvalidRequestError
from backlane.market.bars import BarSeries
from backlane.market.finding import Finding, FindingCode, QualityReport
from backlane.market.quality import check_bars
from backlane.market.symbol import checked_symbol
from backlane.market.timeframe import Timeframe
from backlane.sources.columns import PRICES, check_column_roles
from backlane.sources.numbers import float64_column
from backlane.sources.stamps import parse_zone, utc_times
from backlane.sources.tables import RawBars, read_raw_bars
from backlane.sources.unusable import UnusableFileError


@dataclass(frozen=True, slots=True)
class ReadBars:
    """Bars that may be used, and the warnings and remarks that came up."""

    series: BarSeries
    report: QualityReport


def read_bars(
    path: Path,
    symbol: str,
    timeframe: Timeframe,
    *,
    price_scale: float = 1.0,
    timezone: str = "UTC",
    columns: Mapping[str, str] | None = None,
    now_ns: int | None = None,
) -> ReadBars:
    """Returns the bars of a CSV, gzipped CSV or Parquet file, when nothing refuses them.

    A price is the file's value divided by `price_scale` in float64; `timezone` is that of stamps
    without one; `columns` maps time, date, open, high, low, close or volume to the file's name for
    it, and `volume: none` reads a file without volume. Raises DataRefusedError naming every
    refusing finding, and InvalidRequestError for arguments that make no sense.
    """
    series, report = inspect_bars(
        path,
        symbol,
        timeframe,
        price_scale=price_scale,
        timezone=timezone,
        columns=columns,
        now_ns=now_ns,
    )
    report.raise_if_refused(str(path))
    if series is None:
        raise AssertionError("a file without bars has a finding that refuses it")
    return ReadBars(series, report)


def inspect_bars(
    path: Path,
    symbol: str,
    timeframe: Timeframe,
    *,
    price_scale: float = 1.0,
    timezone: str = "UTC",
    columns: Mapping[str, str] | None = None,
    now_ns: int | None = None,
) -> tuple[BarSeries | None, QualityReport]:
    """Returns what `read_bars` would judge: the candidate bars and the report, refused or not.

    The bars are None when the file gives none. Arguments are those of `read_bars`.
    """
    checked_symbol(symbol)
    parse_zone(timezone)
    columns = columns or {}
    check_column_roles(columns)
    _check_price_scale(price_scale)
    try:
        raw = read_raw_bars(path, columns)
        series, findings = _assemble(raw, symbol, timeframe, price_scale, timezone)
    except UnusableFileError as unusable:
        return None, QualityReport.of(0, [unusable.finding])
    report = check_bars(series, now_ns=now_ns)
    return series, _merged(series, report, findings)


def _check_price_scale(price_scale: float) -> None:
    if not (math.isfinite(price_scale) and price_scale > 0):
        message = f"A price scale of {price_scale!r} is not possible: give a number above zero."
        raise InvalidRequestError(message, violations=(FieldViolation("price_scale", message),))


def _assemble(
    raw: RawBars, symbol: str, timeframe: Timeframe, price_scale: float, timezone: str
) -> tuple[BarSeries, list[Finding]]:
    findings = list(raw.findings)
    times, time_findings = utc_times(raw.time, timezone)
    findings += time_findings
    prices = {}
    for name, column in zip(PRICES, raw.prices, strict=True):
        values, finding = float64_column(name, column)
        prices[name] = values / price_scale
        findings += [finding] if finding else []
    if raw.volume is None:
        volume = np.zeros(len(raw))
    else:
        volume, finding = float64_column("volume", raw.volume)
        findings += [finding] if finding else []
    return BarSeries(symbol, timeframe, times, **prices, volume=volume), findings


def _merged(series: BarSeries, report: QualityReport, findings: list[Finding]) -> QualityReport:
    """Adds what reading found, and drops what only follows from it."""
    codes = {found.code for found in findings}
    said_before = set()
    if FindingCode.NO_VOLUME in codes:
        said_before.add(FindingCode.ZERO_VOLUME)
    if FindingCode.BROKEN_ROW in codes:
        # The rows that could not be read are missing among the others.
        said_before |= {FindingCode.WRONG_TIMEFRAME, FindingCode.GAP}
    if FindingCode.NOT_A_NUMBER in codes:
        said_before |= _unread_alone(series, findings)
    kept = [found for found in report.findings if found.code not in said_before]
    return QualityReport.of(report.bar_count, [*findings, *kept])


def _unread_alone(series: BarSeries, findings: list[Finding]) -> set[FindingCode]:
    """The findings on missing numbers that only repeat that texts are no numbers.

    They do where each column lacks as many numbers as texts were counted in it.
    """
    unread = dict.fromkeys((*PRICES, "volume"), 0)
    for found in findings:
        if found.code is FindingCode.NOT_A_NUMBER:
            unread[found.subject] += found.count
    missing = {name: int((~np.isfinite(getattr(series, name))).sum()) for name in unread}
    codes = set()
    if all(missing[name] == unread[name] for name in PRICES):
        codes.add(FindingCode.PRICE_NOT_FINITE)
    if missing["volume"] == unread["volume"]:
        codes.add(FindingCode.VOLUME_NOT_FINITE)
    return codes
