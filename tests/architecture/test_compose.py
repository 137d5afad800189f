"""docker-compose.yml and the Dockerfile, checked by reading: what they run is what is tested here.

Where the docker command has compose, that reads the file too.
"""

import importlib
import importlib.util
import inspect
import os
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from backlane.client.connection import Addresses
from tests.architecture.source import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# Compose service -> module that it runs, prefix of its settings.
SERVICES = {
    "operations": ("operations_service", "BACKLANE_OPERATIONS_"),
    "models": ("model_service", "BACKLANE_MODELS_"),
    "backtests": ("backtest_service", "BACKLANE_BACKTESTS_"),
}
ANY_SERVICE = pytest.mark.parametrize("name", SERVICES)


def _service(name: str) -> dict[str, Any]:
    return COMPOSE["services"][name]


def _settings_class(name: str) -> type[BaseSettings]:
    module_name, prefix = SERVICES[name]
    module = importlib.import_module(f"{module_name}.settings")
    found = [
        each
        for _, each in inspect.getmembers(module, inspect.isclass)
        if issubclass(each, BaseSettings) and each.model_config.get("env_prefix") == prefix
    ]
    assert len(found) == 1, f"{module_name}.settings has {len(found)} classes for {prefix}"
    return found[0]


@pytest.fixture
def settings(name: str, monkeypatch: pytest.MonkeyPatch) -> BaseSettings:
    """The settings that the container's environment gives."""
    for variable in tuple(os.environ):
        if variable.startswith("BACKLANE_"):
            monkeypatch.delenv(variable)
    for variable, value in _service(name)["environment"].items():
        monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))
    return _settings_class(name)()


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)s", text)
    assert match, f"{text}: write durations in whole seconds"
    return float(match[1])


def test_it_runs_the_three_services_and_nothing_else():
    assert set(COMPOSE["services"]) == set(SERVICES)


@ANY_SERVICE
def test_it_runs_what_the_tests_run(name: str):
    module = SERVICES[name][0]
    assert _service(name)["command"] == ["python", "-m", module]
    assert importlib.util.find_spec(f"{module}.__main__"), f"python -m {module} does not run"


@ANY_SERVICE
def test_every_variable_is_a_setting(name: str):
    prefix = SERVICES[name][1]
    fields = set(_settings_class(name).model_fields)
    for variable, value in _service(name)["environment"].items():
        assert isinstance(value, str), f"{variable}: quote it, YAML reads {value!r}"
        if variable != "BACKLANE_HOME":
            assert variable.startswith(prefix)
            assert variable.removeprefix(prefix).lower() in fields, f"{variable} sets nothing"


@ANY_SERVICE
def test_it_listens_where_the_others_and_the_host_look_for_it(name: str, settings: Any):
    port = str(settings.port)
    assert settings.host == "0.0.0.0"
    assert _service(name)["ports"] == [f"127.0.0.1:{port}:{port}"]
    command = ["CMD", "python", "-m", "backlane.rpc.healthcheck", f"127.0.0.1:{port}"]
    assert _service(name)["healthcheck"]["test"] == command


@ANY_SERVICE
def test_the_healthcheck_ends_before_its_own_timeout(name: str):
    healthcheck = importlib.import_module("backlane.rpc.healthcheck")
    assert _seconds(_service(name)["healthcheck"]["timeout"]) > healthcheck.TIMEOUT_S


@ANY_SERVICE
def test_docker_waits_longer_than_the_drain_takes(name: str, settings: Any):
    assert _seconds(_service(name)["stop_grace_period"]) >= settings.drain_grace_s + 5


@ANY_SERVICE
def test_the_client_on_the_host_finds_it_without_being_told(name: str):
    host, port, _ = _service(name)["ports"][0].split(":")
    assert getattr(Addresses(), name) == f"{host}:{port}"


@pytest.mark.parametrize("peer", ["operations", "models"])
def test_backtests_find_a_peer_under_its_name_once_it_is_healthy(peer: str):
    service = _service("backtests")
    port = _service(peer)["environment"][f"{SERVICES[peer][1]}PORT"]
    assert f"{peer}:{port}" in service["environment"].values()
    assert service["depends_on"][peer] == {"condition": "service_healthy"}


@ANY_SERVICE
def test_a_container_can_do_little_harm(name: str):
    service = _service(name)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert any(mount.startswith("/tmp:size=") for mount in service["tmpfs"])
    assert "privileged" not in service
    assert "user" not in service, "the image says who runs it"


@ANY_SERVICE
def test_volumes_are_declared_and_only_the_home_is_writable(name: str):
    for volume in _service(name)["volumes"]:
        source, target, *mode = volume.split(":")
        if mode != ["ro"]:
            assert source in COMPOSE["volumes"]
            assert target == _service(name)["environment"]["BACKLANE_HOME"]


def test_models_are_read_only_where_the_service_looks_for_them():
    service = _service("models")
    root = service["environment"]["BACKLANE_MODELS_MODELS_DIR"]
    assert f"./models:{root}:ro" in service["volumes"]
    assert "cpuset" in service


def test_one_image_serves_all():
    images = {(service["image"], service["build"]) for service in COMPOSE["services"].values()}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"', project, re.MULTILINE)
    assert version
    assert images == {(f"backlane:{version[1]}", ".")}


def _arguments(instruction: str) -> list[str]:
    """The arguments of each such instruction of the Dockerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return re.findall(rf"^{instruction}\s+(.+)$", text, re.MULTILINE)


def test_the_image_runs_as_an_ordinary_user():
    users = _arguments("USER")
    assert users
    assert not users[-1].startswith(("0", "root"))


def test_the_image_is_built_from_files_that_are_there_and_not_ignored():
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = [text for text in _arguments("COPY") if "--from" not in text]
    for source in (source for text in copied for source in text.split()[:-1]):
        assert (ROOT / source).exists(), f"COPY {source}: there is no such file"
        assert source in allowed, f"COPY {source}: .dockerignore leaves it out"


def test_the_image_takes_the_cpu_build_of_torch_first():
    runs = _arguments("RUN")
    torch, everything = (text for text in runs if "pip install" in text)
    assert "whl/cpu/torch/" in torch
    assert "--constraint constraints.txt" in everything
    pattern = re.search(r"sed -n '(s/.+/p)'", torch)
    assert pattern, "the version comes from constraints.txt"
    found = subprocess.run(
        ["sed", "-n", pattern[1], "constraints.txt"], cwd=ROOT, capture_output=True, text=True
    )
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+\+cpu\n", found.stdout)


def test_downloads_stay_out_of_the_image():
    runs = _arguments("RUN")
    for text in runs:
        assert "pip install" not in text or text.startswith("--mount=type=cache,")
        assert "apt-get" not in text


def test_the_image_has_a_healthcheck_over_grpc():
    (check,) = _arguments("HEALTHCHECK")
    assert "python -m backlane.rpc.healthcheck" in check


def test_compose_itself_accepts_the_file():
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("the docker command with its compose plugin is not installed")
    done = subprocess.run(
        [docker, "compose", "config", "--quiet"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
