"""Runs backtest_service: `python -m backtest_service`, or with --help to list its settings."""

import sys

from backlane.rpc.main import run
from backtest_service.app import build
from backtest_service.settings import BacktestServiceSettings

if __name__ == "__main__":
    sys.exit(run(BacktestServiceSettings, build))
