"""A pickle is understood without being run, or refused."""

import io
import random
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from backlane.sources.plain_pickle import (
    ForeignGlobalsError,
    NotPlainError,
    Storage,
    shown_text,
    storages_of,
)
from backlane.sources.weights_file import read_weights
from tests.bundle_maker import BundleMaker, saved


def pickled(value: object) -> bytes:
    with zipfile.ZipFile(io.BytesIO(saved(value))) as archive:
        return next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))


def test_the_storages_of_a_state_dict_are_found():
    weights = {"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.float64)}
    assert storages_of(pickled(weights)) == (Storage("0", 6, 4), Storage("1", 4, 8))


def test_a_storage_that_two_tensors_share_counts_once():
    whole = torch.zeros(10)
    assert storages_of(pickled({"a": whole[:4], "b": whole[4:]})) == (Storage("0", 10, 4),)


@pytest.mark.parametrize(
    "weights",
    [
        nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 3)).state_dict(),
        dict(nn.LSTM(3, 4, 2).named_parameters()),
        nn.BatchNorm1d(3).state_dict(),
        {"a": torch.zeros(()), "b": torch.zeros(0, 3), "c": torch.zeros(3, 4).t()},
        {"half": torch.zeros(2, dtype=torch.bfloat16), "flag": torch.zeros(2, dtype=torch.bool)},
    ],
    ids=["state_dict", "parameters", "metadata", "odd_shapes", "dtypes"],
)
def test_everything_that_torch_saves_of_plain_weights_is_understood(weights: object):
    assert len(storages_of(pickled(weights))) > 0


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"a": bytearray(3)}, "__builtin__.bytearray"),
        ({"a": {1, 2}}, "__builtin__.set"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "torch._utils._rebuild_sparse_tensor"),
        ({"a": Path("x")}, "pathlib.PosixPath"),
    ],
)
def test_what_weights_do_not_need_is_named(value: object, name: str):
    with pytest.raises(ForeignGlobalsError) as caught:
        storages_of(pickled(value))
    assert name in caught.value.names


def test_damage_of_any_byte_is_found_or_harmless():
    whole, rng = pickled(BundleMaker().weights()), random.Random(7)
    outcomes = {outcome_of(damaged(whole, rng)) for _ in range(3000)}
    assert outcomes == {"read", "ForeignGlobalsError", "NotPlainError"}


def damaged(whole: bytes, rng: random.Random) -> bytes:
    content = bytearray(whole)
    for _ in range(rng.choice((1, 2, 8))):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content[: rng.choice((len(content), rng.randrange(len(content))))])


def outcome_of(content: bytes) -> str:
    try:
        storages_of(content)
    except (ForeignGlobalsError, NotPlainError) as error:
        return type(error).__name__ if str(error).isprintable() else str(error)
    return "read"


def test_what_it_lets_pass_torch_reads_to_the_same_bits():
    weights = BundleMaker(architecture="gru").weights()
    read = read_weights(saved(weights), "model.pt")
    assert all(torch.equal(read[name], weights[name]) for name in weights)


def test_a_foreign_text_is_shown_short_and_without_control_characters():
    assert shown_text("0.weight") == "0.weight"
    assert shown_text("\x1b[2J") == "\\x1b[2J"
    assert shown_text("a" * 100, 10) == "aaaaaaaaa…"
