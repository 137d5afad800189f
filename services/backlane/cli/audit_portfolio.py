"""`backlane audit …` of a portfolio configuration: reads it, audits it, shows the stamp."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from backlane.cli.output import print_table, say
from backlane.cli.request_options import RequestOptions
from backlane.errors import FieldViolation, InvalidRequestError

if TYPE_CHECKING:
    from backlane.audit.portfolio_stamp import PortfolioFinding, PortfolioStamp

FINDINGS_SHOWN_MAX = 50
"""Findings that the terminal shows; all are in the stamp."""
_BARS = ("loaded", "needed")
_CLEAN = {
    "lookahead": "Clean: nothing depends on later bars or events.",
    "warmup": "Clean: no start date changes anything.",
}
_VERDICTS = {
    ("lookahead", "columns_differ"): "LOOK-AHEAD: columns depend on later data; no decision did.",
    ("lookahead", "decisions_differ"): "LOOK-AHEAD: decisions depend on later data.",
    ("warmup", "columns_differ"): "Columns are not fully warm; no decision changes.",
    ("warmup", "decisions_differ"): "NOT WARM: a start date changes decisions.",
}


def audit_config(
    audit: Callable[..., "PortfolioStamp"],
    config: Path,
    options: RequestOptions,
    choice: Mapping[str, int | None],
    places: tuple[Path | None, Path | None],
    on_progress: Callable[[int, int], None] | None,
) -> "PortfolioStamp":
    """Reads what a configuration names, and audits it; `places` are home and models folder.

    Raises InvalidRequestError for options of a request beside the configuration, and what
    `portfolio run --local` raises.
    """
    from backlane.backtest.portfolio_request import file_roles
    from backlane.backtest.portfolio_run import parse_portfolio_config, plan_run
    from backlane.cli.local_strategies import LocalPlace
    from backlane.cli.portfolio import read_config
    from backlane.cli.version import read_versions
    from backlane.sources.portfolio_data import read_portfolio_data
    from backlane.sources.results import file_digest

    given = [each.name for each in fields(options) if getattr(options, each.name) is not None]
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        message = f"{names} say nothing to a portfolio: write it into {config}."
        raise InvalidRequestError(message, violations=(FieldViolation("config", message),))
    content, folder = read_config(config, None, None)
    strategies = LocalPlace(folder, *places, has_store=False).strategies()
    parsed = parse_portfolio_config(content, strategies)
    paths = {role: folder / name for role, name in file_roles(content).items()}
    panel, events = read_portfolio_data(paths)
    return audit(
        plan_run(parsed, tuple(events), strategies),
        panel,
        events,
        **choice,
        dataset_digests={role: file_digest(path) for role, path in paths.items()},
        versions=read_versions(),
        on_progress=on_progress,
    )


def print_portfolio_stamp(stamp: "PortfolioStamp") -> None:
    """Prints what was checked, what differs, why, and the verdict."""
    from backlane.audit.stamp import AuditKind, Verdict

    is_lookahead = stamp.kind is AuditKind.LOOKAHEAD
    say(
        f"{', '.join(stamp.strategies)} on {stamp.instrument_count} instruments: "
        f"{stamp.replay_count} replays at {len(stamp.checked_ns)} "
        f"{'bars' if is_lookahead else 'start dates'} of {stamp.bar_count:,} bars, "
        f"seed {stamp.seed}"
    )
    shown = stamp.findings[:FINDINGS_SHOWN_MAX]
    if shown:
        heads = ("stage", "column", "instrument", "first bar", "size", "replays")
        print_table(
            (*heads, *(() if is_lookahead else _BARS)),
            [_row(finding, is_lookahead=is_lookahead) for finding in shown],
            right=("size", "replays", *_BARS),
        )
        for cause in dict.fromkeys(finding.cause for finding in shown):
            named = (f"{each.stage} {each.column}" for each in shown if each.cause == cause)
            say(f"{', '.join(dict.fromkeys(named))}: {cause}")
        more = len(stamp.findings) - len(shown)
        say(f"and {more} more; --json or --out has them all." if more else "")
    for note in stamp.notes:
        say(f"note: {note}")
    verdict = (stamp.kind.value, stamp.verdict.value)
    say(_CLEAN[stamp.kind] if stamp.verdict is Verdict.CLEAN else _VERDICTS[verdict])


def _row(finding: "PortfolioFinding", *, is_lookahead: bool) -> tuple[object, ...]:
    from backlane.audit.stamp import iso_time

    size = "" if finding.size is None else f"{finding.size:.3g}"
    row = (
        finding.stage,
        finding.column,
        finding.instrument,
        iso_time(finding.first_ns),
        size,
        sum(finding.replays.values()),
    )
    return row if is_lookahead else (*row, finding.bars_loaded, finding.bars_needed)
