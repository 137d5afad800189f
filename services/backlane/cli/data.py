"""`backlane data …`: bring bars into the catalog, check them, look at them.

What computes is imported inside the commands, so that `backlane --help` stays light.
"""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backlane.cli.options import Json
from backlane.cli.output import print_json, say, say_aside
from backlane.errors import FieldViolation, InvalidRequestError

if TYPE_CHECKING:
    from backlane.market.bars import BarSeries
    from backlane.market.finding import QualityReport
    from backlane.sources.catalog import Catalog, Dataset

app = typer.Typer(
    name="data",
    help="Import bars into the catalog, check them, look at them.",
    no_args_is_help=True,
)

SAMPLE_SEED = 7
SAMPLE_YEARS = 2
MAX_SAMPLE_YEARS = 20
MAX_SHOWN_BARS = 1000
_COLORS = {"refuse": "red", "warn": "yellow", "info": "cyan"}

Symbol = Annotated[str, typer.Option("--symbol", "-s", help="The instrument, such as EURUSD.")]
Label = Annotated[str, typer.Option("--timeframe", "-t", help="The bars' length, such as 1h.")]
OptionalSymbol = Annotated[str | None, typer.Option("--symbol", "-s", help="The instrument.")]
OptionalLabel = Annotated[
    str | None, typer.Option("--timeframe", "-t", help="The bars' length, such as 1h.")
]
PriceScale = Annotated[
    float,
    typer.Option(help="What the file's prices are divided by: 100000 reads 127801 as 1.27801."),
]
Zone = Annotated[
    str,
    typer.Option("--timezone", help="The zone of stamps that carry none: an IANA name or +02:00."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="Which column of the file is which: volume=tick_volume; volume=none reads without it.",
    ),
]
Replace = Annotated[bool, typer.Option("--replace", help="Overwrite other bars of the same name.")]
Home = Annotated[
    Path | None, typer.Option(help="The home directory [BACKLANE_HOME, ~/.local/share/backlane].")
]


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="CSV, gzipped CSV or Parquet.")],
    symbol: Symbol,
    timeframe: Label,
    price_scale: PriceScale = 1.0,
    timezone: Zone = "UTC",
    column: Columns = None,
    replace: Replace = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Check the bars of a file and put them into the catalog.

    Bars that would make a backtest a lie are refused; nothing is repaired.
    """
    from backlane.market.timeframe import Timeframe
    from backlane.sources.files import read_bars

    read = read_bars(
        file,
        symbol,
        Timeframe.parse(timeframe),
        price_scale=price_scale,
        timezone=timezone,
        columns=_parse_columns(column),
        now_ns=time.time_ns(),
    )
    provenance = f"{file.name}, price scale {price_scale:g}, naive stamps in {timezone}"
    imported = _import(_catalog(home), read.series, provenance, replace=replace)
    if as_json:
        print_json({**imported, "report": _report_json(read.report)})
        return
    _print_findings(read.report)
    _print_imported(imported)


@app.command("check")
def check(
    file: Annotated[Path | None, typer.Argument(help="A file; without it, a dataset.")] = None,
    symbol: OptionalSymbol = None,
    timeframe: OptionalLabel = None,
    price_scale: PriceScale = 1.0,
    timezone: Zone = "UTC",
    column: Columns = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Report gaps, duplicates, disorder, impossible prices and clock trouble.

    Ends with exit code 1 when the bars would be refused.
    """
    from backlane.market.quality import check_bars
    from backlane.market.timeframe import Timeframe
    from backlane.sources.files import inspect_bars

    if timeframe is None or (file is None and symbol is None):
        message = "Name a FILE and its --timeframe, or the --symbol and --timeframe of a dataset."
        raise InvalidRequestError(message, violations=(FieldViolation("timeframe", message),))
    length = Timeframe.parse(timeframe)
    if file is None:
        source = f"{symbol} {timeframe}"
        series = _catalog(home).load(str(symbol), length)
        report = check_bars(series, now_ns=time.time_ns())
    else:
        source = str(file)
        _, report = inspect_bars(
            file,
            symbol or "UNNAMED",
            length,
            price_scale=price_scale,
            timezone=timezone,
            columns=_parse_columns(column),
            now_ns=time.time_ns(),
        )
    if as_json:
        print_json({"source": source, **_report_json(report)})
    else:
        say(f"{source}: {report.bar_count} bars")
        _print_findings(report)
        say("Refused." if report.is_refused else "Fit for a backtest.")
    if report.is_refused:
        raise typer.Exit(1)


@app.command("list")
def list_datasets(home: Home = None, as_json: Json = False) -> None:
    """List what the catalog holds."""
    catalog = _catalog(home)
    datasets, damaged = catalog.list(), catalog.damaged()
    if as_json:
        print_json(
            {
                "datasets": [_dataset_json(dataset) for dataset in datasets],
                "damaged": [str(path) for path in damaged],
            }
        )
        return
    for dataset in datasets:
        about = _dataset_json(dataset)
        say(
            f"{dataset.symbol}  {dataset.timeframe}  {dataset.bar_count} bars  "
            f"{about['first_open_time']} to {about['last_open_time']}  ({dataset.provenance})"
        )
    if not datasets:
        say("The catalog is empty: backlane data sample, or backlane data import FILE.")
    for path in damaged:
        say_aside(f"damaged: {path}; import its bars again with --replace")


@app.command("show")
def show(
    symbol: Symbol,
    timeframe: Label,
    bars: Annotated[
        int, typer.Option(min=0, max=MAX_SHOWN_BARS, help="How many of the first and last bars.")
    ] = 3,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show one dataset: where it comes from, its digest, its first and last bars."""
    from backlane.market.timeframe import Timeframe

    catalog = _catalog(home)
    dataset = catalog.get(symbol, Timeframe.parse(timeframe))
    series = catalog.load(symbol, dataset.timeframe, expected_digest=dataset.digest)
    first, last = _bars_json(series, 0, bars), _bars_json(series, max(bars, len(series) - bars))
    about = _dataset_json(dataset)
    if as_json:
        print_json({**about, "first_bars": first, "last_bars": last})
        return
    for name, value in about.items():
        say(f"{name:16} {value}")
    for bar in [*first, *last]:
        say("  ".join(str(value) for value in bar.values()))


@app.command("sample")
def sample(
    seed: Annotated[
        int, typer.Option(min=0, help="The same seed gives the same bars.")
    ] = SAMPLE_SEED,
    years: Annotated[int, typer.Option(min=1, max=MAX_SAMPLE_YEARS)] = SAMPLE_YEARS,
    replace: Replace = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write invented bars, SYNTHETIC_EURUSD 5m and 1h, for a first try without data."""
    from datetime import UTC, datetime

    from backlane.market.timeframe import Timeframe
    from backlane.sources.synthetic import aggregate, synthetic_bars

    week_count = round(years * 365.25 / 7)
    five_minutes = Timeframe.parse("5m")
    short = synthetic_bars(
        seed, datetime(2022, 1, 3, tzinfo=UTC), week_count * 5 * 288, five_minutes
    )
    long = aggregate(short, Timeframe.parse("1h"))
    catalog = _catalog(home)
    provenance = f"synthetic, seed {seed}"
    imported = [
        _import(catalog, short, provenance, replace=replace),
        _import(catalog, long, f"{provenance}, aggregated from 5m", replace=replace),
    ]
    if as_json:
        print_json({"imported": imported})
        return
    for one in imported:
        _print_imported(one)


def _catalog(home: Path | None) -> "Catalog":
    from backlane.sources.catalog import Catalog
    from backlane.sources.home import home_dir

    return Catalog(home or home_dir(os.environ))


def _parse_columns(texts: list[str] | None) -> dict[str, str]:
    columns = {}
    for text in texts or []:
        role, equals, name = text.partition("=")
        if not (equals and name):
            message = f"--column {text!r} does not read <bar's column>=<file's column>."
            raise InvalidRequestError(message, violations=(FieldViolation("column", message),))
        columns[role.strip().lower()] = name.strip()
    return columns


def _import(
    catalog: "Catalog", series: "BarSeries", provenance: str, *, replace: bool
) -> dict[str, Any]:
    before = catalog.list()
    dataset = catalog.import_bars(series, provenance, replace=replace)
    outcome = "unchanged" if dataset in before else "imported"
    return {"outcome": outcome, "dataset": _dataset_json(dataset)}


def _dataset_json(dataset: "Dataset") -> dict[str, Any]:
    from backlane.market.spacing import stamp_text

    return {
        "symbol": dataset.symbol,
        "timeframe": dataset.timeframe.label,
        "digest": dataset.digest,
        "bar_count": dataset.bar_count,
        "first_open_time": stamp_text(dataset.first_open_time_ns),
        "last_open_time": stamp_text(dataset.last_open_time_ns),
        "provenance": dataset.provenance,
        "imported_at": stamp_text(dataset.imported_at),
        "path": str(dataset.path),
    }


def _report_json(report: "QualityReport") -> dict[str, Any]:
    return {
        "bar_count": report.bar_count,
        "is_refused": report.is_refused,
        "findings": [
            {
                "code": str(found.code),
                "severity": str(found.severity),
                "count": found.count,
                "first_example": found.first_example,
                "message": found.message,
            }
            for found in report.findings
        ],
    }


def _bars_json(series: "BarSeries", start: int, stop: int | None = None) -> list[dict[str, Any]]:
    from backlane.market.spacing import stamp_text

    part = series.rows(start, len(series) if stop is None else min(stop, len(series)))
    return [
        {
            "open_time": stamp_text(part.open_time_ns[row]),
            "open": float(part.open[row]),
            "high": float(part.high[row]),
            "low": float(part.low[row]),
            "close": float(part.close[row]),
            "volume": float(part.volume[row]),
        }
        for row in range(len(part))
    ]


def _print_findings(report: "QualityReport") -> None:
    for found in report.findings:
        severity = typer.style(f"{found.severity:6}", fg=_COLORS[found.severity])
        example = f", first {found.first_example}" if found.first_example else ""
        say(f"{severity} {found.code}: {found.count}{example}")
        say(f"       {found.message}")


def _print_imported(imported: dict[str, Any]) -> None:
    about = imported["dataset"]
    what = "Imported" if imported["outcome"] == "imported" else "Already there, unchanged:"
    say(
        f"{what} {about['bar_count']} bars of {about['symbol']} {about['timeframe']}, "
        f"{about['first_open_time']} to {about['last_open_time']}"
    )
    say(f"{about['digest']}  {about['path']}")
