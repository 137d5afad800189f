"""A bundle is read whole, or refused with a reason that says what to do."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from backlane.errors import (
    BacklaneError,
    BundleCorruptError,
    BundleInvalidError,
    BundlePickledError,
    InvalidStrategyError,
    ModelNotFoundError,
    PathEscapesRootError,
)
from backlane.inference.model_info import BundleDecisions, ModelHead
from backlane.sources import weights_file
from backlane.sources.bundle import (
    bundle_fingerprint,
    load_predictor,
    read_bundle,
    read_bundle_info,
    verify_bundle,
)
from tests.bundle_maker import BundleMaker, rewritten, saved


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "demo" / "1"


def test_a_whole_bundle_is_described_and_loaded(folder: Path) -> None:
    decisions = {
        "confidence_threshold": 0.55,
        "position_awareness": False,
        "allow_short_from_flat": True,
        "filters": {"min_signal_separation": 2.5},
        "cost_model": {"round_trip_cost": 0.003, "min_edge_multiplier": 1.5},
    }
    maker = BundleMaker(config={"decisions": decisions})
    bundle = read_bundle(maker.write(folder))
    info = bundle.info
    assert info.name == "models/demo/versions/1"
    assert (info.architecture, info.head, info.sequence_length) == (
        "mlp",
        ModelHead.CLASSIFICATION,
        1,
    )
    assert info.features == ("1h_rsi_f_t0", "1h_rsi_f_t1", "1h_rsi_f_t2")
    assert info.decisions == BundleDecisions(0.55, False, True, 2.5, 0.003, 1.5)
    assert info.created_at == "2026-01-02T03:04:05Z"
    assert info.runtime == {"torch": torch.__version__}
    assert info.strategy.indicators[0].parameters["period"] == 14
    # 3*5+5 + 5*4+4 + 4*3+3 = 20 + 24 + 15 = 59 weights of 4 bytes
    assert bundle.size_bytes == 59 * 4
    assert all(not weight.requires_grad for weight in bundle.weights.values())


def test_the_description_alone_is_the_same_and_never_imports_torch(folder: Path) -> None:
    BundleMaker().write(folder)
    program = (
        "import sys; from pathlib import Path; from backlane.sources.bundle import *;"
        f"print(read_bundle_info(Path({str(folder)!r})).digest, 'torch' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert shown == [read_bundle(folder).info.digest, "False"]
    assert read_bundle_info(folder) == read_bundle(folder).info


def test_the_digest_is_what_sha256sum_gives(folder: Path) -> None:
    BundleMaker().write(folder)
    names = ["config.json", "features.json", "metadata_v3.json", "model.pt"]
    sums = "".join(
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names
    )
    expected = f"sha256:{hashlib.sha256(sums.encode()).hexdigest()}"
    assert read_bundle_info(folder).digest == expected


@pytest.mark.parametrize("name", ["config.json", "features.json", "metadata_v3.json", "model.pt"])
def test_the_digest_and_the_fingerprint_change_with_every_file_that_is_read(
    folder: Path, name: str
) -> None:
    BundleMaker().write(folder)
    digest, fingerprint = read_bundle_info(folder).digest, bundle_fingerprint(folder, root=folder)
    path = folder / name
    if name == "model.pt":
        path.write_bytes(saved(BundleMaker(seed=1).weights()))
    else:
        path.write_text(path.read_text() + " ")
    assert read_bundle_info(folder).digest != digest
    assert bundle_fingerprint(folder, root=folder) != fingerprint


def test_files_that_are_not_read_do_not_count(folder: Path) -> None:
    BundleMaker().write(folder)
    digest = read_bundle_info(folder).digest
    (folder / "README.md").write_text("notes")
    (folder / "model_full.pt").write_bytes(b"\x80pickle")
    assert read_bundle_info(folder).digest == digest


def test_features_json_may_be_left_out(folder: Path) -> None:
    BundleMaker().write(folder)
    (folder / "features.json").unlink()
    assert len(read_bundle(folder).info.features) == 3


@pytest.mark.parametrize("name", ["config.json", "metadata_v3.json", "model.pt"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    BundleMaker().write(folder)
    (folder / name).unlink()
    with pytest.raises(BundleInvalidError, match=f"lacks {name}"):
        read_bundle(folder)


def test_a_missing_folder_is_no_model(folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no folder"):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("{", BundleCorruptError, "no JSON"),
        ("[1]", BundleInvalidError, "not a JSON object"),
        ('{"a": NaN}', BundleCorruptError, "NaN is not a number in JSON"),
        ('{"a": 1, "a": 2}', BundleCorruptError, "'a' stands twice"),
        ("[" * 100_000, BundleCorruptError, "no JSON"),
        ("\udcff", BundleCorruptError, "no JSON"),
    ],
)
def test_wrong_json_is_refused(
    folder: Path, text: str, error: type[BacklaneError], says: str
) -> None:
    BundleMaker().write(folder)
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(error, match=says):
        read_bundle_info(folder)


def test_a_feature_count_that_is_not_that_of_the_names_shows_both(folder: Path) -> None:
    BundleMaker().write(folder)
    (folder / "features.json").write_text('{"feature_count": 4}')
    with pytest.raises(BundleInvalidError, match=r"is 4, but .* lists 3") as caught:
        read_bundle_info(folder)
    assert caught.value.metadata == {"feature_count": "4", "resolved_features": "3"}


def test_features_in_another_order_than_the_strategy_gives_are_refused(folder: Path) -> None:
    names = ["1h_rsi_f_t1", "1h_rsi_f_t0", "1h_rsi_f_t2"]
    BundleMaker(metadata={"resolved_features": names}).write(folder)
    with pytest.raises(BundleInvalidError, match="'1h_rsi_f_t0' is not where") as caught:
        read_bundle_info(folder)
    assert caught.value.metadata["resolved"] == ", ".join(names)


def test_a_broken_strategy_is_refused_with_its_mistakes(folder: Path) -> None:
    BundleMaker(metadata={"indicators": {"rsi_14": {"type": "no_such"}}}).write(folder)
    with pytest.raises(InvalidStrategyError, match="no_such"):
        read_bundle_info(folder)


def test_weights_of_another_shape_show_both_shapes(folder: Path) -> None:
    weights = BundleMaker().weights() | {"0.weight": torch.zeros(5, 7)}
    BundleMaker().write(folder, weights)
    with pytest.raises(BundleInvalidError, match=r"0.weight: expected \(5, 3\), found \(5, 7\)"):
        read_bundle(folder)


def test_missing_and_surplus_weights_are_named(folder: Path) -> None:
    weights = BundleMaker().weights()
    del weights["3.bias"]
    BundleMaker().write(folder, weights | {"9.bias": torch.zeros(1)})
    with pytest.raises(BundleInvalidError) as caught:
        read_bundle(folder)
    assert "3.bias: expected (4,), found nothing" in caught.value.message
    assert "9.bias: expected nothing, found (1,)" in caught.value.message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(folder: Path, value: float) -> None:
    weights = BundleMaker().weights()
    weights["3.weight"][1, 2] = value
    BundleMaker().write(folder, weights)
    with pytest.raises(BundleInvalidError, match=r"3\.weight holds NaN or infinity"):
        read_bundle(folder)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64])
def test_other_types_than_float32_are_refused(folder: Path, dtype: torch.dtype) -> None:
    weights = BundleMaker().weights() | {"0.bias": torch.zeros(5, dtype=dtype)}
    BundleMaker().write(folder, weights)
    with pytest.raises(BundleInvalidError, match=str(dtype).removeprefix("torch.")):
        read_bundle(folder)


@pytest.mark.parametrize("device", [b"cuda:0", b"mps", b"cuda:3"])
def test_weights_saved_on_another_device_load_here(folder: Path, device: bytes) -> None:
    weights = BundleMaker().weights()
    on_cpu = b"X\x03\x00\x00\x00cpu"  # how the pickle names the place of a storage
    elsewhere = b"X" + len(device).to_bytes(4, "little") + device
    assert on_cpu in zip_entry(saved(weights), "data.pkl")
    forged = rewritten(
        saved(weights),
        lambda name, data: data.replace(on_cpu, elsewhere) if name.endswith("data.pkl") else data,
    )
    loaded = read_bundle(BundleMaker().write(folder, model_pt=forged)).weights
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)
    assert {weight.device.type for weight in loaded.values()} == {"cpu"}


class RunsCode:
    """Unpickling it would run a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def test_pickled_modules_and_other_pickles_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = torch.nn.Linear(3, 3)
    refused = {
        "torch.nn.modules.linear.Linear": saved(module),
        "posix.system": saved({"0.weight": RunsCode()}),
        "bare pickle": pickle.dumps({"0.weight": [1.0]}),
    }
    for says, content in refused.items():
        BundleMaker().write(folder, model_pt=content)
        with pytest.raises(BundlePickledError, match=says):
            read_bundle(folder)
    assert not (tmp_path / "pwned").exists()


def test_an_old_style_file_of_torch_is_refused(folder: Path, tmp_path: Path) -> None:
    torch.save(BundleMaker().weights(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    BundleMaker().write(folder, model_pt=(tmp_path / "old.pt").read_bytes())
    with pytest.raises(BundlePickledError, match=r"torch\.save\(model\.state_dict\(\)"):
        read_bundle(folder)


def test_a_compiled_module_is_refused(folder: Path) -> None:
    # What tells TorchScript apart is this entry; making a real one warns of its deprecation.
    content = rewritten(
        saved(BundleMaker().weights()), extra={"archive/constants.pkl": b"\x80\x02)."}
    )
    BundleMaker().write(folder, model_pt=content)
    with pytest.raises(BundlePickledError, match="TorchScript"):
        read_bundle(folder)


def test_a_training_checkpoint_is_refused(folder: Path) -> None:
    BundleMaker().write(folder, {"epoch": 3, "state_dict": BundleMaker().weights()})
    with pytest.raises(BundleInvalidError, match="'epoch' is a int, not a tensor"):
        read_bundle(folder)


@pytest.mark.parametrize("value", [[1, 2], {}, torch.zeros(2)])
def test_a_file_that_holds_no_state_dict_is_refused(folder: Path, value: object) -> None:
    BundleMaker().write(folder, model_pt=saved(value))
    with pytest.raises(BundleInvalidError, match="not a state dict"):
        read_bundle(folder)


def test_every_truncation_is_corrupt(folder: Path) -> None:
    whole = saved(BundleMaker().weights())
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        BundleMaker().write(folder, model_pt=whole[:size])
        with pytest.raises(BundleCorruptError):
            read_bundle(folder)


def test_one_flipped_bit_in_the_weights_is_corrupt(folder: Path) -> None:
    weights = BundleMaker().weights()
    whole = bytearray(saved(weights))
    at = whole.find(weights["0.weight"].numpy().tobytes())
    whole[at + 5] ^= 0x01
    BundleMaker().write(folder, model_pt=bytes(whole))
    with pytest.raises(BundleCorruptError, match="checksum"):
        read_bundle(folder)


def test_a_damaged_pickle_with_right_checksums_is_corrupt(folder: Path) -> None:
    def damage(name: str, data: bytes) -> bytes:
        return data[:50] if name.endswith("data.pkl") else data

    BundleMaker().write(folder, model_pt=rewritten(saved(BundleMaker().weights()), damage))
    with pytest.raises(BundleCorruptError):
        read_bundle(folder)


def test_a_storage_shorter_than_its_pickle_says_is_corrupt(folder: Path) -> None:
    def shorten(name: str, data: bytes) -> bytes:
        return data[:4] if name.endswith("data/0") else data

    BundleMaker().write(folder, model_pt=rewritten(saved(BundleMaker().weights()), shorten))
    with pytest.raises(BundleCorruptError, match="the storage 0 has 4 bytes, the pickle says 60"):
        read_bundle(folder)


def test_a_compressed_archive_is_refused_before_it_is_unpacked(folder: Path) -> None:
    bomb = rewritten(
        saved(BundleMaker().weights()),
        compression=zipfile.ZIP_DEFLATED,
        extra={"archive/data/99": bytes(8 * 2**20)},
    )
    assert len(bomb) < 100_000
    BundleMaker().write(folder, model_pt=bomb)
    with pytest.raises(BundleInvalidError, match="is compressed"):
        read_bundle(folder)


def test_unpacked_sizes_are_limited_by_the_directory_of_the_archive(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_file, "WEIGHTS_BYTES_MAX", 100)
    BundleMaker().write(folder)
    with pytest.raises(BundleInvalidError, match="unpacked bytes; at most 100"):
        read_bundle(folder)


def test_impossible_shapes_cost_no_memory(folder: Path) -> None:
    # One number, seen as a million by a million of them: 4 TB if anything copied it.
    weights = BundleMaker().weights() | {"0.weight": torch.zeros(1).expand(10**6, 10**6)}
    BundleMaker().write(folder, weights)
    with pytest.raises(BundleInvalidError, match="1000000, 1000000"):
        read_bundle(folder)


def test_a_network_beyond_the_limit_is_refused_before_its_weights_are_read(folder: Path) -> None:
    BundleMaker(hidden_layers=(65_536, 65_536)).write(folder, model_pt=b"never read")
    with pytest.raises(BundleInvalidError, match="PARAMETER_COUNT_MAX"):
        read_bundle(folder)


def test_a_file_over_its_limit_is_refused(folder: Path) -> None:
    BundleMaker().write(folder)
    with (folder / "config.json").open("ab") as file:
        file.truncate(5 * 2**20)
    with pytest.raises(BundleInvalidError, match="at most 4,194,304"):
        read_bundle_info(folder)


def test_a_file_that_is_a_link_out_of_the_root_is_refused(folder: Path, tmp_path: Path) -> None:
    BundleMaker().write(folder)
    outside = tmp_path / "outside.pt"
    (folder / "model.pt").rename(outside)
    (folder / "model.pt").symlink_to(outside)
    with pytest.raises(PathEscapesRootError, match=r"model\.pt"):
        read_bundle(folder)
    assert read_bundle(folder, root=tmp_path).size_bytes > 0


def test_a_pipe_is_no_file(folder: Path) -> None:
    BundleMaker().write(folder)
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with pytest.raises(BundleInvalidError, match="not a plain file"):
        read_bundle_info(folder)


def test_verifying_reads_hashes_and_predicts(folder: Path) -> None:
    BundleMaker(architecture="lstm").write(folder)
    report = verify_bundle(folder)
    assert [file.name for file in report.files] == [
        "config.json",
        "features.json",
        "metadata_v3.json",
        "model.pt",
    ]
    assert report.parameter_count == sum(
        weight.numel() for weight in BundleMaker(architecture="lstm").weights().values()
    )
    assert len(report.probe_outputs) == 3


def test_the_loaded_predictor_is_frozen(folder: Path) -> None:
    predictor = load_predictor(read_bundle(BundleMaker().write(folder)))
    assert not predictor._network.training
    assert not any(weight.requires_grad for weight in predictor._network.parameters())


def test_normalization_is_read_and_must_agree_with_the_strategy(folder: Path) -> None:
    raw = {
        "nn_inputs": [{"raw_indicator": "rsi_14", "normalization": "minmax", "timeframes": "all"}],
        "resolved_features": ["1h_rsi_14_raw"],
        "normalization_params": {"1h_rsi_14_raw": {"method": "minmax", "min": 0, "max": 100}},
    }
    maker = BundleMaker(feature_count=1, metadata=raw)
    assert read_bundle_info(maker.write(folder)).normalization == {
        "1h_rsi_14_raw": {"min": 0.0, "max": 100.0}
    }
    for entry, says in [
        ({"method": "zscore", "mean": 0, "std": 1}, "accepted: minmax"),
        ({"method": "minmax", "min": 0}, "max is missing"),
        ({"method": "cubic"}, "'cubic'"),
    ]:
        maker.metadata["normalization_params"] = {"1h_rsi_14_raw": entry}
        with pytest.raises(BundleInvalidError, match=says):
            read_bundle_info(maker.write(folder))


def zip_entry(content: bytes, suffix: str) -> bytes:
    import io

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return next(archive.read(name) for name in archive.namelist() if name.endswith(suffix))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": {"type": "transformer", "architecture": {}}}, "mlp, lstm, gru"),
        ({"model": {"type": "mlp"}}, "model.architecture is missing"),
        ({"model": None}, "model.architecture is missing"),
        ({"model": {"architecture": {"hidden_layers": [4, 0]}}}, "whole numbers from 1"),
        ({"model": {"architecture": {"hidden_layers": [4], "activation": "swish"}}}, "'swish'"),
        ({"model": {"architecture": {"hidden_layers": [5, 4]}, "num_classes": 5}}, "num_classes"),
        (
            {"model": {"architecture": {"hidden_layers": [5, 4]}, "output_format": "regression"}},
            "output_format",
        ),
        ({"decisions": {"confidence_threshold": 1.5}}, "from 0 to 1"),
        ({"decisions": {"position_awareness": "yes"}}, "true or false"),
        ({"decisions": {"filters": {"min_signal_separation": -1}}}, "from 0"),
        ({"decisions": {"cost_model": {"round_trip_cost": 0}}}, "above 0"),
        ({"decisions": []}, "an object"),
    ],
)
def test_what_config_json_says_wrong_is_named(
    folder: Path, change: dict[str, object], says: str
) -> None:
    BundleMaker(config=change).write(folder)
    with pytest.raises(BundleInvalidError, match=says):
        read_bundle_info(folder)


def test_an_architecture_at_the_top_of_config_json_is_read(folder: Path) -> None:
    config = {"model": None, "architecture": {"hidden_layers": [5, 4]}, "type": "mlp"}
    BundleMaker(config=config).write(folder)
    assert json.loads((folder / "config.json").read_text())["model"] is None
    assert read_bundle(folder).info.architecture == "mlp"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"output_type": "oracle"}, "classification, regression"),
        ({"resolved_features": []}, "1 to 4096 names"),
        ({"resolved_features": None}, "resolved_features is missing"),
        ({"model_type": "lstm"}, "'mlp', which is what config.json describes"),
        ({"created_at": "yesterday"}, "a time such as"),
    ],
)
def test_what_the_metadata_says_wrong_is_named(
    folder: Path, change: dict[str, object], says: str
) -> None:
    BundleMaker(metadata=change).write(folder)
    with pytest.raises(BundleInvalidError, match=says):
        read_bundle_info(folder)


@pytest.mark.parametrize(
    ("output_type", "head", "count"),
    [
        ("classification", ModelHead.CLASSIFICATION, 3),
        ("regression", ModelHead.REGRESSION, 1),
        ("regime_classification", ModelHead.REGIME, 4),
        ("context_classification", ModelHead.CONTEXT, 3),
    ],
)
@pytest.mark.parametrize("architecture", ["mlp", "lstm", "gru"])
def test_every_head_and_architecture_is_read(
    folder: Path, architecture: str, output_type: str, head: ModelHead, count: int
) -> None:
    maker = BundleMaker(architecture=architecture, output_type=output_type)
    report = verify_bundle(maker.write(folder))
    assert (report.info.head, len(report.probe_outputs)) == (head, count)
    assert report.info.sequence_length == (1 if architecture == "mlp" else 6)
