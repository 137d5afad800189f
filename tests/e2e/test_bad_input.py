"""Hostile bundles, broken data files and malformed request files, from where a user stands.

Every case of backlane.testing goes through the command line, and every bundle to a model_service
of its own process over a socket, which is as well afterwards as it was before.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from backlane.api.models.v1 import model_pb2, models_service_pb2
from backlane.api.models.v1.models_service_pb2_grpc import ModelsServiceStub
from backlane.cli.main import run
from backlane.errors import InvalidRequestError
from backlane.rpc.error_catalog import CATALOG
from backlane.testing.broken_files import BROKEN_FILES, BrokenFile
from backlane.testing.bundle_parts import write_bundle
from backlane.testing.hostile_bundles import CANARY, HOSTILE_BUNDLES, VERSION, HostileBundle
from backlane.testing.servers import ServiceProcess

IMPORT = ("--symbol", "TEST", "--timeframe", "1h")
MEMORY_BYTES_MAX = 900_000_000
"""Of model_service: torch takes 300 MB, the bombs would take 600 MiB, 2 GiB and 4 TiB."""


# --- the command line --------------------------------------------------------------------------


@pytest.mark.parametrize("case", BROKEN_FILES, ids=lambda case: case.name)
def test_the_import_of_a_broken_file_ends_with_a_code_and_one_line(
    case: BrokenFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if case.needs_user and os.geteuid() == 0:
        pytest.skip("root may read every file")
    folder, home = tmp_path / "data", tmp_path / "home"
    folder.mkdir()
    path = case.write(folder)

    code = run(["data", "import", str(path), *IMPORT, "--timezone", case.timezone,
                "--home", str(home)])  # fmt: skip

    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert code == (2 if case.error is InvalidRequestError else 1)
    assert said.out == ""
    assert lines[0].startswith("error: ")
    assert sum(case.says in line for line in lines) == 1
    assert len(lines) <= 2  # what is wrong, then what to do or which field it is
    assert not (home / "data" / "TEST").exists()


@pytest.mark.parametrize("case", HOSTILE_BUNDLES, ids=lambda case: case.name)
def test_the_check_of_a_hostile_bundle_ends_with_a_code_and_its_reason(
    case: HostileBundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "models"
    case.write(models / "hostile" / VERSION)

    code = run(["model", "verify", f"hostile/{VERSION}", "--models-dir", str(models)])

    said = capsys.readouterr()
    assert code == 1
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert case.says in said.err
    assert len(said.err) < 2500
    assert not (tmp_path / CANARY).exists()


def test_what_json_says_of_a_broken_file_has_reason_advice_and_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = next(case for case in BROKEN_FILES if case.name == "unsorted")
    path = case.write(tmp_path)
    code = run(["data", "import", str(path), *IMPORT, "--home", str(tmp_path / "home"), "--json"])
    error = json.loads(capsys.readouterr().out)["error"]
    assert (code, error["exit_code"], error["reason"]) == (1, 1, "DATA_REFUSED")
    assert error["metadata"] == {"source": str(path), "disorder": "1"}
    assert "Correct the file" in error["advice"]


def aliases(depth: int) -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{at}: &a{at} [*a{at - 1}, *a{at - 1}]" for at in range(1, depth)]
    return "\n".join(lines)


REQUEST_FILES = {
    "billion_laughs": (f"{aliases(60)}\nmodel: *a59\nsymbol: X\nswitches: {{fill: *a59}}\n",
                       "aliases multiply"),
    "endless": ("model: &a [*a]\nsymbol: X\n", "aliases multiply"),
    "deep": ("model: " + "[" * 5_000, "nested too deeply"),
    "no_yaml": ("model: [unclosed\nsymbol: X", "line 2"),
    "impossible_date": ("symbol: X\nstart: 2023-99-99\n", "neither YAML nor JSON"),
    "other_python": ("model: !!python/object/apply:os.system ['touch EXECUTED']", "could not"),
    "a_list": ("- model\n- symbol\n", "holds no request"),
    "empty": ("", "holds no request"),
    "too_large": ("# " + "x" * 2**20, "over 1048576 bytes"),
    "unknown_field": ("model: {name: m}\nsymbol: X\ninitial_csh: 5\n",
                      "did you mean initial_cash?"),
    "end_before_start": ("model: {name: m}\nsymbol: X\nstart: 2024-01-01\nend: 2023-01-01\n",
                         "is after the end"),
    "year_1": ("model: {name: m}\nsymbol: X\nstart: 0001-01-01\n", "outside the years"),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUEST_FILES)
def test_a_malformed_request_file_ends_with_the_code_of_usage_and_names_the_field(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    content, says = REQUEST_FILES[name]
    (tmp_path / "request.yaml").write_text(content)
    code = run(["backtest", "run", "--local", "--request", "request.yaml"])
    said = capsys.readouterr().err
    assert code == 2, said
    assert says in said
    assert len(said) < 2500
    assert not (tmp_path / "EXECUTED").exists()


# --- model_service -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with every hostile bundle, each a model of its own, and a sound one."""
    folder = tmp_path_factory.mktemp("hostile")
    for case in HOSTILE_BUNDLES:
        case.write(folder / "models" / case.name / VERSION)
    write_bundle(folder / "models" / "sound" / VERSION)
    return folder


@pytest.fixture(scope="module")
def service(root: Path) -> Iterator[ServiceProcess]:
    env = {
        "BACKLANE_MODELS_MODELS_DIR": str(root / "models"),
        "BACKLANE_MODELS_PORT": "0",
        "BACKLANE_HOME": str(root / "home"),
    }
    prefix = "BACKLANE_MODELS_"
    with ServiceProcess("model_service", env_prefix=prefix, folder=root, env=env) as process:
        yield process


@pytest.fixture(scope="module")
def channel(service: ServiceProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(service.address) as channel:
        yield channel


def load(channel: grpc.Channel, name: str) -> model_pb2.Model:
    request = models_service_pb2.LoadModelRequest(name=f"models/{name}/versions/{VERSION}")
    return ModelsServiceStub(channel).LoadModel(request, timeout=60).model


def error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo:
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    return info


@pytest.mark.slow
@pytest.mark.parametrize("case", HOSTILE_BUNDLES, ids=lambda case: case.name)
def test_loading_a_hostile_bundle_gives_its_status_and_the_service_lives(
    case: HostileBundle, channel: grpc.Channel, service: ServiceProcess, root: Path
) -> None:
    pid = service.pid
    with pytest.raises(grpc.RpcError) as caught:
        load(channel, case.name)

    error = caught.value
    assert error.code() is CATALOG[case.error].code
    assert error_info(error).reason == case.error.reason
    assert error_info(error).domain == "backlane"

    health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert service.pid == pid
    assert not (root / CANARY).exists()


@pytest.mark.slow
def test_describing_them_all_says_which_cannot_be_used(channel: grpc.Channel) -> None:
    answer = ModelsServiceStub(channel).ListModels(
        models_service_pb2.ListModelsRequest(page_size=1000)
    )
    listed = {model.name.split("/")[1]: model for model in answer.models}
    # A link is an alias, which lists leave out.
    assert {case.name for case in HOSTILE_BUNDLES} - set(listed) == {"version_link_out"}
    for case in HOSTILE_BUNDLES:
        if case.name in listed and not case.only_weights:
            model = listed[case.name]
            assert model.state == model_pb2.Model.STATE_FAILED
            assert case.says in model.reason


@pytest.mark.slow
def test_after_all_of_them_a_sound_bundle_loads_in_as_little_memory(
    channel: grpc.Channel, service: ServiceProcess
) -> None:
    for case in HOSTILE_BUNDLES:
        with pytest.raises(grpc.RpcError):
            load(channel, case.name)
    assert load(channel, "sound").state == model_pb2.Model.STATE_READY
    assert psutil.Process(service.pid).memory_info().rss < MEMORY_BYTES_MAX
