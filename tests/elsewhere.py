"""A second device without a GPU: tensors that say they are on `meta`, and yet have values.

Inside `Elsewhere()` whatever is made on or moved to `meta` is computed on the CPU, and an operation raises where a real
device would: where tensors of both places meet, or where numbers are drawn by a generator of the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
META = torch.device("meta")
INDEXING = (aten.index, aten.index_put, aten.index_put_, aten._unsafe_index, aten._index_put_impl_)


class LeftBehindError(RuntimeError):
    """A tensor is on another device than those it meets."""


class Away(Tensor):
    """A tensor on `meta` whose values are `held` on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Away:
        made = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=META
        )
        made.held = held
        return made

    def __repr__(self) -> str:
        return f"Away({self.held!r})"

    def tolist(self) -> Any:
        """The numbers, which torch gives of its own tensors only."""
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    """Gives `meta` values; `here(x)` brings a tensor back to be looked at."""

    def __enter__(self) -> Elsewhere:
        self.listed = Listed()
        self.listed.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        super().__exit__(*problem)
        self.listed.__exit__(*problem)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class Listed(TorchFunctionMode):
    """Gives tensors made of lists their values, which torch does not write where the device is `meta`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if func is Tensor.new_tensor:
            func, named, args = torch.tensor, {"dtype": args[0].dtype, "device": args[0].device, **named}, args[1:]
        if func not in (torch.tensor, torch.as_tensor) or named.get("device") is None:
            return func(*args, **named)
        place = torch.device(named.pop("device"))
        return func(*args, **named).to(place)


def here(x: Any) -> Any:
    """The values of a tensor of either place."""
    return x.held if isinstance(x, Away) else x


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    target = kwargs.get("device")
    if any(isinstance(x, Tensor) and x.is_meta and not isinstance(x, Away) for x in tree_flatten((args, kwargs))[0]):
        raise LeftBehindError(f"{func}: a tensor that was made without values")
    away = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Away)]
    if func is aten.copy_.default:
        here(args[0]).copy_(here(args[1]))
        return args[0]
    goes = bool(away) if target is None else torch.device(target) == META
    if func is not aten._to_copy.default and goes:
        _check(func, args, kwargs)
    options = {**tree_map(here, kwargs), **({} if target is None else {"device": torch.device("cpu")})}
    made = func(*tree_map(here, args), **options)
    if not goes:
        return made
    made = tree_map(lambda x: Away(x) if isinstance(x, Tensor) else x, made)
    return return_and_correct_aliasing(func, args, kwargs, made) if away and target is None else made


def _check(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """Raises LeftBehindError where a device would refuse its arguments."""
    if kwargs.get("generator") is not None:
        raise LeftBehindError(f"{func}: draws on a device with a generator of the CPU")
    if func.overloadpacket in INDEXING:
        # Positions may be on the CPU, what is read or written may not.
        args = (args[0], *args[2:])
    strict = func.overloadpacket in (aten.cat, aten.stack)
    for x in tree_flatten((args, kwargs))[0]:
        if isinstance(x, Tensor) and not isinstance(x, Away) and (x.dim() or strict):
            raise LeftBehindError(f"{func}: expected all tensors on one device, found {tuple(x.shape)} on the CPU")
