"""Bundles that somebody made to do harm, or that broke on the way: one case each, as data.

Tests run every case in process, through the command line and against a running model_service;
scripts/generate_error_docs.py runs them, too, and writes what each is told into docs/errors.md.
"""

import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backlane.errors import (
    BacklaneError,
    BundleCorruptError,
    BundleInvalidError,
    BundlePickledError,
    InvalidStrategyError,
    PathEscapesRootError,
)
from backlane.inference.model_name import ModelName
from backlane.sources.bundle import verify_bundle
from backlane.sources.bundle_paths import resolve_bundle
from backlane.testing.bundle_parts import (
    CONFIG,
    FEATURES,
    HIDDEN_SIZE,
    METADATA,
    WEIGHTS,
    write_bundle,
)
from backlane.testing.weights_archive import (
    Archive,
    Weight,
    archive_of,
    dictionary,
    entry_info,
    filled,
    name,
    tensor,
    text,
    whole,
)

MODEL, VERSION = "hostile", "1"
CANARY = "EXECUTED"
"""A file of this name beside the models folder means that a pickle was executed."""
_LINK_MODE, _FILE_MODE = 0o120_777, 0o100_600
_MIB = 2**20
_Write = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class HostileBundle:
    """One case. `done` is what is wrong with it, for people; `says` are words of the refusal.

    `write` puts the bundle into a folder, {models}/{MODEL}/{VERSION}. With `only_weights` the fault
    is in the weights alone: the bundle can be described, and not be loaded.
    """

    name: str
    done: str
    write: _Write
    error: type[BacklaneError]
    says: str
    only_weights: bool = False


def refusal(case: HostileBundle, root: Path) -> BacklaneError:
    """Writes the case under `root`/models, verifies the bundle, and returns what it is told.

    Raises AssertionError when it is accepted.
    """
    models = root / "models"
    case.write(models / MODEL / VERSION)
    try:
        verify_bundle(resolve_bundle(models, ModelName(MODEL, VERSION)), root=models)
    except BacklaneError as error:
        return error
    raise AssertionError(f"the bundle {case.name} is accepted")


# --- how a case is written ---------------------------------------------------------------------


def _documents(
    metadata: Mapping[str, Any] | None = None, config: Mapping[str, Any] | None = None
) -> _Write:
    return lambda folder: write_bundle(folder, metadata=metadata, config=config)


def _file(file_name: str, content: bytes) -> _Write:
    def write(folder: Path) -> None:
        write_bundle(folder)
        (folder / file_name).write_bytes(content)

    return write


def _weights(**changes: Weight) -> _Write:
    named = {key.replace("_", ".", 1).removeprefix("w"): value for key, value in changes.items()}
    return lambda folder: write_bundle(folder, weights=named)


def _pickled(pickle: bytes, storages: Mapping[str, bytes] | None = None) -> _Write:
    return _file("model.pt", Archive(pickle, storages or {}).write())


def _entries(path: str, content: bytes = b"", *, mode: int = _FILE_MODE) -> _Write:
    more = (entry_info(path, mode), content)
    return lambda folder: write_bundle(folder, model_pt=archive_of(WEIGHTS).write(more))


def _calling(module: str, attribute: str, argument: Callable[[Path], bytes]) -> _Write:
    """A state dict whose first weight is what a call gives; `argument` may name the canary."""

    def write(folder: Path) -> None:
        call = name(module, attribute) + b"(" + argument(_canary(folder)) + b"tR"
        content = Archive(dictionary({"0.weight": call})).write()
        write_bundle(folder, model_pt=content)

    return write


def _canary(folder: Path) -> Path:
    return folder.parents[2] / CANARY


def _outside(folder: Path, file_name: str) -> Path:
    """A place beside the models folder that no other case uses."""
    return folder.parents[2] / f"{folder.parent.name}-{file_name}"


def _touch_command(canary: Path) -> bytes:
    return text(f"touch '{canary}'")


def _bare_pickle(folder: Path) -> None:
    call = name("os", "system") + b"(" + _touch_command(_canary(folder)) + b"tR."
    write_bundle(folder, model_pt=b"\x80\x02" + call)


def _text_pickle(folder: Path) -> None:
    program = f"cos\nsystem\n(S'touch {_canary(folder)}'\ntR."
    write_bundle(folder, model_pt=program.encode())


def _hidden_call(folder: Path) -> None:
    called = text("os") + text("system") + b"\x93(" + _touch_command(_canary(folder)) + b"tR"
    write_bundle(folder, model_pt=Archive(dictionary({"0.weight": called})).write())


def _bytearray_bomb(folder: Path) -> None:
    call = name("builtins", "bytearray") + b"(" + whole(2**31 - 1) + b"tR"
    write_bundle(folder, model_pt=Archive(dictionary({"0.weight": call})).write())


def _tuple_bomb(folder: Path) -> None:
    """A key that is a tuple of twice the same tuple, sixty deep: its hash takes 2**60 steps."""
    pairs = b")" + b"".join(b"q" + bytes([at]) + b"h" + bytes([at]) + b"\x86" for at in range(60))
    write_bundle(folder, model_pt=Archive(b"\x80\x02}" + pairs + b"K\x01s.").write())


def _zip_bomb(folder: Path) -> None:
    zeros = (entry_info("archive/data/99"), bytes(64 * _MIB))
    write_bundle(folder, model_pt=archive_of(WEIGHTS).write(zeros, packed=True))


def _too_many_entries(folder: Path) -> None:
    empty = ((entry_info(f"archive/data/e{at}"), b"") for at in range(5000))
    write_bundle(folder, model_pt=archive_of(WEIGHTS).write(*empty))


def _doubled_entry(folder: Path) -> None:
    content = archive_of(WEIGHTS).write((entry_info("archive/data/X"), b"x"))
    write_bundle(folder, model_pt=content.replace(b"archive/data/X", b"archive/data/0"))


def _overlapping_bomb(folder: Path) -> None:
    """Six hundred entries in the directory of the archive, all at the same mebibyte."""
    content = Archive(b"\x80\x02}.", {"0": bytes(_MIB)}).write()
    at = content.rindex(b"PK\x01\x02", 0, content.rindex(b"PK\x05\x06"))
    end = content.rindex(b"PK\x05\x06")
    directory_at = struct.unpack("<I", content[end + 16 : end + 20])[0]
    entries = content[directory_at:at]
    for number in range(600):
        entry = bytearray(content[at:end])
        entry[-1:] = bytes([65 + number % 26])
        entries += bytes(entry)
    count = 602
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(entries), directory_at, 0)
    write_bundle(folder, model_pt=content[:directory_at] + entries + tail)


def _encrypted(folder: Path) -> None:
    content = bytearray(archive_of(WEIGHTS).write())
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1  # of the flags in the directory
    content[6] |= 1  # and at the entry
    write_bundle(folder, model_pt=bytes(content))


def _flipped_bit(folder: Path) -> None:
    content = bytearray(archive_of(WEIGHTS).write())
    content[content.index(struct.pack("<f", 0.5)) + 1] ^= 0x10
    write_bundle(folder, model_pt=bytes(content))


def _without(file_name: str) -> _Write:
    def write(folder: Path) -> None:
        write_bundle(folder)
        (folder / file_name).unlink()

    return write


def _missing_weight(folder: Path) -> None:
    weights = {key: weight for key, weight in WEIGHTS.items() if key != "3.bias"}
    write_bundle(folder, model_pt=archive_of(weights).write())


def _linked_out(file_name: str) -> _Write:
    def write(folder: Path) -> None:
        write_bundle(folder)
        outside = _outside(folder, file_name)
        (folder / file_name).rename(outside)
        (folder / file_name).symlink_to(outside)

    return write


def _link_loop(folder: Path) -> None:
    write_bundle(folder)
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("config.json")


def _linked_version(folder: Path) -> None:
    outside = _outside(folder, "elsewhere")
    write_bundle(outside)
    folder.parent.mkdir(parents=True)
    folder.symlink_to(outside)


def _folder_for_file(folder: Path) -> None:
    write_bundle(folder)
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


def _pipe(folder: Path) -> None:
    write_bundle(folder)
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def _oversized_json(folder: Path) -> None:
    write_bundle(folder)
    with (folder / "metadata_v3.json").open("ab") as file:
        file.truncate(8 * _MIB)


def _layers(**architecture: object) -> _Write:
    return _documents(config={"model": {"type": "mlp", "architecture": architecture}})


# --- the cases ---------------------------------------------------------------------------------

_Pickled, _Invalid, _Corrupt = BundlePickledError, BundleInvalidError, BundleCorruptError
_DENSE = {key: tensor(str(at), weight) for at, (key, weight) in enumerate(WEIGHTS.items())}

_PICKLES = (
    HostileBundle("pickle_runs_a_command", "model.pt pickles a call of `os.system`",
                  _calling("posix", "system", _touch_command), _Pickled, "posix.system", True),
    HostileBundle("pickle_evaluates_python", "model.pt pickles a call of `eval`",
                  _calling("builtins", "eval", lambda at: text(f"open({str(at)!r}, 'w')")),
                  _Pickled, "builtins.eval", True),
    HostileBundle("pickle_hides_its_call", "the function is named by texts (STACK_GLOBAL)",
                  _hidden_call, _Pickled, "STACK_GLOBAL", True),
    HostileBundle("pickled_module", "`torch.save(model)` in place of its weights",
                  _pickled(dictionary({"0": name("torch.nn.modules.linear", "Linear")})),
                  _Pickled, "torch.nn.modules.linear.Linear", True),
    HostileBundle("bare_pickle", "model.pt is a pickle without an archive",
                  _bare_pickle, _Pickled, "bare pickle", True),
    HostileBundle("text_pickle", "model.pt is a pickle of protocol 0, which is text",
                  _text_pickle, _Corrupt, "no whole archive", True),
    HostileBundle("torchscript_module", "model.pt is a compiled module",
                  _entries("archive/constants.pkl", b"\x80\x02)."),
                  _Pickled, "TorchScript", True),
)  # fmt: skip

_BOMBS = (
    HostileBundle("zip_bomb", "64 MiB of zeros in an archive of 65 kB, compressed",
                  _zip_bomb,
                  _Invalid, "is compressed", True),
    HostileBundle("overlapping_zip_bomb", "600 entries that all show the same mebibyte",
                  _overlapping_bomb, _Invalid, "unpacked bytes; at most", True),
    HostileBundle("too_many_entries", "an archive of 5,000 empty entries",
                  _too_many_entries,
                  _Invalid, "entries; at most 4,096", True),
    HostileBundle("huge_pickle", "a pickle of 2 MiB, where only names belong",
                  _pickled(dictionary({"0.weight": b"X" + struct.pack("<I", 2 * _MIB)
                                       + bytes(2 * _MIB)})),
                  _Invalid, "pickle bytes; at most", True),
    HostileBundle("memory_bomb", "a pickle of 60 bytes that makes 2 GiB of zeros",
                  _bytearray_bomb, _Pickled, "builtins.bytearray", True),
    HostileBundle("time_bomb", "a key whose hash takes 2^60 steps",
                  _tuple_bomb, _Corrupt, "no plain text", True),
    HostileBundle("huge_view", "one number, seen as a matrix of 10^6 by 10^6",
                  _weights(w0_weight=Weight((10**6, 10**6), bytes(4), stride=(0, 0))),
                  _Invalid, "(1000000, 1000000)", True),
    HostileBundle("huge_storage", "a storage of 4 bytes that says it holds 2^40 numbers",
                  _weights(w0_bias=Weight((HIDDEN_SIZE,), bytes(4), count=2**40)),
                  _Corrupt, "the pickle says 4,398,046,511,104", True),
    HostileBundle("huge_network", "config.json asks for two layers of 65,536",
                  _layers(hidden_layers=[65_536, 65_536]), _Invalid, "PARAMETER_COUNT_MAX"),
    HostileBundle("huge_layer", "config.json asks for a layer of 10^12",
                  _layers(hidden_layers=[10**12]), _Invalid, "whole numbers from 1 to 65536"),
    HostileBundle("huge_window", "config.json asks for windows of 10^9 bars",
                  _documents(config={"model": {"type": "lstm", "architecture":
                                               {"sequence_length": 10**9}}}),
                  _Invalid, "sequence_length is 1000000000"),
    HostileBundle("too_many_features", "inputs that multiply to a million features",
                  _documents(metadata={"nn_inputs": METADATA["nn_inputs"] * 4000,
                                       "training_timeframes": [f"{n}m" for n in range(1, 130)]}),
                  InvalidStrategyError, "1,032,000 features: at most 65,536"),
    HostileBundle("too_many_indicators", "a strategy of 5,000 indicators",
                  _documents(metadata={"indicators": {f"i{n}": {"type": "rsi"}
                                                      for n in range(5000)}}),
                  InvalidStrategyError, "5,000 entries: at most 4,096"),
    HostileBundle("deep_json", "100,000 brackets within each other in config.json",
                  _file("config.json", b'{"model": ' + b"[" * 100_000), _Corrupt,
                  "nested too deeply"),
    HostileBundle("oversized_json", "metadata_v3.json of 8 MiB",
                  _oversized_json, _Invalid, "8,388,608 bytes; at most 4,194,304"),
    HostileBundle("endless_number", "a number of 5,000 digits in config.json",
                  _file("config.json", b'{"model": ' + b"9" * 5000 + b"}"), _Corrupt,
                  "a number of too many digits"),
)  # fmt: skip

_LINKS = (
    HostileBundle("weights_link_out", "model.pt is a link to a file outside",
                  _linked_out("model.pt"), PathEscapesRootError, "leads out"),
    HostileBundle("json_link_out", "metadata_v3.json is a link to a file outside",
                  _linked_out("metadata_v3.json"), PathEscapesRootError, "leads out"),
    HostileBundle("version_link_out", "the folder of the version is a link to one outside",
                  _linked_version, PathEscapesRootError, "leads out"),
    HostileBundle("link_loop", "config.json is a link to itself",
                  _link_loop, PathEscapesRootError, "round in a circle"),
    HostileBundle("entry_climbs_out", "an entry of the archive is called `../../.bashrc`",
                  _entries("archive/../../.bashrc"), _Invalid,
                  "names a place outside", True),
    HostileBundle("entry_is_a_link", "an entry of the archive is a link to /etc/passwd",
                  _entries("archive/data/9", b"/etc/passwd", mode=_LINK_MODE), _Invalid,
                  "is a link", True),
    HostileBundle("folder_for_a_file", "config.json is a folder",
                  _folder_for_file, _Invalid, "not a plain file"),
    HostileBundle("pipe_for_a_file", "config.json is a pipe that nobody writes to",
                  _pipe, _Invalid, "not a plain file"),
)  # fmt: skip

_DAMAGE = (
    HostileBundle("truncated", "model.pt ends after half of its bytes",
                  _file("model.pt", archive_of(WEIGHTS).write()[:500]), _Corrupt,
                  "no whole archive", True),
    HostileBundle("empty_weights", "model.pt has no bytes",
                  _file("model.pt", b""), _Corrupt, "it is empty", True),
    HostileBundle("lfs_pointer", "model.pt is what git leaves without git-lfs",
                  _file("model.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
                  _Corrupt, "git lfs pull", True),
    HostileBundle("flipped_bit", "one bit of a weight is another",
                  _flipped_bit, _Corrupt, "checksum of archive/data/0", True),
    HostileBundle("encrypted", "an entry of the archive is encrypted",
                  _encrypted, _Invalid, "is encrypted", True),
    HostileBundle("doubled_entry", "two entries of the archive have one name",
                  _doubled_entry,
                  _Invalid, "stands there twice", True),
    HostileBundle("short_storage", "a storage of 4 bytes for 4 numbers",
                  _weights(w0_weight=Weight((HIDDEN_SIZE, 2), bytes(4), count=4)), _Corrupt,
                  "has 4 bytes, the pickle says 16", True),
    HostileBundle("storage_missing", "a tensor whose storage is not in the archive",
                  _pickled(dictionary(_DENSE)), _Corrupt, "is not there", True),
    HostileBundle("reaching_beyond", "a tensor that begins behind the end of its storage",
                  _weights(w0_bias=Weight((HIDDEN_SIZE,), offset=1000)), _Corrupt,
                  "reaches to the number 1,002 of a storage of 2", True),
    HostileBundle("no_utf8", "a byte in config.json that is no text",
                  _file("config.json", b'{"model": "\xff"}'), _Corrupt, "no text in UTF-8"),
    HostileBundle("no_json", "metadata_v3.json breaks off",
                  _file("metadata_v3.json", b'{"strategy_name": '), _Corrupt, "line 1, column 19"),
    HostileBundle("json_nan", "NaN in config.json",
                  _file("config.json", b'{"decisions": {"confidence_threshold": NaN}}'), _Corrupt,
                  "NaN is not a number"),
    HostileBundle("json_key_twice", "a key stands twice in config.json",
                  _file("config.json", b'{"model": {}, "model": {}}'), _Corrupt, "stands twice"),
)  # fmt: skip

_CONTRADICTIONS = (
    HostileBundle("nan_weights", "a weight is NaN",
                  _weights(w0_bias=filled((HIDDEN_SIZE,), float("nan"))), _Invalid,
                  "0.bias holds NaN", True),
    HostileBundle("infinite_weights", "a weight is infinite",
                  _weights(w0_bias=filled((HIDDEN_SIZE,), float("-inf"))), _Invalid,
                  "holds NaN or infinity", True),
    HostileBundle("overflowing_weights", "weights so large that the outputs are infinite",
                  _weights(w0_bias=filled((HIDDEN_SIZE,), 3e38),
                           w3_weight=filled((3, HIDDEN_SIZE), 3e38)), _Invalid,
                  "its weights overflow", True),
    HostileBundle("float64_weights", "a weight is float64",
                  _weights(w0_bias=Weight((HIDDEN_SIZE,), bytes(16), "DoubleStorage", count=2)),
                  _Invalid, "float64", True),
    HostileBundle("integer_weights", "a weight is int64",
                  _weights(w0_bias=Weight((HIDDEN_SIZE,), bytes(16), "LongStorage", count=2)),
                  _Invalid, "int64", True),
    HostileBundle("missing_weight", "a weight of the network is not there",
                  _missing_weight, _Invalid, "3.bias: expected (3,), found nothing", True),
    HostileBundle("surplus_weight", "a weight that the network does not have",
                  _weights(w9_weight=Weight((1,))), _Invalid, "expected nothing, found (1,)", True),
    HostileBundle("other_shape", "a weight of another shape",
                  _weights(w0_weight=Weight((HIDDEN_SIZE, 7))), _Invalid,
                  "expected (2, 2), found (2, 7)", True),
    HostileBundle("training_checkpoint", "a checkpoint of training, with the epoch",
                  _pickled(dictionary({"epoch": whole(3)})), _Invalid, "not a tensor", True),
    HostileBundle("no_state_dict", "a list of numbers for a state dict",
                  _pickled(b"\x80\x02](K\x01K\x02e."), _Invalid, "not a state dict", True),
    HostileBundle("missing_config", "config.json is not there",
                  _without("config.json"), _Invalid, "lacks config.json"),
    HostileBundle("missing_weights_file", "model.pt is not there",
                  _without("model.pt"), _Invalid, "lacks model.pt"),
    HostileBundle("missing_key", "metadata_v3.json has no resolved_features",
                  _documents(metadata={"resolved_features": None}), _Invalid,
                  "resolved_features is missing"),
    HostileBundle("unknown_architecture", "config.json asks for a transformer",
                  _documents(config={"model": {"type": "transformer", "architecture": {}}}),
                  _Invalid, "'transformer'; accepted: mlp, lstm, gru"),
    HostileBundle("unknown_activation", "config.json asks for swish",
                  _layers(hidden_layers=[HIDDEN_SIZE], activation="swish"), _Invalid, "'swish'"),
    HostileBundle("unknown_head", "metadata_v3.json has an unknown output_type",
                  _documents(metadata={"output_type": "oracle"}), _Invalid, "'oracle'"),
    HostileBundle("other_feature_count", "features.json counts one feature more",
                  _file("features.json", b'{"feature_count": 3}'), _Invalid, "is 3, but"),
    HostileBundle("other_feature_order", "resolved_features in another order than the strategy's",
                  _documents(metadata={"resolved_features": list(FEATURES[::-1])}), _Invalid,
                  "is not where the strategy"),
    HostileBundle("unprintable_feature", "a feature whose name clears the screen",
                  _documents(metadata={"resolved_features": ["\x1b[2J", "x"]}), _Invalid,
                  "printable characters"),
    HostileBundle("unknown_indicator", "the strategy reads an indicator that nobody knows",
                  _documents(metadata={"indicators": {"rsi_14": {"type": "oracle"}}}),
                  InvalidStrategyError, "'oracle' is no known indicator"),
    HostileBundle("wrong_section", "decisions is a list",
                  _documents(config={**CONFIG, "decisions": []}), _Invalid, "an object"),
)  # fmt: skip

HOSTILE_BUNDLES = (*_PICKLES, *_BOMBS, *_LINKS, *_DAMAGE, *_CONTRADICTIONS)
"""Every case, by kind."""
