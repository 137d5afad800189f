"""From options and a request file to a BacktestRequest."""

import json
from datetime import date
from pathlib import Path

import pytest
import typer

from backlane.cli.request_options import (
    REQUEST_BYTES_MAX,
    RequestOptions,
    build_request,
    parse_model,
    takes_request,
)
from backlane.errors import InvalidRequestError

REQUEST = """\
model: {path: bundles/rsi_bb_1h/1h_v1}
data: {files: {1h: EURUSD_1h.csv, 5m: EURUSD_5m.csv.gz}}
symbol: EURUSD
timeframe: 1h
start: 2023-01-01
end: 2023-12-31
initial_cash: 100000
commission_rate: 0.001
slippage_rate: 0.0005
sizing: {fraction: 0.25}
profile: ktrdr-head
switches: {}
decisions:
  confidence_threshold: 0.5
  position_awareness: true
  allow_short_from_flat: false
  filters: {min_signal_separation: 4}
"""


def _file(folder: Path, text: str = REQUEST, name: str = "request.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_options_alone_make_a_request():
    options = RequestOptions(
        model="rsi_bb/1",
        symbol="EURUSD",
        timeframe="1h",
        start="2023-01-01",
        end="2023-06-30T12:00:00Z",
        cash=5000.0,
        commission=0.002,
        slippage=0.0,
        fraction=0.5,
        profile="ktrdr-m3",
        threshold=0.7,
        min_separation=8.0,
        allow_short=True,
        position_awareness=False,
        switch=["fill=next_open", "shorts=true", "fixed_warmup_bars=10"],
    )
    request = build_request(options, is_local=False)
    assert (request.model.name, request.model.version) == ("rsi_bb", "1")
    assert (request.symbol, request.timeframe) == ("EURUSD", "1h")
    assert request.start == date(2023, 1, 1)
    assert request.end.isoformat() == "2023-06-30T12:00:00+00:00"
    assert (request.initial_cash, request.commission_rate, request.slippage_rate) == (
        5000,
        0.002,
        0,
    )
    assert request.sizing.fraction == 0.5
    assert request.profile == "ktrdr-m3"
    assert request.switches == {"fill": "next_open", "shorts": True, "fixed_warmup_bars": 10}
    decisions = request.decisions
    assert decisions.confidence_threshold == 0.7
    assert decisions.filters.min_signal_separation == 8.0
    assert (decisions.allow_short_from_flat, decisions.position_awareness) == (True, False)


def test_what_no_option_says_keeps_its_default():
    request = build_request(RequestOptions(model="rsi_bb", symbol="EURUSD"), is_local=False)
    assert request.initial_cash == 100_000
    assert request.decisions.confidence_threshold is None
    assert request.start is None


def test_the_example_file_of_the_documentation_is_read_whole(tmp_path: Path):
    request = build_request(RequestOptions(request=_file(tmp_path)), is_local=True)
    assert request.profile == "ktrdr-head"
    assert request.start == date(2023, 1, 1)
    assert request.decisions.filters.min_signal_separation == 4


def test_paths_in_a_file_are_relative_to_its_folder(tmp_path: Path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    path = _file(tmp_path)
    monkeypatch.chdir(tmp_path / "elsewhere")
    request = build_request(RequestOptions(request=Path("../request.yaml")), is_local=True)
    assert request.model.path == str(path.parent / "bundles/rsi_bb_1h/1h_v1")
    assert request.data.files["5m"] == str(path.parent / "EURUSD_5m.csv.gz")


def test_paths_in_options_are_relative_to_the_current_folder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = RequestOptions(model="./bundle", symbol="EURUSD", data=["1h=bars/a.csv"])
    request = build_request(options, is_local=True)
    assert request.model.path == str(tmp_path / "bundle")
    assert request.data.files == {"1h": str(tmp_path / "bars/a.csv")}


def test_options_override_single_values_of_the_file(tmp_path: Path):
    options = RequestOptions(
        request=_file(tmp_path), cash=1.0, threshold=0.9, end="2023-02-01", symbol="GBPUSD"
    )
    request = build_request(options, is_local=True)
    assert (request.initial_cash, request.symbol, request.end) == (1.0, "GBPUSD", date(2023, 2, 1))
    assert request.decisions.confidence_threshold == 0.9
    assert request.decisions.position_awareness is True  # the file's
    assert request.decisions.filters.min_signal_separation == 4


def test_an_option_replaces_the_model_of_the_file(tmp_path: Path):
    options = RequestOptions(request=_file(tmp_path), model="other/2")
    model = build_request(options, is_local=True).model
    assert (model.path, model.name, model.version) == (None, "other", "2")


def test_a_section_left_empty_in_the_file_takes_an_option(tmp_path: Path):
    path = _file(tmp_path, "model: {name: m}\nsymbol: X\ndecisions:\n")
    request = build_request(RequestOptions(request=path, threshold=0.6), is_local=False)
    assert request.decisions.confidence_threshold == 0.6


def test_json_says_the_same_as_yaml(tmp_path: Path):
    document = {"model": {"name": "m", "version": 3}, "symbol": "EURUSD", "start": "2023-01-01"}
    path = _file(tmp_path, json.dumps(document), "request.json")
    request = build_request(RequestOptions(request=path), is_local=False)
    assert (request.model.version, request.start) == ("3", date(2023, 1, 1))


def test_a_file_without_options_missing_names_both_that_are_missing():
    with pytest.raises(InvalidRequestError) as caught:
        build_request(RequestOptions(), is_local=False)
    assert [v.field for v in caught.value.violations] == ["model", "symbol"]


def test_every_mistake_is_named_at_once(tmp_path: Path):
    path = _file(tmp_path, "model: {name: m}\nsymbol: X\ncomission_rate: 0.1\nprofile: [1]\n")
    with pytest.raises(InvalidRequestError) as caught:
        build_request(RequestOptions(request=path, cash=-5.0), is_local=False)
    assert {v.field for v in caught.value.violations} == {
        "comission_rate",
        "profile",
        "initial_cash",
    }


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text", "", "a: [1", "\x00"])
def test_a_file_that_holds_no_request_is_refused(tmp_path: Path, text: str):
    with pytest.raises(InvalidRequestError, match=r"request\.yaml"):
        build_request(RequestOptions(request=_file(tmp_path, text)), is_local=False)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path):
    path = _file(tmp_path, "#" * (REQUEST_BYTES_MAX + 1))
    with pytest.raises(InvalidRequestError, match=str(REQUEST_BYTES_MAX)):
        build_request(RequestOptions(request=path), is_local=False)


@pytest.mark.parametrize("option", ["switch", "data"])
@pytest.mark.parametrize("text", ["fill", "=x", "fill="])
def test_a_pair_without_both_halves_shows_how_to_write_it(option: str, text: str):
    options = RequestOptions(model="m", symbol="X", **{option: [text]})
    with pytest.raises(InvalidRequestError, match=f"{option}|as in"):
        build_request(options, is_local=True)


def test_the_services_are_sent_no_paths(tmp_path: Path):
    with pytest.raises(InvalidRequestError) as caught:
        build_request(RequestOptions(request=_file(tmp_path)), is_local=False)
    assert [v.field for v in caught.value.violations] == ["model.path", "data.files"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rsi_bb", {"name": "rsi_bb"}),
        ("rsi_bb/1", {"name": "rsi_bb", "version": "1"}),
        ("models/rsi_bb/versions/1h_v1", {"name": "rsi_bb", "version": "1h_v1"}),
        ("models/rsi_bb", {"name": "rsi_bb"}),
    ],
)
def test_a_model_is_named_in_any_of_its_forms(text: str, expected: dict[str, str]):
    assert parse_model(text, is_local=False) == expected


def test_a_folder_with_a_bundle_in_it_is_a_path_when_local(tmp_path: Path, monkeypatch):
    bundle = tmp_path / "rsi_bb" / "1"
    bundle.mkdir(parents=True)
    (bundle / "metadata_v3.json").touch()
    monkeypatch.chdir(tmp_path)
    assert parse_model("rsi_bb/1", is_local=True) == {"path": str(bundle)}
    assert parse_model("rsi_bb/1", is_local=False) == {"name": "rsi_bb", "version": "1"}


def test_a_command_that_takes_a_request_has_its_options_and_its_own():
    got = {}

    @takes_request
    def command(options: RequestOptions, loud: bool = False) -> None:
        """Do it."""
        got.update(options=options, loud=loud)

    app = typer.Typer()
    app.command()(command)
    main = typer.main.get_command(app)
    arguments = ["--model", "m", "--no-allow-short", "--switch", "a=1", "--switch", "b=2", "--loud"]
    main.main(arguments, standalone_mode=False)
    assert got["loud"] is True
    assert got["options"].switch == ["a=1", "b=2"]
    assert got["options"].allow_short is False
    assert got["options"].cash is None


def test_any_field_can_be_set():
    options = RequestOptions(
        model="rsi_bb",
        symbol="EURUSD",
        set=["exits.stop_loss=0.02", "exits.max_holding_bars=48", "margin.leverage=2.5"],
    )
    request = build_request(options, is_local=False)
    assert (request.exits.stop_loss, request.exits.max_holding_bars) == (0.02, 48)
    assert request.margin.leverage == 2.5


def test_a_field_that_is_no_pair_is_refused():
    options = RequestOptions(model="rsi_bb", symbol="EURUSD", set=["exits.stop_loss"])
    with pytest.raises(InvalidRequestError, match="FIELD=VALUE"):
        build_request(options, is_local=False)
