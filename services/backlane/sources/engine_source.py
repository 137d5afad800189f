"""Which engine this is: a digest of its source, which a version number alone does not tell."""

import functools
import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

ENGINE_STAGES = (
    "market",
    "panel",
    "indicators",
    "fuzzy",
    "features",
    "inference",
    "signals",
    "decisions",
    "execution",
    "portfolio",
    "risk",
    "cycle",
    "metrics",
    "backtest",
)
"""The folders whose code decides what a run gives; jit.py, which compiles them, counts too."""
FACTOR_STAGES = ENGINE_STAGES[: ENGINE_STAGES.index("signals") + 1]
"""Those whose code decides what a factor or a feature is: nothing that is about money."""
ENGINE = "engine"
"""What the digest is called among the versions of a result."""


@functools.cache
def engine_digest() -> str:
    """Returns sha256:<hex> of the engine's source, as it was when this process first asked.

    A process that runs for long asks at its start, so that it tells what it has loaded.
    """
    return source_digest(Path(__file__).parents[1])


@functools.cache
def factor_code() -> str:
    """Returns what computes factors and features: their source, numpy and numba, as loaded."""
    versions = " ".join(f"{name} {version(name)}" for name in ("numpy", "numba"))
    return f"{source_digest(Path(__file__).parents[1], FACTOR_STAGES)} {versions}"


def source_digest(library: Path, stages: Sequence[str] = ENGINE_STAGES) -> str:
    """Returns sha256:<hex> over the path and the text of each file of the stages of the engine.

    The end of a line counts as one, whatever the checkout made of it. What else is in `library`
    does not count.
    """
    paths = [library / "jit.py"]
    for stage in stages:
        paths += (library / stage).rglob("*.py")
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(library).as_posix(), path) for path in paths):
        content = hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
        digest.update(f"{name}:{content};".encode())
    return "sha256:" + digest.hexdigest()
