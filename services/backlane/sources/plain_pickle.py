"""Reads the pickle of a state dict without running anything that is in it.

A pickle is a program for a small stack machine. torch's own machine calls what the program names
from a list of functions that cannot do harm by themselves, yet one of them makes 2 GB of zeros out
of forty bytes, and a dictionary whose keys are nested tuples hashes for ever. So this machine runs
first: it knows the opcodes that torch.save writes (protocol 2), calls nothing, and turns the
program into names, shapes and places. Only a program that it understands is given to torch.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

TEXT_CHARACTERS_MAX = 512
DIMENSION_COUNT_MAX = 8
SHOWN_GLOBALS_MAX = 8

_ITEM_BYTES = {
    "FloatStorage": 4, "DoubleStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2,
    "LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1,
    "BoolStorage": 1, "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16,
}  # fmt: skip
_DICTIONARY = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_PLAIN_GLOBALS = {_DICTIONARY, _TENSOR, _PARAMETER, *(f"torch {name}" for name in _ITEM_BYTES)}

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = ("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
_TUPLE_SIZES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# What follows the byte of an opcode: nothing, a number in a format of struct, a text after its
# length, a whole number after its length, or a module and a name, each with a newline.
_TEXT, _LONG, _LINES = "text", "long", "lines"
_OPCODES = {
    b"(": ("MARK", ""), b".": ("STOP", ""), b"}": ("EMPTY_DICT", ""), b"]": ("EMPTY_LIST", ""),
    b")": ("EMPTY_TUPLE", ""), b"t": ("TUPLE", ""), b"\x85": ("TUPLE1", ""),
    b"\x86": ("TUPLE2", ""), b"\x87": ("TUPLE3", ""), b"s": ("SETITEM", ""),
    b"u": ("SETITEMS", ""), b"a": ("APPEND", ""), b"e": ("APPENDS", ""), b"b": ("BUILD", ""),
    b"R": ("REDUCE", ""), b"Q": ("BINPERSID", ""), b"N": ("NONE", ""), b"\x88": ("NEWTRUE", ""),
    b"\x89": ("NEWFALSE", ""), b"\x80": ("PROTO", "<B"), b"J": ("BININT", "<i"),
    b"K": ("BININT1", "<B"), b"M": ("BININT2", "<H"), b"G": ("BINFLOAT", ">d"),
    b"q": ("BINPUT", "<B"), b"r": ("LONG_BINPUT", "<I"), b"h": ("BINGET", "<B"),
    b"j": ("LONG_BINGET", "<I"), b"X": ("BINUNICODE", _TEXT), b"\x8a": ("LONG1", _LONG),
    b"c": ("GLOBAL", _LINES),
}  # fmt: skip
# These name what they call with texts from the stack, or by a number: nothing shows what it is.
_HIDDEN_CALLS = {
    b"\x93": "STACK_GLOBAL", b"i": "INST", b"o": "OBJ", b"\x81": "NEWOBJ", b"\x92": "NEWOBJ_EX",
    b"\x82": "EXT1", b"\x83": "EXT2", b"\x84": "EXT4",
}  # fmt: skip


class ForeignGlobalsError(Exception):
    """The pickle names more than plain weights need; `names` says what, as `module.name`."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(", ".join(names))
        self.names = names


class NotPlainError(Exception):
    """The pickle is damaged, or is none that torch.save writes; the text says what, of `it`."""


_DAMAGED = "its pickle is damaged"


@dataclass(frozen=True, slots=True)
class Storage:
    """Raw numbers in the entry `data/{key}` of the archive."""

    key: str
    item_count: int
    item_bytes: int

    @property
    def size_bytes(self) -> int:
        """How long the entry must be."""
        return self.item_count * self.item_bytes


@dataclass(frozen=True, slots=True)
class PlainTensor:
    """A view of a storage, as the pickle describes it; it lies within the storage."""

    storage: Storage
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


_MARK = object()


def storages_of(pickled: bytes) -> tuple[Storage, ...]:
    """Returns the storages that a pickle of plain values and tensors names, each once.

    Raises ForeignGlobalsError when it names anything that plain weights do not need, and
    NotPlainError when it is damaged, or is no pickle that torch.save writes.
    """
    machine, foreign = _Machine(), _foreign_globals(pickled)
    if foreign:
        raise ForeignGlobalsError(tuple(foreign[:SHOWN_GLOBALS_MAX]))
    try:
        for name, argument in _opcodes(pickled):
            machine.step(name, argument)
    except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
        raise NotPlainError(_DAMAGED) from error
    return tuple(machine.storages.values())


def _foreign_globals(pickled: bytes) -> list[str]:
    """What the pickle names besides plain weights, up to where it can be read."""
    found: set[str] = set()
    try:
        for name, argument in _opcodes(pickled):
            if name == "GLOBAL" and argument not in _PLAIN_GLOBALS:
                found.add(shown_text(str(argument).replace(" ", ".")))
    except ForeignGlobalsError as error:
        found = found or set(error.names)
    except (NotPlainError, ValueError, struct.error):
        pass  # the machine will say so
    return sorted(found)


def _opcodes(pickled: bytes) -> Iterator[tuple[str, object]]:
    """Yields each opcode with its argument, to STOP."""
    at, name = 0, ""
    while name != "STOP":
        code = pickled[at : at + 1]
        if code in _HIDDEN_CALLS:
            raise ForeignGlobalsError((f"something by {_HIDDEN_CALLS[code]}",))
        if code not in _OPCODES:
            what = f"holds the opcode 0x{code.hex()}, which torch.save never writes"
            raise NotPlainError(f"its pickle {what}" if code else _DAMAGED)
        name, kind = _OPCODES[code]
        argument, at = _argument(pickled, at + 1, kind)
        yield name, argument


def _argument(pickled: bytes, at: int, kind: str) -> tuple[object, int]:
    """Returns what follows an opcode, and where the next one stands."""
    if kind == "":
        return None, at
    if kind == _LINES:
        module_end = pickled.index(b"\n", at)
        name_end = pickled.index(b"\n", module_end + 1)
        return pickled[at:name_end].decode().replace("\n", " "), name_end + 1
    if kind == _TEXT:
        end = at + 4 + struct.unpack_from("<I", pickled, at)[0]
        return _whole_slice(pickled, at + 4, end).decode(), end
    if kind == _LONG:
        end = at + 1 + struct.unpack_from("<B", pickled, at)[0]
        return int.from_bytes(_whole_slice(pickled, at + 1, end), "little", signed=True), end
    return struct.unpack_from(kind, pickled, at)[0], at + struct.calcsize(kind)


def _whole_slice(pickled: bytes, start: int, end: int) -> bytes:
    if end > len(pickled):
        raise NotPlainError(_DAMAGED)
    return pickled[start:end]


def shown_text(text: str, characters_max: int = 80) -> str:
    """Returns a foreign text fit for a message: what cannot be printed escaped, not too long."""
    plain = text if text.isprintable() else ascii(text)[1:-1]
    return plain if len(plain) <= characters_max else f"{plain[: characters_max - 1]}…"


class _Machine:
    """The stack, the memo and the storages so far."""

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}

    def step(self, name: str, argument: object) -> None:
        """Does one opcode; raises NotPlainError for one that torch.save never writes."""
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLE_SIZES:
            count = _TUPLE_SIZES[name]
            stack[len(stack) - count :] = [tuple(stack[len(stack) - count :])]
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[_whole(argument)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[_whole(argument)])
        elif name == "GLOBAL":
            stack.append(_Global(str(argument)))
        else:
            self._step_rarer(name, argument)

    def _step_rarer(self, name: str, argument: object) -> None:
        stack = self._stack
        match name:
            case "PROTO":
                if argument != 2:
                    raise NotPlainError(
                        f"its pickle has the protocol {argument}, torch.save writes 2"
                    )
            case "MARK":
                stack.append(_MARK)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "TUPLE":
                stack.append(tuple(self._pop_to_mark()))
            case "SETITEM":
                self._set([stack.pop(-2), stack.pop()])
            case "SETITEMS":
                self._set(self._pop_to_mark())
            case "APPEND" | "BUILD":
                # An item of a list, or the attributes of a dictionary: neither is a weight.
                stack.pop()
            case "APPENDS":
                self._pop_to_mark()
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case "REDUCE":
                arguments = stack.pop()
                stack.append(_called(stack.pop(), arguments))
            case "STOP":
                if len(stack) != 1:
                    raise NotPlainError(_DAMAGED)
            case _:
                raise NotPlainError(_DAMAGED)

    def _pop_to_mark(self) -> list[object]:
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise NotPlainError(_DAMAGED)
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items

    def _set(self, items: list[object]) -> None:
        if not isinstance(self._stack[-1], dict) or len(items) % 2:
            raise NotPlainError(_DAMAGED)
        for key in items[::2]:
            if not isinstance(key, str) or len(key) > TEXT_CHARACTERS_MAX or not key.isprintable():
                raise NotPlainError(
                    f"a name in it is no plain text of at most {TEXT_CHARACTERS_MAX} characters"
                )

    def _storage(self, identity: object) -> Storage:
        word, kind, key, _, count = identity if isinstance(identity, tuple) else ()
        if word != "storage" or not isinstance(kind, _Global) or not isinstance(key, str):
            raise NotPlainError(_DAMAGED)
        item_bytes = _ITEM_BYTES[kind.name.removeprefix("torch ")]
        storage = Storage(key, _whole(count), item_bytes)
        if self.storages.setdefault(key, storage) != storage:
            raise NotPlainError(f"it names the storage {shown_text(key)} with two sizes")
        return storage


def _called(function: object, arguments: object) -> object:
    """Returns what a call would give, without calling anything."""
    name = function.name if isinstance(function, _Global) else ""
    if not isinstance(arguments, tuple):
        raise TypeError
    if name == _DICTIONARY and not arguments:
        return {}
    if name == _PARAMETER and isinstance(arguments[0], PlainTensor):
        return arguments[0]
    if name == _TENSOR:
        return _tensor(*arguments[:4])
    raise NotPlainError("its pickle calls something in a way that torch.save never does")


def _tensor(storage: object, offset: object, shape: object, stride: object) -> PlainTensor:
    if not isinstance(storage, Storage):
        raise TypeError
    sizes, strides = _wholes(shape), _wholes(stride)
    if len(sizes) != len(strides) or len(sizes) > DIMENSION_COUNT_MAX:
        raise NotPlainError(f"a tensor in it has more than {DIMENSION_COUNT_MAX} dimensions")
    if 0 not in sizes:
        last = _whole(offset) + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
        if last >= storage.item_count:
            raise NotPlainError(
                f"a tensor in it of the shape {sizes} reaches to the number {last + 1:,} of a "
                f"storage of {storage.item_count:,}"
            )
    return PlainTensor(storage, sizes)


def _wholes(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple):
        raise TypeError
    return tuple(_whole(value) for value in values)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise NotPlainError("its pickle holds a size that is no whole number")
    return value
