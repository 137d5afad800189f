"""Runs model_service: `python -m model_service`, or with --help to list its settings."""

import sys

from backlane.rpc.imports import kept_for_good

if __name__ == "__main__":
    with kept_for_good():
        from backlane.rpc.main import run
        from model_service.app import build
        from model_service.settings import ModelServiceSettings

    sys.exit(run(ModelServiceSettings, build))
