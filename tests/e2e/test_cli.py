"""The command line against three real services, as a user has it."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backlane.cli import main
from backlane.sources.results import RESULT_FILES
from backlane.testing.servers import wait_until
from tests.e2e.cli_services import ROOT, RUN, SYMBOL, CommandLine, command_line_on_services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    with command_line_on_services(tmp_path_factory.mktemp("cli")) as command_line:
        yield command_line


@pytest.fixture
def held_worker(cli: CommandLine) -> Iterator[CommandLine]:
    """The one worker stands still until the test lets it go on: a run cannot end before."""
    assert cli.stack is not None
    pid = cli.stack.signal_worker(signal.SIGSTOP)
    try:
        yield cli
    finally:
        os.kill(pid, signal.SIGCONT)


def _release(cli: CommandLine) -> None:
    assert cli.stack is not None
    cli.stack.signal_worker(signal.SIGCONT)


def _running_operation(cli: CommandLine, before: set[object]) -> str:
    """Waits until an operation that was not there before is there; returns its name."""

    def find() -> str:
        operations = cli.json("operation", "list")["operations"]
        return next((str(each["name"]) for each in operations if each["name"] not in before), "")

    return wait_until(find, 30.0)


def _names(cli: CommandLine) -> set[object]:
    return {each["name"] for each in cli.json("operation", "list")["operations"]}


@pytest.fixture(scope="module")
def remote(cli: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run through the services, with its result directory in `out`."""
    return dict(cli.json(*RUN, "--out", tmp_path_factory.mktemp("remote") / "result"))


@pytest.fixture(scope="module")
def local(cli: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same run in process."""
    return dict(cli.json(*RUN, "--local", "--out", tmp_path_factory.mktemp("local") / "result"))


def test_a_run_through_the_services_equals_one_in_process_to_the_bit(remote, local):
    assert remote["operation"].startswith("operations/")
    assert local["operation"] is None
    for key in ("result_digest", "order_digest", "config_digest", "model_digest", "datasets"):
        assert remote[key] == local[key], key
    assert remote["metrics"] == local["metrics"]
    assert remote["funnel"] == local["funnel"]


@pytest.mark.parametrize(
    "name", ["trades.csv", "equity.csv", "decisions.parquet", "features.parquet"]
)
def test_a_local_and_a_remote_run_write_the_same_rows(remote, local, name: str):
    assert Path(remote["out"], name).read_bytes() == Path(local["out"], name).read_bytes()


def test_a_local_run_from_a_folder_and_files_gives_the_same_result(
    cli: CommandLine, local, tmp_path: Path
):
    bars = _csv_of(cli, tmp_path)
    from_files = cli.json(
        *("backtest", "run", "--local", "--model", ROOT / "models/rsi_bb/1"),
        *("--symbol", SYMBOL, "--data", f"1h={bars}"),
    )
    assert from_files["result_digest"] == local["result_digest"]


def _csv_of(cli: CommandLine, folder: Path) -> Path:
    import numpy as np

    from backlane.market.timeframe import Timeframe
    from backlane.sources.catalog import Catalog

    series = Catalog(cli.home).load(SYMBOL, Timeframe.parse("1h"))
    times = np.datetime_as_string(series.open_time_ns.astype("datetime64[ns]"), unit="s")
    columns = (series.open, series.high, series.low, series.close, series.volume)
    rows = zip(times, *columns, strict=True)
    lines = [f"{time}Z," + ",".join(repr(float(value)) for value in rest) for time, *rest in rows]
    path = folder / "bars.csv"
    path.write_text("\n".join(["time,open,high,low,close,volume", *lines]) + "\n")
    return path


def test_the_result_directory_holds_the_files_and_runs_again(cli: CommandLine, remote):
    out = Path(remote["out"])
    assert {path.name for path in out.iterdir()} == set(RESULT_FILES)
    result = json.loads((out / "result.json").read_text())
    assert result["result_digest"] == remote["result_digest"]
    again = cli.json("backtest", "run", "--request", out / "request.json")
    assert again["result_digest"] == result["result_digest"]


def test_a_folder_with_other_things_in_it_is_refused_before_the_run(cli: CommandLine, tmp_path):
    (tmp_path / "thesis.tex").touch()
    before = _names(cli)
    done = cli.run(*RUN, "--out", tmp_path)
    assert done.returncode == 2
    assert "holds no result" in done.stderr
    assert _names(cli) == before


def test_a_run_without_trades_says_why(cli: CommandLine):
    said = cli.ok(*RUN, "--threshold", 1)
    assert "No trades: none of" in said
    assert "BELOW_CONFIDENCE" in said


def test_every_way_to_write_a_run_is_shown_on_the_way_but_not_in_the_result(cli: CommandLine):
    done = cli.run(*RUN)
    assert done.returncode == 0
    assert done.stderr.startswith("operations/")
    assert "sharpe_ratio" in done.stdout
    assert "result digest  sha256:" in done.stdout


def test_the_same_request_id_starts_nothing_twice(cli: CommandLine):
    request_id = "6e6f7420-7477-4963-a520-6f6e63652121"
    first = cli.json(*RUN, "--request-id", request_id)
    assert cli.json(*RUN, "--request-id", request_id)["operation"] == first["operation"]


def test_a_detached_run_is_taken_up_again_by_its_name(cli: CommandLine):
    name = cli.ok(*RUN, "--detach").strip()
    watched = cli.run("operation", "watch", name)
    assert watched.returncode == 0, watched.stderr
    assert f"{name} succeeded" in watched.stdout
    assert cli.json("backtest", "result", name)["operation"] == name


def test_a_run_is_queued_as_its_options_say(cli: CommandLine):
    queueing = (
        "--priority",
        7,
        "--max-attempts",
        2,
        "--queue-timeout",
        60,
        "--attempt-timeout",
        60,
    )
    name = cli.ok(*RUN, "--detach", *queueing).strip()
    assert cli.json("operation", "get", name)["priority"] == 7


def test_a_watch_in_json_tells_the_whole_story_without_a_gap(cli: CommandLine):
    name = cli.ok(*RUN, "--detach").strip()
    lines = cli.ok("operation", "watch", name, "--json").splitlines()
    documents = [json.loads(line) for line in lines]
    durable = [each["sequence"] for each in documents if "sequence" in each]
    assert durable == list(range(1, len(durable) + 1))
    assert documents[-1] == {
        "event": "ended",
        "operation": name,
        "state": "succeeded",
        "error": None,
        "exit_code": 0,
    }


def test_ctrl_c_detaches_and_the_run_goes_on(held_worker: CommandLine):
    cli = held_worker
    before = _names(cli)
    process = cli.start(*RUN)
    name = _running_operation(cli, before)
    assert process.stderr is not None
    assert process.stderr.readline().strip() == name  # it watches from here on
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"backlane operation watch {name}" in said
    assert cli.json("operation", "get", name)["state"] in ("queued", "running")
    _release(cli)
    assert cli.json("operation", "wait", name, "--timeout", 60)["state"] == "succeeded"


def test_ctrl_c_stops_a_local_run_and_writes_nothing(cli: CommandLine, tmp_path: Path):
    process = cli.start(*RUN, "--local", "--out", tmp_path / "result")
    assert process.stderr is not None
    process.stderr.readline()  # it has begun
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nothing is written" in said
    assert list(tmp_path.iterdir()) == []


def test_a_restart_of_the_registry_is_survived_and_said_in_one_line(held_worker: CommandLine):
    cli = held_worker
    assert cli.stack is not None
    before = _names(cli)
    process = cli.start(*RUN)
    _running_operation(cli, before)
    assert process.stderr is not None
    process.stderr.readline()
    process.stderr.readline()
    cli.stack.operations.terminate()
    cli.stack.operations.start()
    _release(cli)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert said.count("was lost for") == 1
    assert "result digest" in out


def test_a_cancelled_run_ends_every_watch_with_four(held_worker: CommandLine):
    cli = held_worker
    name = cli.ok(*RUN, "--detach").strip()
    assert cli.json("operation", "cancel", name, "--reason", "a typing error")["cancel_reason"]
    _release(cli)
    watched = cli.run("operation", "watch", name)
    assert watched.returncode == 4
    assert "was cancelled" in watched.stderr
    waited = cli.run("operation", "wait", name)
    assert waited.returncode == 4
    failed = cli.run("backtest", "result", name)
    assert failed.returncode == 1


def test_a_wait_that_is_over_too_early_says_so(held_worker: CommandLine):
    cli = held_worker
    name = cli.ok(*RUN, "--detach").strip()
    waited = cli.run("operation", "wait", name, "--timeout", 0, "--json")
    assert waited.returncode == 5
    assert json.loads(waited.stdout)["state"] in ("queued", "running")
    _release(cli)
    assert cli.run("operation", "wait", name, "--timeout", 60).returncode == 0


def test_an_operation_that_has_ended_can_be_deleted(cli: CommandLine):
    name = cli.json(*RUN)["operation"]
    assert cli.json("operation", "delete", name) == {"deleted": name}
    gone = cli.run("operation", "get", name)
    assert gone.returncode == 1
    assert "There is no operation" in gone.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--model", "rsi_b"), 1, "Known: models/"),
        (("--model", "rsi_bb/9"), 1, "models/rsi_bb/versions/1"),
        (("--symbol", "NOPE"), 1, "backlane data import FILE --symbol NOPE"),
        (("--timeframe", "5m"), 2, "timeframe: The model was trained on 1h bars"),
        (("--start", "2040-01-01"), 1, "has no bars from 2040-01-01"),
        (("--start", "yesterday"), 2, "start: "),
        (("--cash", "-5"), 2, "initial_cash: "),
        (("--switch", "fil=next_open"), 2, "switches.fil: is no switch; did you mean fill?"),
        (("--profile", "ktrdr"), 2, "use default, ktrdr-head, ktrdr-m3"),
        (("--request-id", "x"), 2, "request_id"),
        (("--detach", "--local"), 2, "--detach needs the services"),
        (("--priority", "101"), 2, "--priority"),
        (("--queue-timeout", "-1"), 2, "queue_timeout"),
    ],
)
def test_a_mistake_is_named_with_what_to_do(cli, monkeypatch, capsys, arguments, code, said):
    cli.enter(monkeypatch)
    assert main.run([*RUN, *arguments]) == code
    written = capsys.readouterr()
    assert written.out == ""
    assert said in written.err
    assert "Traceback" not in written.err
    assert main.run([*RUN, *arguments, "--json"]) == code
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == code


@pytest.mark.parametrize("arguments", [("--model", "rsi_b"), ("--symbol", "NOPE")])
def test_a_local_run_names_the_same_mistake(cli, monkeypatch, capsys, arguments):
    cli.enter(monkeypatch)
    main.run([*RUN, *arguments])
    remote = capsys.readouterr().err
    assert main.run([*RUN, *arguments, "--local"]) == 1
    assert capsys.readouterr().err.removeprefix("load\n") == remote


def test_services_that_are_not_there_end_a_command_with_three(tmp_path: Path):
    alone = CommandLine(tmp_path)
    alone.environment["BACKLANE_OPERATIONS_ADDRESS"] = "127.0.0.1:1"
    done = alone.run("operation", "list")
    assert done.returncode == 3
    assert "backlane up" in done.stderr


def test_models_are_listed_shown_and_verified(cli: CommandLine):
    served = {each["name"]: each for each in cli.json("model", "list")["models"]}
    assert "models/rsi_bb/versions/1" in served
    shown = cli.json("model", "show", "rsi_bb")
    assert shown["digest"] == served["models/rsi_bb/versions/1"]["digest"]
    verified = cli.json("model", "verify", "rsi_bb/1")
    assert verified["digest"] == shown["digest"]
    assert {file["name"] for file in verified["files"]} >= {"model.pt", "config.json"}
    local = cli.json("model", "list", "--local")["models"]
    assert [each["digest"] for each in local] == [each["digest"] for each in served.values()]


def test_a_request_is_validated_without_running_it(cli: CommandLine):
    before = _names(cli)
    validated = cli.json(
        "backtest", "validate", "--model", "rsi_bb", "--symbol", SYMBOL, "--start", "2022-03-01"
    )
    assert validated["request"]["timeframe"] == "1h"
    assert validated["bar_count"] > 1000
    assert _names(cli) == before


class _Up:
    """A `backlane up` of its own, with what it said when it was ready."""

    def __init__(self, home: Path) -> None:
        self.cli = CommandLine(home)
        self.process = self.cli.start("up", "--port", 0, "--json")
        assert self.process.stdout is not None
        self.ready = json.loads(self.process.stdout.readline() or "{}")

    def end(self) -> None:
        for pid in (self.process.pid, *self.ready.get("pids", {}).values()):
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[_Up]:
    started = _Up(tmp_path / "home")
    try:
        yield started
    finally:
        started.end()


def _group_is_gone(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_up_serves_is_alone_and_drains_on_ctrl_c(up: _Up):
    addresses_file = up.cli.home / "run" / "addresses.json"
    assert json.loads(addresses_file.read_text()) == up.ready["addresses"]
    # Commands on this home find the services by that file.
    assert up.cli.json("operation", "list") == {"operations": []}
    assert up.cli.json("model", "list")["models"]
    second = up.cli.run("up", "--port", 0)
    assert second.returncode == 1
    assert f"process {up.process.pid}" in second.stderr

    up.process.send_signal(signal.SIGINT)
    _, said = up.process.communicate(timeout=60)
    assert up.process.returncode == 0, said
    assert not addresses_file.exists()
    assert all(_group_is_gone(pid) for pid in up.ready["pids"].values())


def test_up_starts_a_service_that_dies_again_where_it_was(up: _Up):
    before = up.cli.json("model", "list")
    os.killpg(up.ready["pids"]["models"], signal.SIGKILL)
    for line in up.process.stderr or ():
        if "serves again" in line:
            break
    assert up.ready["addresses"]["models"] in line
    assert up.cli.json("model", "list") == before

    up.process.send_signal(signal.SIGINT)
    _, said = up.process.communicate(timeout=60)
    assert up.process.returncode == 0, said


@pytest.mark.long
def test_a_run_goes_on_when_all_services_of_up_are_killed_in_its_middle(up: _Up):
    up.cli.ok("data", "sample")
    name = up.cli.json(*RUN, "--detach")["operation"]
    for service in ("operations", "models", "backtests"):
        os.killpg(up.ready["pids"][service], signal.SIGKILL)
    ended = up.cli.json("operation", "wait", name)
    assert ended["state"] == "succeeded"

    up.process.send_signal(signal.SIGINT)
    _, said = up.process.communicate(timeout=60)
    assert up.process.returncode == 0, said
