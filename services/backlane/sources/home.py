"""The home directory of Backlane: where the catalog and the results live."""

from collections.abc import Mapping
from pathlib import Path

HOME_VARIABLE = "BACKLANE_HOME"
DEFAULT_HOME = "~/.local/share/backlane"


def home_dir(environ: Mapping[str, str]) -> Path:
    """Returns the absolute home directory: BACKLANE_HOME, or ~/.local/share/backlane when unset.

    The directory need not exist; whoever writes into it creates it.
    """
    return Path(environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser().absolute()
