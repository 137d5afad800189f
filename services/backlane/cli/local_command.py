"""The life of `backlane backtest run --local`: run it here, write it, show it."""

from pathlib import Path

from backlane.backtest.observer import PhaseTimer
from backlane.backtest.request import BacktestRequest
from backlane.backtest.summarize import summarize_run
from backlane.cli.display import new_display
from backlane.cli.local_run import run_local
from backlane.cli.outcome import outcome_document, print_outcome
from backlane.cli.output import print_json, say_aside
from backlane.clock import SystemClock
from backlane.sources.results import write_result


def run_here(
    request: BacktestRequest, out: Path | None, *, home: Path, models_dir: Path, as_json: bool
) -> None:
    """Runs the request in this process, writes the result to `out`, and says what it gave."""
    try:
        with new_display(as_json=as_json) as display:
            run = run_local(request, models_dir=models_dir, home=home, display=display)
    except KeyboardInterrupt:
        if as_json:
            print_json({"operation": None, "interrupted": True})
        say_aside("Stopped; nothing is written.")
        raise
    if out is not None:
        timer = PhaseTimer(SystemClock())
        timer.entered("result", len(run.bars))
        write_result(run, out)
        timer.stop()
        run = run.timed(timer.timings)
    summary = summarize_run(run)
    if as_json:
        print_json(outcome_document(summary, operation=None, out=out))
    else:
        print_outcome(summary, operation=None, out=out)
