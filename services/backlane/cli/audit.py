"""`backlane audit …`: whether anything looks ahead, and whether all is warm.

Of a model on one instrument, by the options of a request, or of a portfolio, by its configuration.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backlane.cli.exit_codes import ExitCode
from backlane.cli.options import Home, Json, ModelsDir
from backlane.cli.output import is_terminal, print_json, print_table, say, say_aside
from backlane.cli.places import home_of, models_dir_of
from backlane.cli.request_options import RequestOptions, build_request, takes_request

if TYPE_CHECKING:
    from backlane.audit.portfolio_stamp import PortfolioStamp
    from backlane.audit.stamp import AuditFinding, AuditStamp

app = typer.Typer(
    name="audit", help="Look for look-ahead and cold indicators.", no_args_is_help=True
)

REPLAYS_MAX = 1000
Seed = Annotated[int, typer.Option("--seed", min=0, help="Which bars are drawn.")]
Config = Annotated[
    Path | None,
    typer.Argument(metavar="[CONFIG]", help="A portfolio configuration, in the place of a model."),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Write the stamp here, as JSON, for a report.")
]


@app.command("lookahead")
@takes_request
def lookahead(
    options: RequestOptions,
    config: Config = None,
    bars: Annotated[
        int, typer.Option("--bars", min=1, max=REPLAYS_MAX, help="At how many bars to cut.")
    ] = 20,
    seed: Seed = 0,
    out: Out = None,
    as_json: Json = False,
    home: Home = None,
    models_dir: ModelsDir = None,
) -> None:
    """Ask whether anything depends on later bars: replay the run with its future gone, or shuffled.

    Ends with 0 when every feature, score, decision, order and equity is the same to the bit. Of a
    portfolio, the events that were not disclosed yet are taken away and shuffled, too.
    """
    choice = {"bar_count": bars, "seed": seed}
    if config is not None:
        from backlane.audit.portfolio_lookahead import audit_portfolio_lookahead

        _conclude(
            _audit_portfolio(
                audit_portfolio_lookahead, config, options, choice, (home, models_dir)
            ),
            out,
            as_json=as_json,
        )
        return
    from backlane.audit.lookahead import audit_lookahead

    stamp = _audit(audit_lookahead, choice, options, home, models_dir)
    _conclude(stamp, out, as_json=as_json)


@app.command("warmup")
@takes_request
def warmup(
    options: RequestOptions,
    config: Config = None,
    starts: Annotated[
        int, typer.Option("--starts", min=1, max=REPLAYS_MAX, help="How many start dates to try.")
    ] = 20,
    history: Annotated[
        int | None,
        typer.Option(min=1, help="Of a portfolio: bars before the first one that is compared."),
    ] = None,
    seed: Seed = 0,
    out: Out = None,
    as_json: Json = False,
    home: Home = None,
    models_dir: ModelsDir = None,
) -> None:
    """Ask whether a start date changes anything: compare what is loaded with all history.

    Ends with 0 when no decision of the model, or no target of the strategies, changes.
    """
    if config is not None:
        from backlane.audit.portfolio_warmup import audit_portfolio_warmup

        wanted = {"start_count": starts, "history_bars": history, "seed": seed}
        _conclude(
            _audit_portfolio(audit_portfolio_warmup, config, options, wanted, (home, models_dir)),
            out,
            as_json=as_json,
        )
        return
    if history is not None:
        message = "--history is for portfolios; a model says itself what it loads."
        raise typer.BadParameter(message)
    from backlane.audit.warmup import audit_warmup

    stamp = _audit(audit_warmup, {"start_count": starts, "seed": seed}, options, home, models_dir)
    _conclude(stamp, out, as_json=as_json)


def _audit(
    audit: Callable[..., "AuditStamp"],
    choice: dict[str, int],
    options: RequestOptions,
    home: Path | None,
    models_dir: Path | None,
) -> "AuditStamp":
    """Loads what the request names, and audits it."""
    from backlane.cli.local_run import LocalRun
    from backlane.cli.version import read_versions
    from backlane.market.digest import bars_digest
    from backlane.sources.bundle import load_predictor

    request, place = build_request(options, is_local=True), home_of(home)
    loader = LocalRun(request, models_dir_of(models_dir, place), place)
    bundle = loader.load_bundle()
    bars = loader.load_bars(bundle.info)
    stamp = audit(
        request,
        load_predictor(bundle),
        bars,
        **choice,
        dataset_digests={label: bars_digest(series) for label, series in bars.items()},
        versions=read_versions(),
        on_progress=_show if is_terminal() else None,
    )
    if is_terminal():
        say_aside("")
    return stamp


def _audit_portfolio(
    audit: "Callable[..., PortfolioStamp]",
    config: Path,
    options: RequestOptions,
    choice: Mapping[str, int | None],
    places: tuple[Path | None, Path | None],
) -> "PortfolioStamp":
    """Loads what a configuration names, and audits it."""
    from backlane.cli.audit_portfolio import audit_config

    stamp = audit_config(audit, config, options, choice, places, _show if is_terminal() else None)
    if is_terminal():
        say_aside("")
    return stamp


def _show(done: int, total: int) -> None:
    typer.echo(f"\r{done} of {total}", err=True, nl=False)


def _conclude(stamp: "AuditStamp | PortfolioStamp", out: Path | None, *, as_json: bool) -> None:
    document: dict[str, Any] = stamp.to_document()
    if out is not None:
        out.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if as_json:
        print_json(document)
    else:
        _print(stamp)
        if out is not None:
            say(f"stamp  {out}")
    raise typer.Exit(ExitCode.OK if stamp.is_passed else ExitCode.FAILED)


def _print(stamp: "AuditStamp | PortfolioStamp") -> None:
    from backlane.audit.portfolio_stamp import PortfolioStamp

    if isinstance(stamp, PortfolioStamp):
        from backlane.cli.audit_portfolio import print_portfolio_stamp

        print_portfolio_stamp(stamp)
    else:
        _print_stamp(stamp)


def _print_stamp(stamp: "AuditStamp") -> None:
    from backlane.audit.stamp import AuditKind, Verdict

    is_lookahead = stamp.kind is AuditKind.LOOKAHEAD
    places = "bars" if is_lookahead else "start dates"
    say(
        f"{stamp.model} on {stamp.symbol}, profile {stamp.profile}: {stamp.replay_count} replays "
        f"at {len(stamp.checked_ns)} {places} of {stamp.bar_count:,} bars, seed {stamp.seed}"
    )
    if stamp.findings:
        print_table(
            ("stage", "column", "first bar", "size", "replays", *(() if is_lookahead else _BARS)),
            [_row(finding, is_lookahead=is_lookahead) for finding in stamp.findings],
            right=("size", "replays", *_BARS),
        )
        for cause in dict.fromkeys(finding.cause for finding in stamp.findings):
            columns = [each.column for each in stamp.findings if each.cause == cause]
            say(f"{', '.join(columns)}: {cause}")
        say()
    for note in stamp.notes:
        say(f"note: {note}")
    say(
        _VERDICTS[stamp.kind, stamp.verdict]
        if stamp.verdict is not Verdict.CLEAN
        else _CLEAN[stamp.kind]
    )


def _row(finding: "AuditFinding", *, is_lookahead: bool) -> tuple[object, ...]:
    from backlane.audit.stamp import iso_time

    size = "" if finding.size is None else f"{finding.size:.3g}"
    row = (finding.stage, finding.column, iso_time(finding.first_ns), size, finding.replay_count)
    return row if is_lookahead else (*row, finding.bars_loaded, finding.bars_needed)


_BARS = ("loaded", "needed")
_CLEAN = {
    "lookahead": "Clean: nothing depends on later bars.",
    "warmup": "Clean: no start date changes anything.",
}
_VERDICTS = {
    ("lookahead", "columns_differ"): "LOOK-AHEAD: columns depend on later bars; no decision did.",
    ("lookahead", "decisions_differ"): "LOOK-AHEAD: decisions depend on later bars.",
    ("warmup", "columns_differ"): "Columns are not fully warm; no decision of the model changes.",
    ("warmup", "decisions_differ"): "NOT WARM: a start date changes decisions of the model.",
}
