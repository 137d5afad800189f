"""`backlane backtest verify`: run the request of a result again, and compare to the bit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backlane.cli.exit_codes import ExitCode
from backlane.cli.options import Home, Json, ModelsDir
from backlane.cli.output import print_json, print_table, say
from backlane.cli.places import home_of, models_dir_of
from backlane.errors import BacklaneError

if TYPE_CHECKING:
    from backlane.audit.recorded import RecordedResult
    from backlane.audit.verify import Verification
    from backlane.backtest.request import BacktestRequest
    from backlane.backtest.result import BacktestRun

ResultDirectory = Annotated[
    Path, typer.Argument(metavar="RESULT_DIR", help="What `backlane backtest run --out` wrote.")
]
ModelPath = Annotated[
    Path | None,
    typer.Option("--model-path", help="The bundle's folder (default: as in the request)."),
]
Data = Annotated[
    list[str] | None,
    typer.Option("--data", help="TIMEFRAME=FILE: where the bars are now (default: the request's)."),
]

DIGEST_SHOWN = 19
"""Characters of a digest in a table: sha256: and twelve digits."""


def verify(
    result_dir: ResultDirectory,
    model_path: ModelPath = None,
    data: Data = None,
    as_json: Json = False,
    home: Home = None,
    models_dir: ModelsDir = None,
) -> None:
    """Run the request of a result again in this process, and compare everything to the bit.

    Ends with 0 when it is the same, with 1 when it is not (and says what differs first), with 2
    when it cannot be compared: the result, the model or the bars are not there.
    """
    from backlane.cli.failure import report_error, report_plain
    from backlane.cli.recorded import read_recorded, request_again

    place = home_of(home)
    try:
        recorded = read_recorded(result_dir)
        request = request_again(recorded, model_path, data or ())
        run = _run(request, models_dir=models_dir_of(models_dir, place), home=place)
    except BacklaneError as error:
        raise typer.Exit(report_error(error, as_json=as_json, code=ExitCode.USAGE)) from None
    except OSError as error:
        code = report_plain(
            "OS_ERROR", f"{error.filename}: {error.strerror}", ExitCode.USAGE, as_json=as_json
        )
        raise typer.Exit(code) from None
    compared = _compare(recorded, run)
    if as_json:
        print_json(compared.to_document())
    else:
        _print_comparison(compared)
    raise typer.Exit(ExitCode.OK if compared.is_same else ExitCode.FAILED)


def _run(request: "BacktestRequest", *, models_dir: Path, home: Path) -> "BacktestRun":
    from backlane.cli.local_run import LocalRun

    return LocalRun(request, models_dir, home).work()


def _compare(recorded: "RecordedResult", run: "BacktestRun") -> "Verification":
    from backlane.audit.verify import compare_results
    from backlane.cli.recorded import recorded_run

    return compare_results(recorded, recorded_run(run))


def _print_comparison(compared: "Verification") -> None:
    print_table(
        ("digest", "recorded", "again", ""),
        [
            (name, before[:DIGEST_SHOWN], after[:DIGEST_SHOWN], _word(before == after))
            for name, (before, after) in compared.digests.items()
        ],
    )
    print_table(
        ("part", "", "what differs first"),
        [(part.part, _word(part.is_same), part.detail) for part in compared.parts],
    )
    say(compared.engine.statement)
    first = compared.first_difference
    if compared.is_same:
        say(
            "The same, to the bit." + (f" (Another {first.part}, without effect.)" if first else "")
        )
    elif first is None:
        say("Different, in what the files do not show.")
    else:
        say(f"Different: the first part that differs is {first.part}.")


def _word(is_same: bool) -> str:
    return "same" if is_same else "differs"
