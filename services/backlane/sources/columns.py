"""Which column of a vendor's file is the time, the open, the volume."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backlane.errors import FieldViolation, InvalidRequestError
from backlane.market.finding import FindingCode
from backlane.sources.unusable import UnusableFileError

PRICES = ("open", "high", "low", "close")
ROLES = ("time", "date", *PRICES, "volume")
# What a user writes for a column that the file does not have and need not have.
NO_COLUMN = "none"

# First match wins; names are lower case, without <>, with _ for blanks and dashes.
_TIME_NAMES = (
    "timestamp",
    "datetime",
    "date_time",
    "open_time",
    "gmt_time",
    "utc_time",
    "local_time",
    "date",
    "time",
    "window_start",
    "unix",
    "index",
    "__index_level_0__",
    "unnamed:_0",
    "",
)
_TICK_VOLUME_NAMES = ("tick_volume", "tickvolume", "tickvol")
_VOLUME_NAMES = ("volume", *_TICK_VOLUME_NAMES, "vol", "v")


@dataclass(frozen=True, slots=True)
class ColumnChoice:
    """The positions of the columns that make a bar, counted from 0.

    `time` holds one position, or two when date and time of day stand apart. `volume` is None when
    the user said that there is none. `prices` are those of open, high, low and close.
    """

    time: tuple[int, ...]
    prices: tuple[int, ...]
    volume: int | None
    volume_counts_ticks: bool

    @property
    def positions(self) -> tuple[int, ...]:
        """Every position that is read: the time's, the four prices', the volume's."""
        return (*self.time, *self.prices, *(() if self.volume is None else (self.volume,)))


def check_column_roles(columns: Mapping[str, str]) -> None:
    """Raises InvalidRequestError for a role that no bar has, or a `none` where one is needed."""
    for role, name in columns.items():
        if role not in ROLES:
            message = f"{role!r} is no column of a bar: name one of {', '.join(ROLES)}."
        elif name == NO_COLUMN and role != "volume":
            message = f"{role}={NO_COLUMN} is not possible: only the volume may be missing."
        else:
            continue
        raise InvalidRequestError(message, violations=(FieldViolation("column", message),))


def choose_columns(names: Sequence[str], columns: Mapping[str, str]) -> ColumnChoice:
    """Returns which of the file's columns to read; `columns` overrides what the names suggest.

    Raises InvalidRequestError when a column that the user named is not in the file, and
    UnusableFileError when one is missing or two would do.
    """
    plain = [_plain(name) for name in names]
    named = {role: _named_column(role, columns[role], names) for role in columns if role in ROLES}
    prices = [
        named[role] if role in named else _only(role, (role, role[0]), plain, names)
        for role in PRICES
    ]
    absent = [role for role, at in zip(PRICES, prices, strict=True) if at is None]
    time = _choose_time(plain, named)
    if not time:
        absent.insert(0, "time")
    volume = named["volume"] if "volume" in named else _first(_VOLUME_NAMES, plain, names)
    if volume is None and columns.get("volume") != NO_COLUMN:
        absent.append("volume")
    if absent:
        raise UnusableFileError(FindingCode.MISSING_COLUMN, _absence_text(absent, names))
    return ColumnChoice(
        time,
        tuple(at for at in prices if at is not None),
        volume,
        volume is not None and plain[volume] in _TICK_VOLUME_NAMES,
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().strip("<>").strip().lower())


def _named_column(role: str, name: str, names: Sequence[str]) -> int | None:
    if name == NO_COLUMN:
        return None
    matches = [at for at, found in enumerate(names) if found.strip() == name]
    matches = matches or [at for at, found in enumerate(names) if _plain(found) == _plain(name)]
    if len(matches) == 1:
        return matches[0]
    problem = "is not in the file" if not matches else f"stands {len(matches)} times in the file"
    message = f"The column {name!r} for {role} {problem}, which has: {_names_text(names)}."
    raise InvalidRequestError(
        message,
        metadata={"column": name, "role": role},
        violations=(FieldViolation("column", message),),
    )


def _choose_time(plain: Sequence[str], named: Mapping[str, int | None]) -> tuple[int, ...]:
    if "time" in named or "date" in named:
        chosen = (named.get("date"), named.get("time"))
        return tuple(at for at in chosen if at is not None)
    first = _first(_TIME_NAMES, plain, plain)
    if first is None:
        return ()
    # MetaTrader and Stooq write the day and the time of day apart.
    if plain[first] == "date" and "time" in plain:
        return first, plain.index("time")
    return (first,)


def _first(wanted: Sequence[str], plain: Sequence[str], names: Sequence[str]) -> int | None:
    for name in wanted:
        if (at := _only(name, (name,), plain, names)) is not None:
            return at
    return None


def _only(
    role: str, wanted: Sequence[str], plain: Sequence[str], names: Sequence[str]
) -> int | None:
    for name in wanted:
        matches = [at for at, found in enumerate(plain) if found == name]
        if len(matches) > 1:
            raise UnusableFileError(
                FindingCode.AMBIGUOUS_COLUMN,
                f"{len(matches)} columns could be the {role or 'time'}: "
                f"{_names_text([names[at] for at in matches])}. Leave one in the file.",
            )
        if matches:
            return matches[0]
    return None


def _absence_text(absent: Sequence[str], names: Sequence[str]) -> str:
    text = f"There is no column for {', '.join(absent)}; the file has: {_names_text(names)}."
    if all(re.match(r"\s*[\d.]", name) for name in names):
        return f"{text} These look like values: put a header row above them."
    text += f" Name it with --column {absent[0]}=<name in the file>"
    return text + (f", or say --column volume={NO_COLUMN}." if absent == ["volume"] else ".")


def _names_text(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"
