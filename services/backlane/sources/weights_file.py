"""Reads model.pt: a torch state dict, plain weights and nothing that could run.

A file of torch.save is a zip archive of one pickle (names, shapes, where each tensor lies) and one
entry of raw numbers per storage. The archive is checked before torch sees it: entries stored, not
compressed, so that a small file cannot unpack into a large one; checksums right, which torch itself
does not look at. Then one torch.load on the CPU with weights_only.
"""

import io
import pickle
import zipfile
from typing import TYPE_CHECKING

from backlane.errors import BundleCorruptError, BundleInvalidError, BundlePickledError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_BYTES_MAX = 512 * 2**20
ARCHIVE_ENTRY_COUNT_MAX = 4096
# The pickle only names tensors; weights lie beside it.
ARCHIVE_PICKLE_BYTES_MAX = 4 * 2**20

_REMEDY = "Save plain weights: torch.save(model.state_dict(), 'model.pt')."


def read_weights(content: bytes, label: str) -> "dict[str, Tensor]":
    """Returns the weights by name, float32, on the CPU, whatever device they were saved on.

    They may still share memory or have impossible strides: check their shapes, then copy them.

    Raises BundlePickledError when the file holds anything but plain weights, BundleCorruptError
    when it cannot be read, BundleInvalidError for weights that are no dense float32 tensors.
    """
    _check_archive(content, label)
    loaded = _load(content, label)
    if not isinstance(loaded, dict) or not loaded:
        kind = "nothing" if loaded == {} else type(loaded).__name__
        raise BundleInvalidError(f"{label} holds {kind}, not a state dict. {_REMEDY}")
    return {str(name): _checked(name, value, label) for name, value in loaded.items()}


def owned_weights(weights: "dict[str, Tensor]", label: str) -> "dict[str, Tensor]":
    """Returns copies of `weights`, contiguous, in memory that torch aligned.

    Raises BundleInvalidError for NaN and infinity. Call it only after the shapes are known to be
    right: a forged stride can make a tiny file look like terabytes.
    """
    import torch

    for name, weight in weights.items():
        if not bool(torch.isfinite(weight).all()):
            raise BundleInvalidError(
                f"{label}: {name} holds NaN or infinity; the training of this model went wrong.",
                metadata={"weight": name},
            )
    return {
        name: weight.detach().clone(memory_format=torch.contiguous_format)
        for name, weight in weights.items()
    }


def _check_archive(content: bytes, label: str) -> None:
    if content[:1] == b"\x80":
        raise BundlePickledError(
            f"{label} is a bare pickle, not an archive of plain weights. {_REMEDY}"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_entries(archive.infolist(), label)
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError) as error:
        raise BundleCorruptError(
            f"{label} is cut off or damaged: {error}. Copy it again.",
            metadata={"file": label, "size_bytes": str(len(content))},
        ) from error
    if damaged is not None:
        raise BundleCorruptError(
            f"{label} is damaged: the checksum of {damaged} is wrong. Copy it again.",
            metadata={"file": label, "entry": damaged},
        )


def _check_entries(entries: list[zipfile.ZipInfo], label: str) -> None:
    if len(entries) > ARCHIVE_ENTRY_COUNT_MAX:
        raise _too_large(label, "entries", len(entries), ARCHIVE_ENTRY_COUNT_MAX)
    unpacked_bytes = sum(entry.file_size for entry in entries)
    if unpacked_bytes > WEIGHTS_BYTES_MAX:
        raise _too_large(label, "unpacked bytes", unpacked_bytes, WEIGHTS_BYTES_MAX)
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise BundleInvalidError(
                f"{label}: {entry.filename} is compressed, which torch.save never does. {_REMEDY}"
            )
        if entry.filename.endswith(".pkl") and entry.file_size > ARCHIVE_PICKLE_BYTES_MAX:
            raise _too_large(label, "pickle bytes", entry.file_size, ARCHIVE_PICKLE_BYTES_MAX)
        if entry.filename.endswith("/constants.pkl"):
            raise BundlePickledError(f"{label} is a compiled TorchScript module. {_REMEDY}")


def _too_large(label: str, what: str, found: int, limit: int) -> BundleInvalidError:
    return BundleInvalidError(
        f"{label} has {found:,} {what}; at most {limit:,} are loaded.",
        metadata={"found": str(found), "limit": str(limit), "what": what},
    )


def _load(content: bytes, label: str) -> object:
    import torch

    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = _foreign_globals(content)
        if foreign:
            raise BundlePickledError(
                f"{label} pickles {', '.join(foreign)}, and loading that could run any code; it is "
                f"refused. {_REMEDY}",
                metadata={"globals": ", ".join(foreign)},
            ) from error
        raise _unreadable(label, error) from error
    # Boundary: the unpickler of torch raises whatever a damaged byte makes it stumble over.
    except Exception as error:
        raise _unreadable(label, error) from error


def _foreign_globals(content: bytes) -> list[str]:
    """The classes and functions that the pickle would import, besides those of plain weights."""
    from torch.serialization import get_unsafe_globals_in_checkpoint

    try:
        return sorted(get_unsafe_globals_in_checkpoint(io.BytesIO(content)))[:8]
    # Boundary: the same unpickler walks the same damaged bytes.
    except Exception:  # noqa: BLE001
        return []


def _unreadable(label: str, error: Exception) -> BundleCorruptError:
    lines = str(error).strip().splitlines()
    cause = lines[-1][:200] if lines else type(error).__name__
    return BundleCorruptError(
        f"{label} cannot be read: {cause}. Copy it again, or save it again.",
        metadata={"file": label},
    )


def _checked(name: object, value: object, label: str) -> "Tensor":
    import torch

    if not isinstance(value, torch.Tensor):
        raise BundleInvalidError(
            f"{label}: {name!r} is a {type(value).__name__}, not a tensor; a checkpoint of "
            f"training holds more than weights. {_REMEDY}",
            metadata={"key": str(name)},
        )
    if value.dtype != torch.float32 or value.layout != torch.strided or value.device.type != "cpu":
        found = f"{value.dtype}, {value.layout}, {value.device.type}".replace("torch.", "")
        raise BundleInvalidError(
            f"{label}: {name} is {found}; only dense float32 weights are served. Save "
            "model.float().state_dict().",
            metadata={"weight": str(name), "found": found},
        )
    return value
