"""The versions of everything that a result was computed with."""

import platform
from collections.abc import Mapping
from importlib.metadata import version

from backlane.sources.engine_source import ENGINE, engine_digest

PACKAGES = ("backlane", "numpy", "numba", "pyarrow")


def read_versions(model_runtime: Mapping[str, str]) -> dict[str, str]:
    """Returns the versions here, and what model_service says that it predicts with."""
    here = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    return {**model_runtime, **here, ENGINE: engine_digest()}
