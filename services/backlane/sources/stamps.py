"""Turns a file's time columns into UTC nanoseconds, or says why they name no moment.

Read are ISO 8601, MetaTrader (`2012.11.16 05:00`), Dukascopy (`16.11.2012 05:00:00.000 GMT+0200`),
compact (`20121116 050000`) and epoch stamps in s, ms, us or ns; naive ones are in the zone that
the user names. Dates such as 03/04/2012 are refused: nothing says which number is the month.
"""

import re
from datetime import timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from backlane.errors import FieldViolation, InvalidRequestError
from backlane.market.finding import Finding, FindingCode
from backlane.market.spacing import stamp_text
from backlane.sources.unusable import UnusableFileError

Zone = ZoneInfo | timezone
Times = NDArray[np.int64]

_CLOCK = r"(\d{2}):(\d{2})(:\d{2}(?:\.\d{1,9})?)?"
_OFFSET = r"(?:Z|[+-]\d{2}:?(?:\d{2})?)"
# A vendor's spelling, and the ISO spelling of the same moment. The first value decides which one
# a file uses; rows that do not fit it are then found by the strict reading.
_SPELLINGS = (
    (r"^(\d{4})[./](\d{2})[./](\d{2})", r"\1-\2-\3"),
    (r"^(\d{2})\.(\d{2})\.(\d{4})", r"\3-\2-\1"),
    (r"^(\d{4})(\d{2})(\d{2})[ T;]*(\d{2}):?(\d{2}):?(\d{2})\b", r"\1-\2-\3 \4:\5:\6"),
    (r"^(\d{4})(\d{2})(\d{2})[ T;]*(\d{2}):?(\d{2})\b", r"\1-\2-\3 \4:\5"),
    (r"^(\d{4})(\d{2})(\d{2})\b", r"\1-\2-\3"),
    (r"^(\S+)  +(\S+)", r"\1 \2"),
    (r"\s*(?:GMT|UTC)\s*([+-]\d{2}:?\d{2})$", r"\1"),
    (r"\s*(?:GMT|UTC)$", r"Z"),
    (rf"\s+({_OFFSET})$", r"\1"),
)
_OFFSET_AT_END = rf"\d:\d{{2}}(?::\d{{2}}(?:\.\d+)?)?(?P<offset>{_OFFSET})$"
# 20121116 or 20121116050000: a day or a moment, though epoch seconds have digits alone as well.
_COMPACT = r"^(?:19|20|21)\d{6}(?:\d{6})?$"
_DIGITS = r"^[+-]?\d+(?:\.0*)?$"
_MAX_OFFSET_COUNT = 2
_DAYLIGHT_SAVING_MINUTES = 60
# 64 bits of nanoseconds reach a little further on both sides.
_FIRST_YEAR, _LAST_YEAR = 1678, 2261
_OUTSIDE = f"Stamps lie outside the years {_FIRST_YEAR} to {_LAST_YEAR}."
# Epoch stamps of two units differ a thousandfold; bars side by side, beyond 1973, never do.
_LEAST_EPOCH, _UNIT_JUMP = 10**8, 500
_EPOCH_UNITS_NS = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3), (2**63, 1))


def parse_zone(name: str) -> Zone:
    """Returns the time zone of an IANA name (`Europe/Athens`) or a fixed offset (`+02:00`).

    Raises InvalidRequestError, naming `timezone`, for anything else.
    """
    if match := re.fullmatch(r"([+-])(\d{2}):(\d{2})", name):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        if offset < timedelta(hours=24):
            return timezone(-offset if match[1] == "-" else offset)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        message = f"{name!r} is no time zone: write an IANA name such as Europe/Athens, or +02:00."
        raise InvalidRequestError(
            message,
            metadata={"timezone": name},
            violations=(FieldViolation("timezone", message),),
        ) from error


def utc_times(columns: tuple[pa.ChunkedArray, ...], zone_name: str) -> tuple[Times, list[Finding]]:
    """Returns the open times in UTC nanoseconds since 1970, and what there is to say about them.

    `columns` is one column of stamps, or the days and the times of day. Raises UnusableFileError
    when any stamp names no single moment: empty, unreadable, in two zones, or in the hour that a
    clock change skips or repeats.
    """
    zone = parse_zone(zone_name)
    columns = tuple(_filled(column) for column in columns)
    column = columns[0] if len(columns) == 1 else _joined(*columns)
    if len(column) == 0:
        return np.empty(0, np.int64), []
    if _is_text(column):
        column = _from_text(column)
    elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        column = _from_numbers(column)
    elif not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        raise _no_time(len(column), str(column.type), "The column of times holds something else.")
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        return _nanoseconds(column, pa.timestamp("ns", "UTC")), _unused_zone(zone_name, column)
    local = _nanoseconds(column, pa.timestamp("ns"))
    return _in_utc(local, zone, zone_name), [_naive_finding(local, zone_name)]


def _is_text(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def _filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns the column, its text without blanks around; raises when a value is empty."""
    column = pc.utf8_trim_whitespace(column) if _is_text(column) else column
    missing = pc.is_null(column)
    if _is_text(column):
        missing = pc.or_kleene(missing, pc.equal(column, ""))
    empty = np.asarray(missing)
    if bool(empty.any()):
        example = f"row {int(empty.argmax()) + 1}: empty"
        raise _no_time(int(empty.sum()), example, "Rows have no time.")
    return column


def _no_time(count: int, example: str, message: str) -> UnusableFileError:
    return UnusableFileError(FindingCode.NOT_A_TIME, message, count=count, first_example=example)


def _joined(days: pa.ChunkedArray, clocks: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(
        pc.cast(days, pa.string()), pc.cast(clocks, pa.string()), " "
    )


def _nanoseconds(column: pa.ChunkedArray, wanted: pa.DataType) -> Times:
    try:
        moments = pc.cast(pc.cast(column, wanted), pa.int64())
    except pa.ArrowInvalid as error:
        raise _no_time(1, _first_outside(column), _OUTSIDE) from error
    return np.array(moments.to_numpy(), dtype=np.int64)


def _from_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_floating(column.type):
        values = column.to_numpy()
        whole = np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2**63)
        if not bool(whole.all()):
            first = int((~whole).argmax())
            example = f"row {first + 1}: {values[first]!r}"
            raise _no_time(int((~whole).sum()), example, "Stamps are no whole numbers.")
    whole_numbers = pc.cast(column, pa.int64(), safe=False)
    return _from_text(pc.cast(whole_numbers, pa.string()))


def _from_text(text: pa.ChunkedArray) -> pa.ChunkedArray:
    first = text[0].as_py()
    if re.match(_DIGITS, first) and not re.match(_COMPACT, first):
        return _from_epoch(text)
    iso = text
    for pattern, iso_pattern in _SPELLINGS:
        if re.search(pattern, first):
            iso = pc.replace_substring_regex(iso, pattern, iso_pattern)
            first = iso[0].as_py()
    zoned = _check_offsets(text, iso)
    try:
        return pc.cast(iso, pa.timestamp("ns", "UTC") if zoned else pa.timestamp("ns"))
    except pa.ArrowInvalid:
        raise _unreadable_stamps(text, iso) from None


def _from_epoch(text: pa.ChunkedArray) -> pa.ChunkedArray:
    fits = np.asarray(pc.match_substring_regex(text, _DIGITS))
    if not bool(fits.all()):
        first = int((~fits).argmax())
        example = f"row {first + 1}: {text[first].as_py()[:40]!r}"
        raise _no_time(int((~fits).sum()), example, "Stamps are no numbers, as the others are.")
    try:
        plain = pc.cast(pc.replace_substring_regex(text, r"\.0*$", ""), pa.int64())
    except pa.ArrowInvalid as error:
        message = f"{_OUTSIDE[:-1]}: numbers of so many digits are no epoch stamps."
        raise _no_time(1, _longest_row(text), message) from error
    values = plain.to_numpy()
    _refuse_mixed_units(values)
    largest, smallest = int(values.max()), int(values.min())
    unit_ns = next(unit for below, unit in _EPOCH_UNITS_NS if largest < below)
    if smallest * unit_ns < -(2**63) or largest * unit_ns >= 2**63:
        raise _no_time(1, str(smallest), _OUTSIDE)
    return pa.chunked_array([pa.array(values * unit_ns, pa.timestamp("ns", "UTC"))])


def _longest_row(text: pa.ChunkedArray) -> str:
    row = int(np.asarray(pc.utf8_length(text)).argmax())
    return f"row {row + 1}: {text[row].as_py()[:40]!r}"


def _refuse_mixed_units(values: NDArray[np.int64]) -> None:
    """Refuses a file that goes from seconds to milliseconds, or from any unit to another."""
    sizes = np.abs(values.astype(np.float64))
    before, after = sizes[:-1], sizes[1:]
    large = (before > _LEAST_EPOCH) & (after > _LEAST_EPOCH)
    jumps = large & (np.maximum(before, after) >= _UNIT_JUMP * np.minimum(before, after))
    if bool(jumps.any()):
        row = int(jumps.argmax()) + 1
        raise _no_time(
            int(jumps.sum()),
            f"row {row + 1}: {values[row]} after {values[row - 1]}",
            "Epoch stamps change their unit within the file, as from seconds to milliseconds: "
            "write all of them in one.",
        )


def _first_outside(column: pa.ChunkedArray) -> str:
    """The first stamp that 64 bits of nanoseconds do not hold, as the column writes it."""
    years = np.asarray(pc.year(column.cast(_as_local(column.type))))
    row = int(((years < _FIRST_YEAR) | (years > _LAST_YEAR)).argmax())
    return f"row {row + 1}: {column[row].as_py()}"


def _as_local(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp(kind.unit) if pa.types.is_timestamp(kind) else pa.timestamp("s")


def _unreadable_stamps(text: pa.ChunkedArray, iso: pa.ChunkedArray) -> UnusableFileError:
    parsed = pd.to_datetime(pd.Series(iso.to_pylist()), format="ISO8601", errors="coerce", utc=True)
    outside = _out_of_range(iso)
    bad = parsed.isna().to_numpy() | outside
    first = int(bad.argmax())
    example = f"row {first + 1}: {text[first].as_py()[:40]!r}"
    if re.match(r"\d{1,2}[/-]\d{1,2}[/-]\d{2,4}", text[first].as_py()):
        hint = "Nothing says whether the day or the month comes first: write YYYY-MM-DD."
    elif outside[first]:
        hint = _OUTSIDE
    else:
        hint = "Stamps cannot be read as times: write YYYY-MM-DD HH:MM:SS, or epoch seconds."
    return _no_time(max(int(bad.sum()), 1), example, hint)


def _out_of_range(iso: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which stamps name a day of a year that 64 bits of nanoseconds do not hold."""
    found = pc.extract_regex(iso, r"^(?P<year>\d{4,9})-\d{2}-\d{2}")
    years = pc.fill_null(pc.cast(pc.struct_field(found, "year"), pa.int64()), _FIRST_YEAR)
    return np.asarray(pc.or_(pc.less(years, _FIRST_YEAR), pc.greater(years, _LAST_YEAR)))


def _check_offsets(text: pa.ChunkedArray, iso: pa.ChunkedArray) -> bool:
    """Says whether the stamps carry a zone; raises when some do, or when they carry several."""
    zoned = np.asarray(pc.match_substring_regex(iso, _OFFSET_AT_END))
    if not bool(zoned.any()):
        return False
    if not bool(zoned.all()):
        rarer = zoned if zoned.sum() * 2 <= len(zoned) else ~zoned
        first = int(rarer.argmax())
        raise _mixed_zones(
            int(rarer.sum()),
            f"row {first + 1}: {text[first].as_py()[:40]!r}",
            "Some stamps carry a time zone and some do not.",
        )
    offsets = pc.unique(pc.struct_field(pc.extract_regex(iso, _OFFSET_AT_END), "offset"))
    minutes = {_offset_minutes(offset) for offset in offsets.to_pylist()}
    spread = max(minutes) - min(minutes)
    if len(minutes) > _MAX_OFFSET_COUNT or spread > _DAYLIGHT_SAVING_MINUTES:
        raise _mixed_zones(
            len(minutes),
            ", ".join(offsets.to_pylist()[:4]),
            "Stamps carry offsets of different time zones, more than daylight saving explains.",
        )
    return True


def _mixed_zones(count: int, example: str, message: str) -> UnusableFileError:
    return UnusableFileError(
        FindingCode.MIXED_ZONES,
        f"{message} Write every stamp in UTC.",
        count=count,
        first_example=example,
    )


def _offset_minutes(offset: str) -> int:
    if offset == "Z":
        return 0
    digits = offset[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:] or 0)
    return -minutes if offset[0] == "-" else minutes


def _in_utc(local: Times, zone: Zone, zone_name: str) -> Times:
    if zone_name == "UTC":
        return local
    stamps = pd.DatetimeIndex(local.astype("datetime64[ns]"))
    placed = stamps.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    lost = np.asarray(placed.isna())
    if bool(lost.any()):
        raise _no_single_moment(stamps, lost, zone, zone_name)
    return np.array(placed.tz_convert("UTC").as_unit("ns").asi8, dtype=np.int64)


def _no_single_moment(
    stamps: pd.DatetimeIndex, lost: NDArray[np.bool_], zone: Zone, zone_name: str
) -> UnusableFileError:
    moved = stamps.tz_localize(zone, ambiguous="NaT", nonexistent="shift_forward")
    repeated = np.asarray(moved.isna())
    code, mask, what = (
        (FindingCode.AMBIGUOUS_LOCAL_TIME, repeated, "happen twice")
        if bool(repeated.any())
        else (FindingCode.NONEXISTENT_LOCAL_TIME, lost, "never happen")
    )
    first = int(mask.argmax())
    message = (
        f"In {zone_name} these local times {what}, because the clock changes: the file is in "
        "another zone, or has to be exported in UTC."
    )
    example = f"row {first + 1}: {stamp_text(stamps.asi8[first]).removesuffix('Z')}"
    return UnusableFileError(code, message, count=int(mask.sum()), first_example=example)


def _naive_finding(local: Times, zone_name: str) -> Finding:
    return Finding(
        FindingCode.NAIVE_STAMPS,
        len(local),
        stamp_text(local[0]).removesuffix("Z"),
        f"Stamps carry no time zone and are taken as {zone_name}; a broker's server often runs "
        "2 or 3 hours ahead of UTC (--timezone names another zone).",
    )


def _unused_zone(zone_name: str, column: pa.ChunkedArray) -> list[Finding]:
    if zone_name == "UTC":
        return []
    message = f"Stamps carry their own time zone, so --timezone {zone_name} was not needed."
    return [Finding(FindingCode.TIMEZONE_UNUSED, len(column), "", message)]
