"""`backlane report`: a result as one HTML page."""

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from backlane.cli.options import Json
from backlane.cli.output import print_json, say

app = typer.Typer(name="report")

ResultDirectory = Annotated[
    Path, typer.Argument(metavar="RESULT_DIR", help="What `backlane backtest run --out` wrote.")
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
    from backlane.report.frames import load_result
    from backlane.report.page import write_report
    from backlane.report.tables import read_stamp

    folder = result_dir.resolve()
    page = out or folder.with_name(f"{folder.name}.html")
    result = load_result(result_dir)
    write_report(result, page, [read_stamp(path) for path in stamps or ()])
    if as_json:
        content = page.read_bytes()
        print_json(
            {
                "report": str(page),
                "size_bytes": len(content),
                "digest": "sha256:" + hashlib.sha256(content).hexdigest(),
                "result_digest": result.document.result_digest,
            }
        )
        return
    say(f"{page}  {page.stat().st_size / 2**20:.1f} MiB")
