"""A hash of a network: networks of the same hash compute the same, in this process or another."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

import nextmove
from nextmove import weights
from nextmove.contracts import saved

_STANDARD = frozenset(vars(nn.Module()))
PLAIN = (bool, int, float, str, bytes, torch.dtype, torch.device, torch.Size)


class _UnknownError(Exception):
    """Something whose content cannot be determined."""


def fingerprint(network: nn.Module) -> str | None:
    """A hash of a network's code, settings and weights.

    None where it holds what has no name of its own: hooks, functions made in functions, and modules that neither torch
    nor this package defines.
    """
    content = hashlib.sha256(f"{torch.__version__} {sources()}".encode())
    try:
        for line in _lines(network):
            content.update(line.encode() + b"\n")
    except _UnknownError:
        return None
    return content.hexdigest()


@functools.lru_cache(maxsize=1)
def sources() -> str:
    """A hash of this package's code."""
    content = hashlib.sha256()
    folder = Path(nextmove.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        content.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return content.hexdigest()


def _lines(network: nn.Module) -> Iterator[str]:
    for name, module in network.named_modules(remove_duplicate=False):
        kind = type(module)
        owner = kind.__module__.partition(".")[0]
        if owner not in ("torch", "nextmove") or module._forward_hooks or module._forward_pre_hooks:
            raise _UnknownError
        yield f"{name} {kind.__module__}.{kind.__qualname__} {module.training}"
        if isinstance(module, saved.Filed):
            # What else it holds is remembered of texts that it has read.
            yield f"{name} {_described(module.files())}"
            continue
        for key, value in sorted(vars(module).items()):
            # What torch's own modules hide follows from what they show.
            if key not in _STANDARD and not (owner == "torch" and key.startswith("_")):
                yield f"{name}.{key} {_described(value)}"
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        yield f"{name} {weights.digest(tensor)}"


def _described(value: Any) -> str:
    if value is None or isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, Tensor):
        return weights.digest(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_described(key)}: {_described(part)}' for key, part in value.items())}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_described, value))}]"
    if isinstance(value, nn.Module):
        return f"({'; '.join(_lines(value))})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return f"{type(value).__module__}.{type(value).__qualname__}{_described(fields)}"
    if isinstance(value, functools.partial):
        return _described((value.func, value.args, value.keywords))
    if type(value).__module__.partition(".")[0] == "tokenizers":
        return str(value.to_str())
    if isinstance(value, type | FunctionType | BuiltinFunctionType) and "<" not in value.__qualname__:
        return f"{value.__module__}.{value.__qualname__}"
    raise _UnknownError
