"""`backlane report`: a result as one HTML page."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from backlane.cli.options import Json
from backlane.cli.output import print_json, say
from backlane.errors import FieldViolation, InvalidRequestError

app = typer.Typer(name="report")

ResultDirectory = Annotated[
    Path, typer.Argument(metavar="RESULT_DIR", help="What `run --out` wrote.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="The page (default: RESULT_DIR.html, beside the directory)."),
]
Stamps = Annotated[
    list[Path] | None,
    typer.Option("--stamp", metavar="FILE", help="A stamp of `backlane audit`, to be carried."),
]


@app.command("report")
def report(
    result_dir: ResultDirectory, out: Out = None, stamps: Stamps = None, as_json: Json = False
) -> None:
    """Write one HTML page about a result; it needs no network and is the same for a result."""
    from backlane.report.portfolio_frames import is_portfolio

    folder = result_dir.resolve()
    page = out or folder.with_name(f"{folder.name}.html")
    digests = _write(result_dir, page, stamps or (), is_portfolio=is_portfolio(result_dir))
    if as_json:
        content = page.read_bytes()
        print_json(
            {
                "report": str(page),
                "size_bytes": len(content),
                "digest": "sha256:" + hashlib.sha256(content).hexdigest(),
                **digests,
            }
        )
        return
    say(f"{page}  {page.stat().st_size / 2**20:.1f} MiB")


def _write(
    result_dir: Path, page: Path, stamps: Sequence[Path], *, is_portfolio: bool
) -> dict[str, str]:
    """Writes the page of either kind of result; returns the digests that the result names."""
    if is_portfolio:
        from backlane.report.portfolio_frames import load_portfolio
        from backlane.report.portfolio_page import write_portfolio_report

        if stamps:
            message = "Stamps are of runs over one instrument: leave --stamp out for a portfolio."
            raise InvalidRequestError(message, violations=(FieldViolation("stamp", message),))
        write_portfolio_report(load_portfolio(result_dir), page)
        return {}
    from backlane.report.frames import load_result
    from backlane.report.page import write_report
    from backlane.report.tables import read_stamp

    result = load_result(result_dir)
    write_report(result, page, [read_stamp(path) for path in stamps])
    return {"result_digest": result.document.result_digest}
