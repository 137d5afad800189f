"""`backlane factors`: what the store of a home holds, and how it is emptied."""

import json
from pathlib import Path

import numpy as np
import pytest

from backlane.cli.main import run
from backlane.signals.factor_key import FactorKey
from backlane.sources.factor_store import home_store
from tests.unit.signals.panels import daily_panel


@pytest.fixture
def home(tmp_path: Path) -> Path:
    panel = daily_panel(np.arange(20.0).reshape(10, 2) + 10)
    store = home_store(tmp_path)
    for group in ("core.rv_20", "mine"):
        key = FactorKey.of(group, {"n": 1}, code="v1", symbols=panel.symbols, history_bars=3)
        store.get_or_compute(key, panel, lambda bars: {"close": bars.close})
    return tmp_path


def listed(home: Path, capsys) -> dict:
    assert run(["factors", "list", "--home", str(home), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_it_lists_what_is_there(home, capsys):
    document = listed(home, capsys)
    assert [entry["group"] for entry in document["entries"]] == ["core.rv_20", "mine"]
    first = document["entries"][0]
    assert (first["factors"], first["instruments"], first["bars"]) == (["close"], 2, 10)
    assert first["last_time"] == "1970-01-11T00:00:00Z"
    assert document["size_bytes"] == sum(entry["size_bytes"] for entry in document["entries"])
    assert run(["factors", "list", "--home", str(home)]) == 0
    said = capsys.readouterr().out
    assert "core.rv_20" in said
    assert "of at most 4,096 MiB" in said


def test_it_clears_a_group_or_everything(home, capsys):
    assert run(["factors", "clear", "--group", "mine", "--home", str(home), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["freed_bytes"] > 0
    assert [entry["group"] for entry in listed(home, capsys)["entries"]] == ["core.rv_20"]
    assert run(["factors", "clear", "--home", str(home)]) == 0
    assert "MiB freed" in capsys.readouterr().out
    assert listed(home, capsys)["entries"] == []


def test_a_group_that_is_not_there_is_a_mistake(home, capsys):
    assert run(["factors", "clear", "--group", "core", "--home", str(home)]) == 2
    assert "core.rv_20, mine" in capsys.readouterr().err


def test_an_empty_home_holds_nothing_and_stays_empty(tmp_path, capsys):
    assert run(["factors", "list", "--home", str(tmp_path)]) == 0
    assert "holds no factors" in capsys.readouterr().out
    assert run(["factors", "clear", "--home", str(tmp_path)]) == 0
    assert list(tmp_path.iterdir()) == []
