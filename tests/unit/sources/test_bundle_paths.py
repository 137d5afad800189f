"""Bundles are found under the root, and nowhere else."""

from pathlib import Path

import pytest

from backlane.errors import InvalidRequestError, ModelNotFoundError, PathEscapesRootError
from backlane.inference.model_name import ModelName
from backlane.sources import bundle_paths
from backlane.sources.bundle_paths import list_bundles, newest_version, resolve_bundle


def folders(root: Path, *names: str) -> None:
    for name in names:
        (root / name).mkdir(parents=True)


def test_bundles_are_listed_by_model_then_by_number(tmp_path: Path) -> None:
    folders(tmp_path, "b/10", "b/9", "b/draft", "a/1h_v2", "a/1h_v10", ".git/1", "a/.hidden")
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "a" / "1h_latest").symlink_to(tmp_path / "a" / "1h_v10")
    assert [str(name) for name in list_bundles(tmp_path)] == [
        "models/a/versions/1h_v2",
        "models/a/versions/1h_v10",
        "models/b/versions/9",
        "models/b/versions/10",
        "models/b/versions/draft",
    ]


def test_a_root_that_is_not_there_has_no_bundles(tmp_path: Path) -> None:
    assert list_bundles(tmp_path / "none") == []


def test_the_newest_has_the_highest_number(tmp_path: Path) -> None:
    folders(tmp_path, "m/2", "m/10", "m/zz", "k/1h_v3", "k/1h_v12")
    assert newest_version(tmp_path, "m") == "10"
    assert newest_version(tmp_path, "k") == "1h_v12"
    folders(tmp_path, "m/11")
    assert resolve_bundle(tmp_path, ModelName("m")) == tmp_path / "m" / "11"


def test_two_newest_versions_are_no_answer(tmp_path: Path) -> None:
    folders(tmp_path, "m/1h_v2", "m/5m_v2")
    with pytest.raises(ModelNotFoundError, match="several newest versions: 1h_v2, 5m_v2"):
        newest_version(tmp_path, "m")


def test_an_unknown_model_lists_what_is_there(tmp_path: Path) -> None:
    folders(tmp_path, "m/1", "m/2", "k/1")
    with pytest.raises(ModelNotFoundError, match="Known: models/m/versions/1, models/m/versions/2"):
        resolve_bundle(tmp_path, ModelName("m", "3"))
    with pytest.raises(ModelNotFoundError, match="Known: models/k/versions/1, models/m/"):
        resolve_bundle(tmp_path, ModelName("other"))


def test_a_link_inside_the_root_is_followed_and_one_out_of_it_is_not(tmp_path: Path) -> None:
    root = tmp_path / "models"
    folders(root, "m/1")
    folders(tmp_path, "outside/1")
    (root / "m" / "latest").symlink_to(root / "m" / "1")
    (root / "m" / "7").symlink_to(tmp_path / "outside" / "1")
    (root / "out").symlink_to(tmp_path / "outside")
    assert resolve_bundle(root, ModelName("m", "latest")).resolve() == root / "m" / "1"
    for name in (ModelName("m", "7"), ModelName("out", "1"), ModelName("out")):
        with pytest.raises(PathEscapesRootError):
            resolve_bundle(root, name)
    assert newest_version(root, "m") == "1"


def test_a_name_made_by_hand_is_checked_too(tmp_path: Path) -> None:
    for part in ("..", "a/../..", "/etc"):
        with pytest.raises(PathEscapesRootError):
            resolve_bundle(tmp_path, ModelName(part, "1"))
        with pytest.raises(PathEscapesRootError):
            resolve_bundle(tmp_path, ModelName("m", part))


def test_the_number_of_bundles_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_paths, "BUNDLE_COUNT_MAX", 2)
    folders(tmp_path, "m/1", "m/2")
    assert len(list_bundles(tmp_path)) == 2
    folders(tmp_path, "m/3")
    with pytest.raises(InvalidRequestError, match="BUNDLE_COUNT_MAX"):
        list_bundles(tmp_path)
