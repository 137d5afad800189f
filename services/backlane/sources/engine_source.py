"""Which engine this is: a digest of its source, which a version number alone does not tell."""

import functools
import hashlib
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
ENGINE = "engine"
"""What the digest is called among the versions of a result."""


@functools.cache
def engine_digest() -> str:
    """Returns sha256:<hex> of the engine's source, as it was when this process first asked.

    A process that runs for long asks at its start, so that it tells what it has loaded.
    """
    return source_digest(Path(__file__).parents[1])


def source_digest(library: Path) -> str:
    """Returns sha256:<hex> over the path and the text of each file of the engine.

    The end of a line counts as one, whatever the checkout made of it. What else is in `library`
    does not count.
    """
    paths = [library / "jit.py"]
    for stage in ENGINE_STAGES:
        paths += (library / stage).rglob("*.py")
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(library).as_posix(), path) for path in paths):
        content = hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
        digest.update(f"{name}:{content};".encode())
    return "sha256:" + digest.hexdigest()
