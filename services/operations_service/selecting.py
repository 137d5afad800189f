"""A selection as SQL: which operations a list, a snapshot or a page of the log is about.

A list must answer in milliseconds whatever is chosen of a million. So the ids are put together from
runs of an index, each in the order of the list already: one for each state and kind that may be
chosen, or for a label and each state. Only the beginning of each run is read.

To put such a statement together takes longer than to run it. So it is made once for each shape: how
many states, kinds and labels are asked for; which ones are values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import sqlalchemy as sa

from backlane.operations.operation import State
from backlane.operations.selection import ListOrder, Selection
from operations_service import schema
from operations_service.statements import OPERATION_COLUMNS, OPERATION_ROWS

RUNS_MAX = 64
"""Runs that are merged; where there would be more, kinds are looked at one by one."""

NO_LIMIT = (1 << 62) - 1
"""More than there ever are."""

_operations, _events = schema.operations.c, schema.events.c
_labels = schema.operation_labels.c
_ALL_STATES = tuple(sorted(state.value for state in State))

Ids = sa.Select[Any]
Clause = sa.ColumnElement[bool]
Bound = sa.BindParameter[Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a statement is made for: the columns that tell runs apart, and how many runs.

    `name_count`, `state_count`, `kind_count` and `label_count` are asked of each operation that is
    found in a run, beside that.
    """

    columns: tuple[str, ...]
    run_count: int
    order: ListOrder
    has_cursor: bool
    name_count: int = 0
    state_count: int = 0
    kind_count: int = 0
    label_count: int = 0

    @property
    def is_by_label(self) -> bool:
        """Whether the runs are those of the index of labels."""
        return "key" in self.columns

    @property
    def is_narrow(self) -> bool:
        """Whether not all that is in the runs is chosen."""
        return bool(self.state_count or self.kind_count or self.label_count)


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of a list: at most `most` operations beyond the cursor, in the order."""

    order: ListOrder
    cursor: int | None
    most: int


@dataclass(frozen=True, slots=True)
class Choice:
    """A selection as a shape, and the values that go with it."""

    shape: Shape
    values: dict[str, Any]


def choice_of(selection: Selection, place: Place, key: str | None) -> Choice:
    """Returns how to find a selection; `key` is that of the label to begin with, if there is one.

    Up to `candidates` operations are looked at: that value, and `most`, may be changed.
    """
    columns, runs, asked = _plan(selection, key)
    shape = Shape(
        columns,
        len(runs),
        place.order,
        place.cursor is not None,
        **{f"{what}_count": len(values) for what, values in asked.items()},
    )
    values: dict[str, Any] = {"cursor": place.cursor, "most": place.most, "candidates": NO_LIMIT}
    for number, run in enumerate(runs):
        values.update(
            {f"{column}_{number}": value for column, value in zip(columns, run, strict=True)}
        )
    for what, wanted in asked.items():
        for number, value in enumerate(wanted):
            if what == "label":
                values[f"label_key_{number}"], values[f"label_value_{number}"] = value
            else:
                values[f"asked_{what}_{number}"] = value
    return Choice(shape, values)


@cache
def page_of(shape: Shape) -> sa.Select[Any]:
    """Returns the statement that reads operations of a shape, in order."""
    query = sa.select(*OPERATION_COLUMNS).select_from(OPERATION_ROWS)
    query = query.where(_operations.id.in_(_chosen_ids(shape)))
    return query.order_by(_in_order(_operations.id, shape.order))


@cache
def end_of_candidates(shape: Shape) -> sa.ClauseElement:
    """Returns the statement that counts the candidates of a shape, and gives the last of them."""
    ids = _candidates(shape).subquery()
    last = sa.func.min if shape.order is ListOrder.NEWEST_FIRST else sa.func.max
    return sa.select(sa.func.count().label("count"), last(_only(ids)).label("last"))


HOW_MANY_HAVE = sa.select(sa.func.count().label("count")).select_from(
    sa.select(_labels.operation_id)
    .where(_labels.key == sa.bindparam("label_key"), _labels.value == sa.bindparam("label_value"))
    .limit(sa.bindparam("most"))
    .subquery()
)
"""Counts the operations with a label, up to a limit."""


def chosen_events(selection: Selection) -> Sequence[Clause]:
    """Returns what chooses events that are joined with their operations."""
    clauses = list(_identity(selection))
    if selection.states:
        states = sorted(selection.states)
        clauses.append(sa.or_(_events.state.in_(states), _events.from_state.in_(states)))
    return clauses


def chosen_ended(selection: Selection) -> Sequence[Clause]:
    """Returns what chooses operations that have ended, deleted ones among them."""
    clauses = [_operations.end_time_ns.is_not(None), *_identity(selection)]
    if selection.states:
        clauses.append(_operations.state.in_(sorted(selection.states)))
    return clauses


def _plan(
    selection: Selection, key: str | None
) -> tuple[tuple[str, ...], list[tuple[str, ...]], dict[str, list[Any]]]:
    """Returns the columns of the runs, the runs, and what is asked beside them."""
    states, kinds = sorted(selection.states), sorted(selection.kinds)
    labels = sorted(selection.labels.items())
    if selection.names:
        names: list[tuple[str, ...]] = [(name,) for name in sorted(selection.names)]
        return ("name",), names, {"state": states, "kind": kinds, "label": labels}
    if key is not None:
        value, listed = selection.labels[key], states or _ALL_STATES
        others = [label for label in labels if label[0] != key]
        runs: list[tuple[str, ...]]
        if kinds and len(kinds) * len(listed) <= RUNS_MAX:
            runs = [(key, value, kind, state) for kind, state in product(kinds, listed)]
            return ("key", "value", "kind", "state"), runs, {"label": others}
        runs = [(key, value, state) for state in listed]
        return ("key", "value", "state"), runs, {"kind": kinds, "label": others}
    if len(states) * len(kinds) > RUNS_MAX:
        return ("state",), [(state,) for state in states], {"kind": kinds}
    columns = tuple(name for name, values in (("state", states), ("kind", kinds)) if values)
    return columns, list(product(*(values for values in (states, kinds) if values))), {}


def _chosen_ids(shape: Shape) -> Ids:
    candidates = _candidates(shape)
    if not shape.is_narrow:
        return candidates
    ids = candidates.subquery()
    id_column = _only(ids)
    query = sa.select(id_column).where(*_asked(shape, id_column))
    return query.order_by(_in_order(id_column, shape.order)).limit(sa.bindparam("most"))


def _candidates(shape: Shape) -> Ids:
    """Returns the ids in all runs of a shape, merged and cut."""
    most: Bound = sa.bindparam("candidates" if shape.is_narrow else "most")
    if shape.columns == ("name",):
        names: list[Bound] = [sa.bindparam(f"name_{number}") for number in range(shape.run_count)]
        query = sa.select(_operations.id).where(_listed(), _operations.name.in_(names))
        return _cut(query, shape, most)
    runs = [_cut(_run(shape, number), shape, most) for number in range(shape.run_count)]
    if len(runs) == 1:
        return runs[0]
    # SQLite wants each part that has an order and a limit to be a query of its own.
    parts = [sa.select(_only(run.subquery())) for run in runs]
    id_column = _only(sa.union_all(*parts).subquery())
    return sa.select(id_column).order_by(_in_order(id_column, shape.order)).limit(most)


def _run(shape: Shape, number: int) -> Ids:
    table = schema.operation_labels if shape.is_by_label else schema.operations
    same = [table.c[column] == sa.bindparam(f"{column}_{number}") for column in shape.columns]
    if shape.is_by_label:
        return sa.select(_labels.operation_id).where(*same)
    return sa.select(_operations.id).where(_listed(), *same)


def _cut(query: Ids, shape: Shape, most: Bound) -> Ids:
    (id_column,) = query.selected_columns
    if shape.has_cursor:
        cursor: Bound = sa.bindparam("cursor")
        is_down = shape.order is ListOrder.NEWEST_FIRST
        query = query.where(id_column < cursor if is_down else id_column > cursor)
    return query.order_by(_in_order(id_column, shape.order)).limit(most)


def _asked(shape: Shape, id_column: sa.ColumnElement[int]) -> Iterator[Clause]:
    """Yields what is asked of the operations in the runs."""
    row = schema.operations.alias()
    of_row = []
    for what, count in (("state", shape.state_count), ("kind", shape.kind_count)):
        if count:
            wanted: list[Bound] = [
                sa.bindparam(f"asked_{what}_{number}") for number in range(count)
            ]
            of_row.append(row.c[what].in_(wanted))
    if of_row:
        yield sa.exists(sa.select(row.c.id).where(row.c.id == id_column, *of_row))
    for number in range(shape.label_count):
        key: Bound = sa.bindparam(f"label_key_{number}")
        value: Bound = sa.bindparam(f"label_value_{number}")
        yield _has_label(id_column, key, value)


def _listed() -> Clause:
    return _operations.is_deleted.is_(False)


def _in_order(id_column: sa.ColumnElement[int], order: ListOrder) -> sa.ColumnElement[int]:
    return id_column.desc() if order is ListOrder.NEWEST_FIRST else id_column.asc()


def _only(query: sa.FromClause) -> sa.ColumnElement[int]:
    (column,) = query.c
    return column


def _identity(selection: Selection) -> Iterator[Clause]:
    if selection.names:
        yield _operations.name.in_(sorted(selection.names))
    if selection.kinds:
        yield _operations.kind.in_(sorted(selection.kinds))
    for key, value in sorted(selection.labels.items()):
        yield _has_label(_operations.id, sa.literal(key), sa.literal(value))


def _has_label(
    id_column: sa.ColumnElement[int], key: sa.ColumnElement[str], value: sa.ColumnElement[str]
) -> Clause:
    rows = schema.operation_labels.alias()
    having = sa.select(rows.c.operation_id).where(
        rows.c.operation_id == id_column, rows.c.key == key, rows.c.value == value
    )
    return sa.exists(having)
