"""Reads a model bundle once: JSON first, then the weights.

A bundle is a folder {model}/{version}/ with these files:

    metadata_v3.json   features in order, strategy, output type, normalization      required
    config.json        the network and the decisions                                required
    features.json      the number of features, checked when the file is there       optional
    model.pt           the weights, a state dict                                    required

The digest of a bundle covers each of these files that is there, and nothing else:

    sha256:<hex of the SHA-256 of the output of `sha256sum FILE...`, files by name>

so that `sha256sum config.json features.json metadata_v3.json model.pt | sha256sum` gives it at a
shell. What is hashed are the very bytes that are parsed.
"""

import json
import os
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Never

from backlane.errors import BundleCorruptError, BundleInvalidError, ModelNotFoundError
from backlane.inference.bundle_documents import BundleDocuments, BundleIdentity, describe_bundle
from backlane.inference.document import Document
from backlane.inference.model_info import ModelInfo
from backlane.inference.network_spec import NetworkSpec
from backlane.sources.bundle_paths import inside_root
from backlane.sources.plain_pickle import shown_text
from backlane.sources.weights_file import WEIGHTS_BYTES_MAX, owned_weights, read_weights

if TYPE_CHECKING:
    from torch import Tensor

    from backlane.inference.torch_predictor import TorchPredictor

METADATA_FILE = "metadata_v3.json"
CONFIG_FILE = "config.json"
FEATURES_FILE = "features.json"
WEIGHTS_FILE = "model.pt"
BUNDLE_FILES = (CONFIG_FILE, FEATURES_FILE, METADATA_FILE, WEIGHTS_FILE)
_OPTIONAL_FILES = (FEATURES_FILE,)

JSON_BYTES_MAX = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Bundle:
    """One bundle in memory. `weights` fit `network_spec`; `size_bytes` is what they take."""

    info: ModelInfo
    network_spec: NetworkSpec
    weights: "Mapping[str, Tensor]"
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of a bundle that is read, with the SHA-256 of its content in hex."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BundleReport:
    """What `verify_bundle` found; a bundle that is not good raises instead."""

    info: ModelInfo
    files: tuple[BundleFile, ...]
    parameter_count: int
    probe_outputs: tuple[float, ...]


def read_bundle(directory: Path, *, root: Path | None = None) -> Bundle:
    """Reads the bundle in `directory` with its weights; imports torch.

    `root` is the folder that no link may lead out of; by default `directory` itself.

    Raises ModelNotFoundError when there is no such folder, BundleInvalidError when its files
    contradict the format or each other, BundleCorruptError when one cannot be read,
    BundlePickledError when model.pt is more than weights, PathEscapesRootError, and
    InvalidStrategyError.
    """
    contents = _read_files(directory, root or directory)
    info, spec = _describe(directory, contents)
    weights = _fitting_weights(spec, contents[WEIGHTS_FILE])
    size_bytes = sum(weight.nbytes for weight in weights.values())
    return Bundle(info, spec, weights, size_bytes)


def read_bundle_info(directory: Path, *, root: Path | None = None) -> ModelInfo:
    """Describes the bundle in `directory`; hashes its weights, but does not load them.

    Never imports torch. Raises what `read_bundle` raises, save for what only the weights can tell.
    """
    return _describe(directory, _read_files(directory, root or directory))[0]


def load_predictor(bundle: Bundle) -> "TorchPredictor":
    """Makes the in-process predictor of a bundle."""
    from backlane.inference.networks import build_network
    from backlane.inference.torch_predictor import TorchPredictor

    return TorchPredictor(bundle.info, build_network(bundle.network_spec, bundle.weights))


def verify_bundle(directory: Path, *, root: Path | None = None) -> BundleReport:
    """Reads the bundle and predicts with it; raises what `read_bundle` raises.

    The probe is that of `probe_network`.
    """
    contents = _read_files(directory, root or directory)
    info, spec = _describe(directory, contents)
    weights = _fitting_weights(spec, contents[WEIGHTS_FILE])
    predictor = load_predictor(Bundle(info, spec, weights, 0))
    return BundleReport(
        info=info,
        files=_file_list(contents),
        parameter_count=sum(weight.numel() for weight in weights.values()),
        probe_outputs=probe_network(predictor),
    )


def probe_network(predictor: "TorchPredictor") -> tuple[float, ...]:
    """Predicts one window of zeros and returns its outputs.

    Raises BundleInvalidError when they are not finite.
    """
    import numpy as np

    info = predictor.info
    zeros = np.zeros((info.sequence_length, len(info.features)), dtype=np.float32)
    outputs = tuple(float(value) for value in predictor.predict(zeros)[-1])
    if not np.isfinite(outputs).all():
        raise BundleInvalidError(
            f"{info.name} answers a window of zeros with {outputs}; its weights overflow.",
            metadata={"outputs": str(outputs)},
        )
    return outputs


def bundle_fingerprint(directory: Path, *, root: Path) -> tuple[tuple[str, int, int, int], ...]:
    """What the file system says of the files: name, size, time of change, inode.

    Changes whenever a file is replaced or written, and costs no reading: a cache asks it.
    """
    found = []
    for name in BUNDLE_FILES:
        path = inside_root(root, directory / name)
        if path.is_file():
            status = path.stat()
            found.append((name, status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(found)


def _fitting_weights(spec: NetworkSpec, content: bytes) -> "dict[str, Tensor]":
    from backlane.inference.networks import check_weight_shapes

    weights = read_weights(content, WEIGHTS_FILE)
    check_weight_shapes(spec, {name: tuple(weight.shape) for name, weight in weights.items()})
    return owned_weights(weights, WEIGHTS_FILE)


def _describe(directory: Path, contents: Mapping[str, bytes]) -> tuple[ModelInfo, NetworkSpec]:
    documents = BundleDocuments(
        metadata=_parse(METADATA_FILE, contents),
        config=_parse(CONFIG_FILE, contents),
        features=_parse(FEATURES_FILE, contents) if FEATURES_FILE in contents else None,
    )
    place = directory.absolute()
    identity = BundleIdentity(place.parent.name, place.name, _digest(contents), _runtime())
    return describe_bundle(documents, identity)


def _read_files(directory: Path, root: Path) -> dict[str, bytes]:
    if not directory.is_dir():
        raise ModelNotFoundError(
            f"There is no folder {directory}.", metadata={"directory": str(directory)}
        )
    there = {name: inside_root(root, directory / name) for name in BUNDLE_FILES}
    missing = [
        name
        for name, path in there.items()
        if name not in _OPTIONAL_FILES and not os.path.lexists(path)
    ]
    if missing:
        raise BundleInvalidError(
            f"The bundle {directory.name} lacks {', '.join(missing)}; a bundle has "
            f"{', '.join(BUNDLE_FILES)} ({', '.join(_OPTIONAL_FILES)} may be left out).",
            metadata={"missing": ", ".join(missing)},
        )
    return {name: _read_file(path, name) for name, path in there.items() if os.path.lexists(path)}


def _read_file(path: Path, name: str) -> bytes:
    limit_bytes = WEIGHTS_BYTES_MAX if name == WEIGHTS_FILE else JSON_BYTES_MAX
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BundleInvalidError(f"{name} is not a plain file.", metadata={"file": name})
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except OSError as error:
        raise BundleCorruptError(
            f"{name} cannot be read: {error.strerror}.", metadata={"file": name}
        ) from error
    if len(content) > limit_bytes:
        raise BundleInvalidError(
            f"{name} has {status.st_size:,} bytes; at most {limit_bytes:,} are read.",
            metadata={"file": name, "found": str(status.st_size), "limit": str(limit_bytes)},
        )
    return content


def _digest(contents: Mapping[str, bytes]) -> str:
    lines = (f"{file.sha256}  {file.name}\n" for file in _file_list(contents))
    return f"sha256:{sha256(''.join(lines).encode()).hexdigest()}"


def _file_list(contents: Mapping[str, bytes]) -> tuple[BundleFile, ...]:
    return tuple(
        BundleFile(name, len(content), sha256(content).hexdigest())
        for name, content in sorted(contents.items())
    )


def _runtime() -> dict[str, str]:
    """Versions that outputs depend on, read without importing them."""
    try:
        return {"torch": version("torch")}
    except PackageNotFoundError:
        return {}


def _parse(name: str, contents: Mapping[str, bytes]) -> Document:
    try:
        parsed = json.loads(
            contents[name], parse_constant=_refuse_constant, object_pairs_hook=_unique_keys
        )
    except (ValueError, RecursionError) as error:
        raise BundleCorruptError(
            f"{name} is no JSON: {_json_mistake(error)}.", metadata={"file": name}
        ) from error
    if not isinstance(parsed, dict):
        raise BundleInvalidError(
            f"{name} holds {type(parsed).__name__}, not a JSON object.", metadata={"file": name}
        )
    return Document(name, parsed)


class _ForbiddenJsonError(ValueError):
    """Something that Python reads in JSON, and the format forbids."""


def _json_mistake(error: ValueError | RecursionError) -> str:
    match error:
        case _ForbiddenJsonError():
            return str(error)
        case UnicodeDecodeError():
            return f"the byte {error.start + 1} of it is no text in UTF-8"
        case json.JSONDecodeError():
            return f"it breaks off or goes wrong at line {error.lineno}, column {error.colno}"
        case RecursionError():
            return "it is nested too deeply"
        case _:
            return "it holds a number of too many digits"


def _refuse_constant(constant: str) -> Never:
    raise _ForbiddenJsonError(f"{constant} is not a number in JSON")


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        repeated = next(
            name for name, count in Counter(name for name, _ in pairs).items() if count > 1
        )
        raise _ForbiddenJsonError(f"the key '{shown_text(repeated)}' stands twice in one object")
    return unique
