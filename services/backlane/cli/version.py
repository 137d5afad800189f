"""`backlane version`: what runs here, for a report of a defect."""

import platform
from importlib.metadata import PackageNotFoundError, version

import typer

from backlane.cli.options import Json
from backlane.cli.output import print_json, say
from backlane.sources.engine_source import ENGINE, engine_digest

app = typer.Typer(name="version")

PACKAGES = ("backlane", "grpcio", "protobuf", "numpy", "numba", "pandas", "pyarrow", "torch")


def read_versions() -> dict[str, str]:
    """Returns the installed versions and the engine's digest; what is missing is left out.

    Imports none of the packages.
    """
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**found, ENGINE: engine_digest()}


@app.command("version")
def print_versions(as_json: Json = False) -> None:
    """Print the versions of everything that runs."""
    versions = read_versions()
    if as_json:
        print_json(versions)
        return
    for name in ("backlane", *sorted(versions.keys() - {"backlane"})):
        say(f"{name:10} {versions[name]}")
