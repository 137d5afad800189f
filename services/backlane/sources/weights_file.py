"""Reads model.pt: a torch state dict, plain weights and nothing that could run.

A file of torch.save is a zip archive of one pickle (names, shapes, where each tensor lies) and one
entry of raw numbers per storage. Everything is checked before torch sees it: entries stored, not
compressed, so that a small file cannot unpack into a large one; checksums right, which torch itself
does not look at; the pickle, by `plain_pickle`, which runs nothing; the sizes of the storages. Then
one torch.load on the CPU with weights_only.
"""

import io
import stat
import zipfile
from collections import Counter
from typing import TYPE_CHECKING

from backlane.errors import BundleCorruptError, BundleInvalidError, BundlePickledError
from backlane.sources.plain_pickle import (
    ForeignGlobalsError,
    NotPlainError,
    shown_text,
    storages_of,
)

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_BYTES_MAX = 512 * 2**20
ARCHIVE_ENTRY_COUNT_MAX = 4096
# The pickle only names tensors; weights lie beside it.
ARCHIVE_PICKLE_BYTES_MAX = 2**20

_PICKLE, _LFS_POINTER = "data.pkl", b"version https://git-lfs.github.com/"
_ENCRYPTED = 0x1
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
    _check_start(content, label)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_entries(archive.infolist(), label)
            damaged = archive.testzip()
            if damaged is None:
                _check_pickle(archive, label)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise _damaged(label, "it is no whole archive of torch.save") from error
    if damaged is not None:
        raise _damaged(label, f"the checksum of {shown_text(damaged)} is wrong")


def _check_start(content: bytes, label: str) -> None:
    if not content:
        raise _damaged(label, "it is empty")
    if content[:1] == b"\x80":
        raise BundlePickledError(
            f"{label} is a bare pickle, not an archive of plain weights. {_REMEDY}"
        )
    if content.startswith(_LFS_POINTER):
        raise _damaged(label, "it is the pointer of git-lfs to the file (git lfs pull fetches it)")


def _check_entries(entries: list[zipfile.ZipInfo], label: str) -> None:
    if len(entries) > ARCHIVE_ENTRY_COUNT_MAX:
        raise _too_large(label, "entries", len(entries), ARCHIVE_ENTRY_COUNT_MAX)
    unpacked_bytes = sum(entry.file_size for entry in entries)
    if unpacked_bytes > WEIGHTS_BYTES_MAX:
        raise _too_large(label, "unpacked bytes", unpacked_bytes, WEIGHTS_BYTES_MAX)
    names = Counter(entry.filename for entry in entries)
    for entry in entries:
        if wrong := _entry_mistake(entry, names):
            raise BundleInvalidError(
                f"{label}: its entry {shown_text(entry.filename)} {wrong}, which torch.save never "
                f"writes. {_REMEDY}",
                metadata={"file": label, "entry": shown_text(entry.filename)},
            )
        if entry.filename.endswith(".pkl") and entry.file_size > ARCHIVE_PICKLE_BYTES_MAX:
            raise _too_large(label, "pickle bytes", entry.file_size, ARCHIVE_PICKLE_BYTES_MAX)
        if entry.filename.endswith("/constants.pkl"):
            raise BundlePickledError(f"{label} is a compiled TorchScript module. {_REMEDY}")


def _entry_mistake(entry: zipfile.ZipInfo, names: Counter[str]) -> str:
    """What is wrong with an entry, or nothing: two readers must not see two different archives."""
    parts = entry.filename.replace("\\", "/").split("/")
    if ".." in parts or "" in parts[:1]:
        return "names a place outside the archive"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "is a link"
    if entry.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if entry.compress_type != zipfile.ZIP_STORED:
        return "is compressed"
    if entry.file_size != entry.compress_size:
        return "has two sizes"
    return "stands there twice" if names[entry.filename] > 1 else ""


def _check_pickle(archive: zipfile.ZipFile, label: str) -> None:
    """Refuses a pickle of more than plain weights, and storages that are not as long as it says."""
    pickles = [name for name in archive.namelist() if name.endswith(f"/{_PICKLE}")]
    if len(pickles) != 1:
        raise _damaged(label, f"it has {len(pickles)} entries called {_PICKLE}, one is needed")
    top = pickles[0].removesuffix(_PICKLE)
    if any(not name.startswith(top) for name in archive.namelist()):
        raise _damaged(label, f"entries of it lie outside its folder {shown_text(top)}")
    sizes_bytes = {entry.filename: entry.file_size for entry in archive.infolist()}
    try:
        storages = storages_of(archive.read(pickles[0]))
    except ForeignGlobalsError as error:
        foreign = ", ".join(error.names)
        raise BundlePickledError(
            f"{label} pickles {foreign}, and loading such could run any code; it is refused, as "
            f"plain weights need none of it. {_REMEDY}",
            metadata={"globals": foreign},
        ) from error
    except NotPlainError as error:
        raise _damaged(label, str(error)) from error
    for storage in storages:
        found = sizes_bytes.get(f"{top}data/{storage.key}")
        if found != storage.size_bytes:
            has = "is not there" if found is None else f"has {found:,} bytes"
            key, said = shown_text(storage.key), f"{storage.size_bytes:,}"
            raise _damaged(label, f"the storage {key} {has}, the pickle says {said}")


def _too_large(label: str, what: str, found: int, limit: int) -> BundleInvalidError:
    return BundleInvalidError(
        f"{label} has {found:,} {what}; at most {limit:,} are loaded.",
        metadata={"found": str(found), "limit": str(limit), "what": what},
    )


def _damaged(label: str, what: str) -> BundleCorruptError:
    return BundleCorruptError(
        f"{label} is cut off or damaged: {what}. Copy it again, or save it again.",
        metadata={"file": label, "cause": what},
    )


def _load(content: bytes, label: str) -> object:
    import torch

    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    # Boundary: torch raises whatever a byte that the checks above let pass makes it stumble over.
    except Exception as error:
        lines = str(error).strip().splitlines()
        cause = lines[-1][:200] if lines else type(error).__name__
        raise BundleCorruptError(
            f"{label} cannot be read: {cause}. Copy it again, or save it again.",
            metadata={"file": label, "cause": cause},
        ) from error


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
