"""A name from a request is a name, and never a path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlane.errors import BacklaneError, InvalidRequestError, PathEscapesRootError
from backlane.inference.model_name import ModelName, check_part, version_number


def test_both_forms_are_read_and_written_back() -> None:
    assert ModelName.parse("models/rsi_bb/versions/1h_v2") == ModelName("rsi_bb", "1h_v2")
    assert ModelName.parse("models/rsi_bb") == ModelName("rsi_bb")
    assert str(ModelName("rsi_bb", "1")) == "models/rsi_bb/versions/1"
    assert str(ModelName("rsi_bb")) == "models/rsi_bb"


@pytest.mark.parametrize(
    "name",
    [
        "models/../secret/versions/1",
        "models/a/versions/..",
        "/etc/passwd",
        "models/a/../../etc/versions/1",
        "..\\windows",
        "~root",
        "models/./versions/1",
        "models/a\0b",
    ],
)
def test_names_that_climb_are_refused_as_such(name: str) -> None:
    with pytest.raises(PathEscapesRootError, match="would leave the folder"):
        ModelName.parse(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "rsi_bb",
        "models",
        "models/",
        "models//versions/1",
        "models/a/versions/",
        "models/a/b",
        "models/-a",
        "models/.hidden",
        "models/ä",
        "models/a b",
        f"models/{'a' * 65}",
        "models/a\n",
    ],
)
def test_other_names_are_refused_with_the_field(name: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ModelName.parse(name, field="model")
    assert caught.value.violations[0].field == "model"


@given(st.text(alphabet="aZ9._-/\\\0~ \nä", max_size=70))
def test_no_accepted_part_can_change_a_path(part: str) -> None:
    try:
        accepted = check_part(part)
    except BacklaneError:
        return
    assert accepted not in ("", ".", "..")
    assert not set(accepted) & set("/\\\0~ \n")
    assert len(accepted) <= 64


@pytest.mark.parametrize(
    ("version", "number"),
    [
        ("1", 1),
        ("10", 10),
        ("1h_v2", 2),
        ("5m_v010", 10),
        ("latest", None),
        ("v3", None),
        ("1a", None),
    ],
)
def test_version_numbers(version: str, number: int | None) -> None:
    assert version_number(version) == number
