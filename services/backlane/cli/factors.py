"""`backlane factors …`: what the factor store holds, and how to empty it."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from backlane.cli.options import Home, Json
from backlane.cli.output import print_json, print_table, say
from backlane.cli.places import home_of
from backlane.errors import FieldViolation, InvalidRequestError

if TYPE_CHECKING:
    from backlane.sources.factor_parts import Entry

app = typer.Typer(
    name="factors", help="Look at stored factors, and clear them.", no_args_is_help=True
)

DIGEST_SHOWN = 12
"""Characters of a key in a table."""
_MIB = 2**20


@app.command("list")
def list_factors(home: Home = None, as_json: Json = False) -> None:
    """List what the factor store holds: which factors, of which bars, and how large."""
    from backlane.sources.factor_store import home_store

    store = home_store(home_of(home))
    entries = list(store.entries())
    if as_json:
        print_json(
            {
                "root": str(store.root),
                "size_bytes": store.size_bytes(),
                "size_bytes_max": store.size_bytes_max,
                "entries": [_document(entry) for entry in entries],
            }
        )
        return
    if not entries:
        say(f"{store.root} holds no factors.")
        return
    print_table(
        ("group", "key", "factors", "instruments", "bars", "to", "MiB"),
        [
            (
                entry.group,
                entry.path.parent.name[:DIGEST_SHOWN],
                ", ".join(entry.columns),
                len(entry.symbols),
                f"{entry.row_count:,}",
                _time(entry.last_ns)[:10],
                f"{entry.size_bytes / _MIB:.1f}",
            )
            for entry in entries
        ],
        right=("instruments", "bars", "MiB"),
    )
    size, size_max = store.size_bytes() / _MIB, store.size_bytes_max / _MIB
    say(f"{store.root}: {size:,.1f} of at most {size_max:,.0f} MiB")


@app.command("clear")
def clear_factors(
    group: Annotated[
        str | None, typer.Option("--group", help="Only this group (default: everything).")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Remove stored factors; they are computed again when a run asks for them."""
    from backlane.sources.factor_store import home_store

    store = home_store(home_of(home))
    groups = {entry.group for entry in store.entries()}
    if group is not None and group not in groups:
        known = f"there are {', '.join(sorted(groups))}" if groups else "the store is empty"
        message = f"There is no group {group[:80]!r}: {known}."
        raise InvalidRequestError(message, violations=(FieldViolation("group", message),))
    freed = store.clear(group)
    if as_json:
        print_json({"root": str(store.root), "freed_bytes": freed})
        return
    say(f"{freed / _MIB:,.1f} MiB freed")


def _document(entry: "Entry") -> dict[str, object]:
    return {
        "group": entry.group,
        "key": entry.path.parent.name,
        "parameters": entry.parameters,
        "code": entry.code,
        "factors": list(entry.columns),
        "instruments": len(entry.symbols),
        "bars": entry.row_count,
        "first_time": _time(entry.first_ns),
        "last_time": _time(entry.last_ns),
        "size_bytes": entry.size_bytes,
    }


def _time(time_ns: int | None) -> str:
    if time_ns is None:
        return ""
    moment = datetime.fromtimestamp(time_ns // 10**9, UTC)
    return moment.isoformat().replace("+00:00", "Z")
