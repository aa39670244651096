"""Tensors of torch's own files (.pth, .pt, .bin) without unpickling: no name in a file is ever looked up or called.

Such a file is a pickle that asks for a few functions of torch. Its instructions are read one by one; those that build
dicts, lists, tuples, numbers, texts and dense tensors are followed, any other is an error. Both layouts are read: the
archive of torch 1.6 and later, and the stream of pickles and raw bytes before it.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from nextmove.config import ConfigError

DTYPES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
TENSOR, PARAMETER = "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"
MAGIC = 0x1950A86A20F9469CFC6C
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A function or class that a file asks for; it is only compared, never called."""

    name: str


@dataclass(frozen=True)
class _Lazy:
    """A tensor whose numbers are not read yet."""

    key: str
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_torch(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, or of the one in a checkpoint's `state_dict` or `model`, on the CPU.

    A dict of dicts alone gives theirs, the names joined by dots.

    Raises FileNotFoundError, or ConfigError for a file that holds anything but dicts, numbers, texts and dense tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file of tensors, found none")
    try:
        _check_whole(path)
        with path.open("rb") as file:
            whole, storage = _archive(path) if zipfile.is_zipfile(path) else _stream(file)
            found = next((whole[key] for key in ("state_dict", "model") if isinstance(whole.get(key), dict)), whole)
            named = {str(name): value for name, value in found.items() if isinstance(value, _Lazy)} or _inner(found)
            if not named:
                raise ValueError(f"expected tensors by name, found {sorted(map(str, whole))[:8]}")
            return {name: _tensor(value, storage(value.key)) for name, value in named.items()}
    except (ValueError, KeyError, IndexError, TypeError, EOFError, AttributeError, RuntimeError, OSError) as problem:
        raise ConfigError(f"{path}: no file of tensors that can be read without running it ({problem})") from None


def _check_whole(path: Path) -> None:
    """Raises ValueError for an archive whose end, where its table of contents stands, is not there."""
    with path.open("rb") as file:
        begins = file.read(4)
    if not begins:
        raise ValueError("it is empty")
    if begins == b"PK\x03\x04" and not zipfile.is_zipfile(path):
        raise ValueError(f"it is cut off after {path.stat().st_size} bytes; take it from where it came")


def _archive(path: Path) -> tuple[dict[Any, Any], Callable[[str], bytes]]:
    archive = zipfile.ZipFile(path)
    root = next(name for name in archive.namelist() if name.endswith("data.pkl")).removesuffix("data.pkl")
    order = f"{root}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise ValueError(f"byte order: expected little, found {archive.read(order)!r}")
    return _followed(io.BytesIO(archive.read(f"{root}data.pkl"))), lambda key: archive.read(f"{root}data/{key}")


def _stream(file: BinaryIO) -> tuple[dict[Any, Any], Callable[[str], bytes]]:
    if _followed(file) != MAGIC:
        raise ValueError("expected torch's magic number")
    _followed(file)  # the protocol's version
    if _followed(file).get("little_endian") is not True:
        raise ValueError("expected little-endian numbers")
    whole, keys = _followed(file), _followed(file)
    sizes = {value.key: value.dtype.itemsize for value in _lazies(whole)}
    held = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        held[str(key)] = file.read(count * sizes[str(key)])
    return whole, held.__getitem__


def _lazies(value: Any) -> list[_Lazy]:
    if isinstance(value, _Lazy):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [lazy for part in inner for lazy in _lazies(part)]


def _inner(value: Any, path: str = "") -> dict[str, _Lazy]:
    """The tensors of dicts within dicts, names joined by dots (Prismatic's parts of a model)."""
    found: dict[str, _Lazy] = {}
    for name, part in value.items() if isinstance(value, Mapping) else ():
        whole = f"{path}.{name}" if path else str(name)
        found |= {whole: part} if isinstance(part, _Lazy) else _inner(part, whole)
    return found


def _tensor(value: _Lazy, raw: bytes) -> Tensor:
    flat = torch.frombuffer(bytearray(raw), dtype=value.dtype) if raw else torch.zeros(0, dtype=value.dtype)
    return flat.as_strided(value.size, value.stride, value.offset).clone(memory_format=torch.contiguous_format)


def _followed(file: BinaryIO) -> Any:
    """What the next pickle of a file builds."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for op, argument, _ in pickletools.genops(file):
        if op.name == "STOP":
            return stack.pop()
        _step(op.name, argument, stack, memo)
    raise EOFError("the end of the file within a pickle")


CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
SAME = ("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "UNICODE")
"""Instructions whose argument is their value."""


def _step(name: str, argument: Any, stack: list[Any], memo: dict[Any, Any]) -> None:
    """Follows one instruction."""
    if name in ("PROTO", "FRAME"):
        return
    if name in SAME or name in CONSTANTS or name in EMPTY:
        stack.append(CONSTANTS[name] if name in CONSTANTS else EMPTY[name]() if name in EMPTY else argument)
    elif name == "MARK":
        stack.append(_MARK)
    elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
        memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET", "GET"):
        stack.append(memo[argument])
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(name[-1])
        stack[-count:] = [tuple(stack[-count:])]
    elif name == "TUPLE":
        stack.append(tuple(_since_mark(stack)))
    elif name in ("APPEND", "APPENDS"):
        items = [stack.pop()] if name == "APPEND" else _since_mark(stack)
        stack[-1].extend(items)
    elif name in ("SETITEM", "SETITEMS"):
        items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else _since_mark(stack)
        stack[-1].update(zip(items[::2], items[1::2], strict=True))
    elif name in ("GLOBAL", "STACK_GLOBAL"):
        parts = f"{stack.pop(-2)} {stack.pop()}" if name == "STACK_GLOBAL" else argument
        stack.append(_Name(parts))
    elif name == "BINPERSID":
        stack.append(_storage(stack.pop()))
    elif name == "REDUCE":
        given = stack.pop()
        stack.append(_made(stack.pop(), given))
    elif name == "BUILD":
        stack.pop()  # attributes of a state dict: versions of its modules
    else:
        raise ValueError(f"an instruction {name}")


def _since_mark(stack: list[Any]) -> list[Any]:
    place = len(stack) - 1 - stack[::-1].index(_MARK)
    items = stack[place + 1 :]
    del stack[place:]
    return items


def _storage(given: Any) -> tuple[str, torch.dtype]:
    """Key and dtype of ("storage", its class, key, device, size)."""
    what, kind, key = given[:3]
    dtype = DTYPES.get(kind.name.removeprefix("torch ")) if what == "storage" and isinstance(kind, _Name) else None
    if dtype is None:
        raise ValueError(f"a storage {given!r:.80}")
    return str(key), dtype


def _made(function: Any, given: tuple[Any, ...]) -> Any:
    """What a call of one of the known functions stands for."""
    name = function.name if isinstance(function, _Name) else repr(function)
    if name == "collections OrderedDict":
        return dict(given[0]) if given else {}
    if name == TENSOR:
        (key, dtype), offset, size, stride = given[:4]
        return _Lazy(key, dtype, offset, tuple(size), tuple(stride))
    if name == PARAMETER:
        return given[0]
    raise ValueError(f"a call of {name}")
