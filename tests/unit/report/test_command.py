"""`backlane report` as a user types it."""

import hashlib
import json
from pathlib import Path

from backlane.cli import main
from backlane.cli.exit_codes import ExitCode


def test_it_writes_the_page_where_it_is_told(written: Path, tmp_path: Path, capsys):
    out = tmp_path / "page.html"
    assert main.run(["report", str(written), "--out", str(out)]) == ExitCode.OK
    assert str(out) in capsys.readouterr().out
    assert out.stat().st_size > 4_000_000


def test_without_out_it_stands_beside_the_directory(written: Path, capsys):
    assert main.run(["report", str(written), "--json"]) == ExitCode.OK
    said = json.loads(capsys.readouterr().out)
    page = written.with_name("result.html")
    assert said["report"] == str(page)
    assert said["digest"] == "sha256:" + hashlib.sha256(page.read_bytes()).hexdigest()
    assert said["size_bytes"] == page.stat().st_size
    assert said["result_digest"].startswith("sha256:")


def test_a_folder_that_is_no_result_is_said_so(tmp_path: Path, capsys):
    assert main.run(["report", str(tmp_path)]) == ExitCode.FAILED
    assert "There is no" in capsys.readouterr().err


def test_another_file_in_its_place_is_left_alone(written: Path, tmp_path: Path, capsys):
    out = tmp_path / "notes.html"
    out.write_text("notes")
    assert main.run(["report", str(written), "--out", str(out)]) == ExitCode.FAILED
    assert "is no report" in capsys.readouterr().err
    assert out.read_text() == "notes"
