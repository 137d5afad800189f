"""Runs backtest_service: `python -m backtest_service`, or with --help to list its settings."""

import sys

from backlane.rpc.imports import kept_for_good

if __name__ == "__main__":
    with kept_for_good():
        from backlane.rpc.main import run
        from backtest_service.app import build
        from backtest_service.settings import BacktestServiceSettings

    sys.exit(run(BacktestServiceSettings, build))
