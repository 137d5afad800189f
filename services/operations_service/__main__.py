"""Runs operations_service: `python -m operations_service`, or with --help to list its settings."""

import sys

from backlane.rpc.imports import kept_for_good

if __name__ == "__main__":
    with kept_for_good():
        from backlane.rpc.main import run
        from operations_service.app import build
        from operations_service.settings import OperationsServiceSettings

    sys.exit(run(OperationsServiceSettings, build))
