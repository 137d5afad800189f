"""A result beside what its request gives again: the same, or what differs first."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from backlane.audit.compare import differing
from backlane.audit.recorded import (
    BARS,
    DECISIONS,
    EQUITY,
    FEATURES,
    TIME_COLUMNS,
    TRADES,
    RecordedResult,
    Table,
)
from backlane.audit.stamp import iso_time

DIGESTS = ("config_digest", "order_digest", "result_digest")
"""What must be the same; everything else says why it is not."""
KEYS_SHOWN_MAX = 5
ENGINE = "engine"
"""Among the versions: the digest of the engine's source."""

_DECIDED = ("decision", "reason")


@dataclass(frozen=True, slots=True)
class ComparedPart:
    """One part of a result; `detail` says what differs first, or what was not compared."""

    part: str
    is_same: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ComparedEngine:
    """Digests of the source of the engine that made the result, and of this one; "" for unknown."""

    recorded: str
    again: str

    @property
    def is_same(self) -> bool | None:
        """Whether it is the same engine; None where the result does not say which it was."""
        return self.recorded == self.again if self.recorded and self.again else None

    @property
    def statement(self) -> str:
        """Says in one sentence which engine made the result and which this is."""
        match self.is_same:
            case True:
                return f"The engine is the same: {self.again}."
            case False:
                return f"Engine differs: result was made by {self.recorded}, this is {self.again}."
            case None:
                return "The result does not say which engine made it."


@dataclass(frozen=True, slots=True)
class Verification:
    """A result compared with its repetition. `parts` are in the order in which one feeds another.

    `is_same` is about the digests, and about the files where these tell of another run than the
    digests beside them. Another engine that gives the same is no difference, but it is said.
    """

    is_same: bool
    digests: Mapping[str, tuple[str, str]]
    engine: ComparedEngine
    parts: tuple[ComparedPart, ...]

    @property
    def first_difference(self) -> ComparedPart | None:
        """The first part that differs, in the order in which one feeds another."""
        return next((part for part in self.parts if not part.is_same), None)

    def to_document(self) -> dict[str, Any]:
        """Returns the comparison as plain data for JSON."""
        first = self.first_difference
        return {
            "is_same": self.is_same,
            "first_difference": None if first is None else first.part,
            "engine": {
                "is_same": self.engine.is_same,
                "recorded": self.engine.recorded,
                "again": self.engine.again,
                "statement": self.engine.statement,
            },
            "digests": {
                name: {"recorded": recorded, "again": again}
                for name, (recorded, again) in self.digests.items()
            },
            "parts": [asdict(part) for part in self.parts],
        }


def compare_results(recorded: RecordedResult, again: RecordedResult) -> Verification:
    """Compares what was recorded with what the same request gave again, to the bit."""
    before, after = recorded.document, again.document
    tables = list(_table_parts(recorded, again))
    versions = [dict(document.get("versions") or {}) for document in (before, after)]
    engines = [str(each.pop(ENGINE, "")) for each in versions]
    digests = {name: (str(before.get(name)), str(after.get(name))) for name in DIGESTS}
    is_same = all(left == right for left, right in digests.values())
    return Verification(
        is_same=is_same and all(part.is_same for part in tables),
        digests=digests,
        engine=ComparedEngine(engines[0], engines[1]),
        parts=(
            _keys("versions", *_shared(*versions)),
            _keys("config", before.get("config"), after.get("config")),
            _keys("datasets", before.get("datasets"), after.get("datasets")),
            _keys("model", before.get("model"), after.get("model")),
            *tables,
        ),
    )


def _table_parts(recorded: RecordedResult, again: RecordedResult) -> Iterator[ComparedPart]:
    for part, table in (
        ("bars", BARS),
        ("features", FEATURES),
        ("scores", DECISIONS),
        ("decisions", DECISIONS),
        ("fills", TRADES),
        ("equity", EQUITY),
    ):
        before, after = recorded.tables.get(table), again.tables[table]
        if before is None:
            yield ComparedPart(part, True, "not in the directory, not compared")
            continue
        if table == DECISIONS:
            is_wanted = part == "decisions"
            before, after = (
                {
                    name: values
                    for name, values in each.items()
                    if name == "time" or (name in _DECIDED) == is_wanted
                }
                for each in (before, after)
            )
        detail = _first_difference(before, after)
        yield ComparedPart(part, not detail, detail)


def _keys(part: str, before: object, after: object) -> ComparedPart:
    left, right = _flat(before), _flat(after)
    changed = [
        key for key in (*left, *(k for k in right if k not in left)) if _differs(left, right, key)
    ]
    texts = [
        f"{key} {left.get(key, 'absent')} -> {right.get(key, 'absent')}"
        for key in changed[:KEYS_SHOWN_MAX]
    ]
    more = len(changed) - KEYS_SHOWN_MAX
    return ComparedPart(
        part, not changed, "; ".join(texts) + (f"; {more} more" if more > 0 else "")
    )


def _shared(
    left: Mapping[str, object], right: Mapping[str, object]
) -> tuple[dict[str, object], dict[str, object]]:
    """Returns what both name: a service lists what it needs, the command line everything."""
    shared = [key for key in left if key in right]
    return {key: left[key] for key in shared}, {key: right[key] for key in shared}


def _differs(left: Mapping[str, object], right: Mapping[str, object], key: str) -> bool:
    return key not in left or key not in right or left[key] != right[key]


def _flat(value: object, path: str = "") -> dict[str, object]:
    """Returns nested mappings as one, with keys such as switches.fill."""
    if not isinstance(value, Mapping):
        return {path: value} if path else {}
    found: dict[str, object] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{path}.{key}" if path else str(key))
    return found


def _first_difference(before: Table, after: Table) -> str:
    """Returns the earliest row in which a column differs, and the values; "" when none does."""
    if list(before) != list(after):
        missing = [name for name in after if name not in before]
        extra = [name for name in before if name not in after]
        if missing or extra:
            return f"columns: {', '.join(extra) or 'none'} -> {', '.join(missing) or 'none'}"
        return "the columns are in another order"
    counts = [len(next(iter(table.values()))) for table in (before, after)]
    shared = min(counts)
    first: tuple[int, str] | None = None
    for name, left in before.items():
        right = after[name]
        if left.dtype.kind != right.dtype.kind or left.dtype.itemsize != right.dtype.itemsize:
            right = right.astype(left.dtype)
        rows = np.flatnonzero(differing(left[:shared], right[:shared]))
        if len(rows) and (first is None or rows[0] < first[0]):
            first = int(rows[0]), name
    if first is not None:
        row, name = first
        values = f"{_text(before, name, row)} -> {_text(after, name, row)}"
        return f"{_when(before, row)}: {name} {values}"
    return f"{counts[0]} rows -> {counts[1]} rows" if counts[0] != counts[1] else ""


def _when(table: Table, row: int) -> str:
    for name in TIME_COLUMNS:
        if name in table:
            return f"row {row + 1}, {iso_time(int(table[name][row]))}"
    return f"row {row + 1}"


def _text(table: Table, name: str, row: int) -> str:
    value = table[name][row].item() if hasattr(table[name][row], "item") else table[name][row]
    return iso_time(value) if name in TIME_COLUMNS else str(value)
