"""Archives as torch.save writes them, made by hand, so that each byte of them can be forged.

Nothing here imports torch or pickle.
"""

import io
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

FLOAT = "FloatStorage"
_TOP = "archive/"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Weight:
    """One tensor of a state dict. By default its storage holds the values of `shape`, all 0.5.

    `content` is what the archive has for its storage; `count` how many numbers the pickle says that
    it has; `stride` in numbers, by default that of a dense tensor.
    """

    shape: tuple[int, ...]
    content: bytes | None = None
    storage: str = FLOAT
    stride: tuple[int, ...] | None = None
    offset: int = 0
    count: int | None = None

    @property
    def raw(self) -> bytes:
        """The bytes of its storage."""
        if self.content is not None:
            return self.content
        return struct.pack("<f", 0.5) * prod(self.shape)


def filled(shape: tuple[int, ...], value: float) -> Weight:
    """Returns a float32 tensor that holds one value everywhere."""
    return Weight(shape, struct.pack("<f", value) * prod(shape))


def text(value: str) -> bytes:
    """Returns the opcode that pushes a text."""
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def whole(value: int) -> bytes:
    """Returns the opcode that pushes a whole number."""
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def name(module: str, attribute: str) -> bytes:
    """Returns the opcode that pushes a function or class by its name."""
    return f"c{module}\n{attribute}\n".encode()


def sizes(values: tuple[int, ...]) -> bytes:
    """Returns the opcodes that push a tuple of whole numbers."""
    return b"(" + b"".join(whole(value) for value in values) + b"t"


def tensor(key: str, weight: Weight) -> bytes:
    """Returns the opcodes that push a tensor in the storage `key`."""
    stride = weight.stride
    if stride is None:
        stride = tuple(prod(weight.shape[axis + 1 :]) for axis in range(len(weight.shape)))
    count = len(weight.raw) // 4 if weight.count is None else weight.count
    identity = text("storage") + name("torch", weight.storage) + text(key) + text("cpu")
    return (
        name("torch._utils", "_rebuild_tensor_v2")
        + (b"((" + identity + whole(count) + b"tQ")
        + (whole(weight.offset) + sizes(weight.shape) + sizes(stride) + b"\x89")
        + (name("collections", "OrderedDict") + b")R" + b"tR")
    )


def dictionary(items: Mapping[str, bytes]) -> bytes:
    """Returns a whole pickle: a dictionary of texts to what other opcodes push."""
    return b"\x80\x02}(" + b"".join(text(key) + item for key, item in items.items()) + b"u."


@dataclass(frozen=True, slots=True)
class Archive:
    """What goes into a model.pt: the pickle, and entries beside it by their names in the folder."""

    pickle: bytes
    storages: Mapping[str, bytes] = field(default_factory=dict)

    def write(self, *more: tuple[zipfile.ZipInfo, bytes], packed: bool = False) -> bytes:
        """Returns the archive; `more` are entries of any name, `packed` compresses everything."""
        out = io.BytesIO()
        method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        entries = {"data.pkl": self.pickle, "version": b"3\n"}
        entries |= {f"data/{key}": content for key, content in self.storages.items()}
        with zipfile.ZipFile(out, "w", method) as archive:
            for entry, content in entries.items():
                archive.writestr(entry_info(_TOP + entry), content, method)
            for info, content in more:
                archive.writestr(info, content, method)
        return out.getvalue()


def entry_info(path: str, mode: int = 0o600) -> zipfile.ZipInfo:
    """Returns the head of an entry, always the same for the same name."""
    info = zipfile.ZipInfo(path, _EPOCH)
    info.external_attr = mode << 16
    return info


def archive_of(weights: Mapping[str, Weight]) -> Archive:
    """Returns the archive of a state dict, each weight in a storage of its own."""
    numbered = list(enumerate(weights.items()))
    return Archive(
        dictionary({key: tensor(str(number), weight) for number, (key, weight) in numbered}),
        {str(number): weight.raw for number, (_, weight) in numbered},
    )
