"""Bundles that must not be loaded: what each is told, and that nothing of them ran."""

from pathlib import Path

import pytest

from backlane.inference.model_name import ModelName
from backlane.sources.bundle import read_bundle_info, verify_bundle
from backlane.sources.bundle_paths import resolve_bundle
from backlane.testing.bundle_parts import write_bundle
from backlane.testing.hostile_bundles import (
    CANARY,
    HOSTILE_BUNDLES,
    MODEL,
    VERSION,
    HostileBundle,
    refusal,
)
from tests.unit.sources.peak_memory import peak_memory_bytes


def test_the_bundle_that_they_are_made_from_is_sound(tmp_path: Path):
    write_bundle(tmp_path / "small" / "1")
    # 2 * 2 + 2 + 3 * 2 + 3 weights of 0.5; no input: hidden 0.5, so 2 * 0.5 * 0.5 + 0.5 = 1
    report = verify_bundle(tmp_path / "small" / "1")
    assert (report.parameter_count, report.probe_outputs) == (15, (1.0, 1.0, 1.0))


@pytest.mark.parametrize("case", HOSTILE_BUNDLES, ids=lambda case: case.name)
def test_a_hostile_bundle_is_refused_with_a_clear_reason(tmp_path: Path, case: HostileBundle):
    refused = refusal(case, tmp_path)

    assert type(refused) is case.error
    assert case.says in refused.message
    assert len(refused.message) < 2000
    assert refused.message.replace("\n", "").isprintable()
    assert not (tmp_path / CANARY).exists()


@pytest.mark.parametrize("case", HOSTILE_BUNDLES, ids=lambda case: case.name)
def test_what_is_wrong_with_the_weights_alone_can_still_be_described(
    tmp_path: Path, case: HostileBundle
):
    models = tmp_path / "models"
    case.write(models / MODEL / VERSION)
    if case.only_weights:
        assert read_bundle_info(models / MODEL / VERSION, root=models).model == MODEL
    else:
        with pytest.raises(case.error):
            read_bundle_info(resolve_bundle(models, ModelName(MODEL, VERSION)), root=models)


def test_there_are_twenty_hostile_bundles_and_more_each_by_a_name_of_its_own():
    assert len(HOSTILE_BUNDLES) >= 20
    assert len({case.name for case in HOSTILE_BUNDLES}) == len(HOSTILE_BUNDLES)


@pytest.mark.slow
def test_no_hostile_bundle_takes_more_memory_than_a_sound_one_might(tmp_path: Path):
    # What the bombs among them ask for is 600 MiB, 2 GiB and 4 TiB; torch itself takes 240 MB.
    assert peak_memory_bytes("hostile_bundles", "HOSTILE_BUNDLES", tmp_path) < 600_000_000
