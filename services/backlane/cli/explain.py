"""`backlane explain`: everything that a result knows about one bar."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backlane.cli.options import Home, Json, ModelsDir
from backlane.cli.output import print_json, print_table, say
from backlane.cli.places import home_of, models_dir_of
from backlane.cli.verify import Data, ModelPath, ResultDirectory
from backlane.errors import BacklaneError, FieldViolation, InvalidRequestError

if TYPE_CHECKING:
    from backlane.audit.indicators_at import IndicatorValue
    from backlane.audit.recorded import RecordedResult
    from backlane.audit.story import BarStory, FillStory
    from backlane.backtest.request import BacktestRequest
    from backlane.inference.model_info import ModelInfo
    from backlane.market.bars import BarSeries

app = typer.Typer(name="explain", add_completion=False)

_NOT_FOUND = (BacklaneError, OSError)
"""Why a model or bars are not at hand: the story then goes without them."""
_FROM_SIMULATED = "Indicators are computed from the simulated bars alone"


@app.command("explain")
def explain(
    result_dir: ResultDirectory,
    time: Annotated[
        str, typer.Option("--time", help="ISO 8601, UTC: the bar that opens at it or contains it.")
    ],
    model_path: ModelPath = None,
    data: Data = None,
    as_json: Json = False,
    home: Home = None,
    models_dir: ModelsDir = None,
) -> None:
    """Tell the story of one bar: features, scores, filters, order, fill, position and equity.

    The result directory is enough. Where the model and the bars are still at hand, the raw values
    of the indicators are computed again.
    """
    from backlane.audit.explain import bar_at, explain_bar
    from backlane.audit.recorded import DECISIONS
    from backlane.cli.recorded import read_recorded, request_again

    recorded = read_recorded(result_dir)
    index = bar_at(recorded, _time_ns(time))
    request = request_again(recorded, model_path, data or ())
    place = home_of(home)
    bar_ns = int(recorded.tables[DECISIONS]["time"][index])
    indicators, notes = _indicators(
        recorded, request, bar_ns, models_dir=models_dir_of(models_dir, place), home=place
    )
    story = explain_bar(recorded, index, indicators=indicators, notes=notes)
    if as_json:
        print_json(story.to_document())
    else:
        _print_story(story)


def _time_ns(text: str) -> int:
    from datetime import datetime

    from backlane.backtest.request import moment_ns

    try:
        return moment_ns(datetime.fromisoformat(text.strip()))
    except ValueError:
        message = f"{text!r} is no time: write ISO 8601, as in 2023-05-04T10:00:00Z."
        raise InvalidRequestError(
            message, violations=(FieldViolation("--time", message),)
        ) from None


def _indicators(
    recorded: "RecordedResult",
    request: "BacktestRequest",
    bar_ns: int,
    *,
    models_dir: Path,
    home: Path,
) -> tuple[tuple["IndicatorValue", ...], tuple[str, ...]]:
    """Returns the raw values where they can be computed again, and why the others cannot."""
    from backlane.audit.indicators_at import indicators_at

    try:
        info = _model_info(request, models_dir)
    except _NOT_FOUND as error:
        return (), (f"No indicator values: {_said(error)} --model-path says where it is.",)
    if info.digest != recorded.document["model"]["digest"]:
        return (), (f"No indicator values: {info.name} is another bundle by now.",)
    bars, notes = _bars(recorded, request, info, models_dir=models_dir, home=home)
    is_cut = bars is None
    series = _recorded_bars(recorded) if bars is None else bars
    values = indicators_at(info, request.resolved_switches(), series, bar_ns, is_cut=is_cut)
    return values, notes


def _model_info(request: "BacktestRequest", models_dir: Path) -> "ModelInfo":
    from backlane.inference.model_name import ModelName
    from backlane.sources.bundle import read_bundle_info
    from backlane.sources.bundle_paths import resolve_bundle

    if request.model.path is not None:
        return read_bundle_info(Path(request.model.path))
    name = ModelName.parse(request.model.resource_name, field="model")
    return read_bundle_info(resolve_bundle(models_dir, name), root=models_dir)


def _bars(
    recorded: "RecordedResult",
    request: "BacktestRequest",
    info: "ModelInfo",
    *,
    models_dir: Path,
    home: Path,
) -> tuple[dict[str, "BarSeries"] | None, tuple[str, ...]]:
    """Returns the bars that the run read, cut as it cut them; None where they are not at hand."""
    from backlane.backtest.window import cut_window
    from backlane.cli.local_run import LocalRun
    from backlane.market.digest import bars_digest

    try:
        bars = LocalRun(request, models_dir, home).load_bars(info)
    except _NOT_FOUND as error:
        return None, (f"{_FROM_SIMULATED}: {_said(error)}",)
    digests = recorded.document["datasets"]
    changed = [label for label, series in bars.items() if bars_digest(series) != digests.get(label)]
    if changed:
        labels = ", ".join(changed)
        return None, (f"{_FROM_SIMULATED}: the bars of {labels} have changed since.",)
    window = cut_window(request, info.strategy, bars, request.resolved_switches())
    return dict(window.bars), ()


def _recorded_bars(recorded: "RecordedResult") -> dict[str, "BarSeries"]:
    from backlane.audit.recorded import BARS
    from backlane.market.bars import BarSeries
    from backlane.market.timeframe import Timeframe

    table, config = recorded.tables.get(BARS), recorded.document["config"]
    if table is None:
        return {}
    label = str(config["timeframe"])
    columns = [table[name] for name in ("time", "open", "high", "low", "close", "volume")]
    return {label: BarSeries(str(config["symbol"]), Timeframe.parse(label), *columns)}


def _said(error: Exception) -> str:
    if isinstance(error, BacklaneError):
        return error.message
    return f"{getattr(error, 'filename', '')}: {getattr(error, 'strerror', error)}."


def _print_story(story: "BarStory") -> None:
    from backlane.audit.stamp import iso_time

    say(
        f"bar {story.number} of {story.bar_count:,}: opens {iso_time(story.open_ns)}, closes "
        f"{iso_time(story.close_ns)}"
    )
    if story.prices:
        say("  " + "  ".join(f"{name} {value!r}" for name, value in story.prices.items()))
    for fill in story.fills:
        _print_fill("fill on this bar", fill)
    say()
    print_table(
        ("feature", "value"),
        [(name, _number(value)) for name, value in story.features.items()],
        right=("value",),
    )
    if story.indicators:
        print_table(
            ("timeframe", "indicator", "value", "at the bar", ""),
            [
                (
                    each.timeframe,
                    each.indicator,
                    _number(each.value),
                    "" if each.bar_ns is None else iso_time(each.bar_ns),
                    each.reason,
                )
                for each in story.indicators
            ],
            right=("value",),
        )
    scores = {**story.scores, "confidence": story.confidence}
    say("scores    " + "  ".join(f"{name} {_number(value)}" for name, value in scores.items()))
    say(f"model     {story.raw_decision}")
    say(f"position  {_held(story)}")
    print_table(
        ("filter", "", "numbers"),
        [(step.name, step.state.value, step.numbers) for step in story.filters],
    )
    say(f"decision  {story.decision} ({story.reason})")
    _print_outcome(story)
    for note in story.notes:
        say(f"note: {note}")


def _print_outcome(story: "BarStory") -> None:
    if story.order is not None:
        order = story.order
        say(f"order     {order.side} to {order.purpose}: {order.outcome}")
        if order.fill is not None:
            _print_fill("fill", order.fill)
    account = story.account
    if account is None:
        say("account   not marked at this bar")
        return
    say(f"equity    {account.equity!r}" + _change(account.equity, account.equity_before))
    say(f"cash      {account.cash!r}" + _change(account.cash, account.cash_before))
    say(f"units     {account.position:.10g}")
    if account.arithmetic:
        say(f"          {account.arithmetic}")


def _print_fill(title: str, fill: "FillStory") -> None:
    from backlane.audit.stamp import iso_time

    say(
        f"{title}: {fill.side} {fill.quantity:.10g} to {fill.action} at {fill.price!r}, "
        f"{iso_time(fill.time_ns)} ({fill.reason})"
    )
    say(f"  price       {fill.price_arithmetic}")
    say(f"  commission  {fill.commission_arithmetic}")


def _held(story: "BarStory") -> str:
    from backlane.audit.stamp import iso_time

    held = story.held
    if held.entry_price is None or held.entry_ns is None:
        return held.side
    pnl = "" if held.unrealized_pnl is None else f", unrealized {held.unrealized_pnl:+,.2f}"
    return (
        f"{held.side} {held.quantity:.10g} from {held.entry_price!r} at {iso_time(held.entry_ns)}"
        f"{pnl}"
    )


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.9g}"


def _change(now: float, before: float | None) -> str:
    return "" if before is None else f"  ({now - before:+,.2f})"
