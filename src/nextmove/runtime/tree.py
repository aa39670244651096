"""The arguments and answers of networks as lists of tensors and back: what compiled programs take and give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nextmove.contracts import Context, KeyValue, Memory

FIELDS: dict[type, tuple[str, ...]] = {
    Context: ("batch", "vector", "tokens", "mask", "memory", "null", "positions", "place"),
    Memory: ("layers", "mask", "count"),
    KeyValue: ("keys", "values"),
}
KINDS: dict[str, type] = {kind.__name__: kind for kind in (*FIELDS, dict, tuple, list)}


@dataclass(frozen=True)
class Place:
    """Stands for a tensor of the list."""

    index: int


@dataclass(frozen=True)
class Empty:
    """Stands for a tensor without numbers, which no program takes."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Made:
    """Stands for what the kind of this name makes of the parts, by name or in order."""

    kind: str
    parts: tuple[Any, ...]
    names: tuple[str, ...] = ()


def apart(value: Any, tensors: list[Tensor]) -> Any:
    """What `value` is made of, hashable, its tensors appended to the list.

    Contexts, memories, tuples, lists, mappings and plain values; raises TypeError for anything else.
    """
    if isinstance(value, Tensor):
        if not value.numel():
            return Empty(tuple(value.shape), str(value.dtype).removeprefix("torch."))
        tensors.append(value)
        return Place(len(tensors) - 1)
    for kind, names in FIELDS.items():
        if isinstance(value, kind):
            return Made(kind.__name__, tuple(apart(getattr(value, name), tensors) for name in names), names)
    if isinstance(value, Mapping):
        return Made("dict", tuple(apart(part, tensors) for part in value.values()), tuple(map(str, value)))
    if isinstance(value, tuple | list):
        return Made(type(value).__name__, tuple(apart(part, tensors) for part in value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"expected tensors, contexts, mappings and plain values, found {type(value).__name__}")


def together(form: Any, tensors: Sequence[Tensor]) -> Any:
    """What `apart` was given, with these tensors."""
    if isinstance(form, Place):
        return tensors[form.index]
    if isinstance(form, Empty):
        return torch.empty(form.shape, dtype=getattr(torch, form.dtype))
    if not isinstance(form, Made):
        return form
    parts = [together(part, tensors) for part in form.parts]
    make: Callable[..., Any] = KINDS[form.kind]
    if form.kind in ("tuple", "list"):
        return make(parts)
    return make(**dict(zip(form.names, parts, strict=True)))


def written(form: Any) -> Any:
    """The form as plain JSON values."""
    if isinstance(form, Place):
        return {"place": form.index}
    if isinstance(form, Empty):
        return {"empty": list(form.shape), "dtype": form.dtype}
    if isinstance(form, Made):
        return {"kind": form.kind, "parts": [written(part) for part in form.parts], "names": list(form.names)}
    return form


def read(value: Any) -> Any:
    """The form that `written` gave."""
    if not isinstance(value, dict):
        return value
    if "place" in value:
        return Place(value["place"])
    if "empty" in value:
        return Empty(tuple(value["empty"]), value["dtype"])
    return Made(value["kind"], tuple(map(read, value["parts"])), tuple(value["names"]))
