"""What importing a module loads: each part stands alone, and the light ones stay light.

Each case runs in a fresh process, because what a test run has loaded says nothing.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.architecture.source import PIPELINE, SERVICES

HEAVY = frozenset({"torch", "pandas", "numpy", "numba", "pyarrow", "scipy"})
# The extra `server`: not there where only the client is installed. (grpc loads grpc_health and
# grpc_reflection by itself where it finds them, but nothing in them.)
SERVERS = frozenset(
    {"sqlalchemy", "grpc_health.v1", "grpc_reflection.v1alpha", "pydantic_settings"}
    | {"sqlalchemy", "structlog"}
)
TRANSPORT = frozenset({"grpc", "google", "backlane.api"})

# Everything that runs on a machine which only talks to the services.
LIGHT_MODULES = (
    "backlane.errors",
    "backlane.clock",
    "backlane.backtest.request",
    "backlane.client.connection",
    "backlane.client.operations",
    "backlane.client.models",
    "backlane.client.backtests",
    "backlane.client.portfolios",
    "backlane.cli.main",
)

PRINT_MODULES = "import json, sys; sys.stdout.write('\\n' + json.dumps(sorted(sys.modules)))"


def _run(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(SERVICES)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _loaded_by(code: str) -> set[str]:
    """The modules that are loaded after running the code, which may write to stdout."""
    return set(json.loads(_run(f"{code}\n{PRINT_MODULES}").splitlines()[-1]))


def test_importing_the_library_loads_nothing_but_its_name():
    assert _loaded_by("import backlane") - _loaded_by("") == {"backlane"}


@pytest.mark.parametrize("service", ["model_service", "backtest_service", "operations_service"])
def test_importing_a_service_package_loads_nothing_but_its_name(service: str):
    assert _loaded_by(f"import {service}") - _loaded_by("") == {service}


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_the_client_side_loads_nothing_that_computes_or_serves(module: str):
    unwelcome = _loaded_by(f"import {module}") & (HEAVY | SERVERS)
    assert unwelcome == set()


def test_the_sdk_loads_pydantic_with_the_first_request_alone():
    client = "backlane.client.backlane_client"
    assert "pydantic" not in _loaded_by(f"import {client}")
    assert "pydantic" in _loaded_by(f"import {client}, backlane.backtest.request")


def test_the_help_of_the_command_line_loads_nothing_that_computes_or_serves():
    code = (
        "import sys\n"
        "from backlane.cli.main import main\n"
        "sys.argv = ['backlane', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )
    unwelcome = _loaded_by(code) & (HEAVY | SERVERS)
    assert unwelcome == set()


@pytest.mark.slow
def test_the_backtest_service_loads_no_torch():
    assert "torch" not in _loaded_by("import backtest_service.app")


def test_the_operations_service_loads_nothing_that_computes():
    loaded = _loaded_by("import operations_service.app")
    assert loaded & HEAVY == set()
    # Only who uses PostgreSQL waits for its dialect.
    assert "sqlalchemy.dialects.postgresql" not in loaded


@pytest.mark.slow
def test_the_model_service_loads_no_frames_and_no_compiler():
    unwelcome = _loaded_by("import model_service.app") & {"numba", "pandas", "pyarrow"}
    assert unwelcome == set()


@pytest.mark.slow
@pytest.mark.parametrize("stage", [*PIPELINE, "operations"])
def test_a_stage_loads_no_transport_no_frames_and_no_torch(stage: str):
    modules = sorted(
        ".".join(path.relative_to(SERVICES).with_suffix("").parts)
        for path in (SERVICES / "backlane" / stage).rglob("*.py")
        if path.name != "__init__.py"
    )
    assert modules, f"services/backlane/{stage} has no modules"
    # The operations' state machine, which the client side imports too, does not even compute.
    kept_out = TRANSPORT | (HEAVY if stage == "operations" else {"pandas", "pyarrow", "torch"})
    loaded = _loaded_by("\n".join(f"import {module}" for module in modules))
    unwelcome = loaded & kept_out - ({"torch"} if stage == "inference" else set())
    assert unwelcome == set()
