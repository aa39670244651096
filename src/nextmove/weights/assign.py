"""Models that take the tensors of a file as their own instead of allocating, drawing and overwriting weights."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from nextmove.config import ConfigError
from nextmove.weights.check import check


class _Uninitialised(TorchFunctionMode):
    """Leaves out initialisations on the meta device: they change nothing, and for some torch imports its compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else kwargs.get("tensor")
        draws = func is torch.Tensor.normal_ or getattr(func, "__module__", None) == "torch.nn.init"
        if draws and isinstance(first, Tensor) and first.is_meta:
            return first
        return func(*args, **kwargs)


@contextmanager
def without_storage() -> Iterator[None]:
    """Modules built inside have their parameters on the meta device: shapes without memory, never initialised.

    Buffers and everything else that is computed while a module is built are what they always are, so a table that no
    file holds comes out right. Parameters shared between modules stay shared.
    """
    thread, made = threading.get_ident(), dict[int, tuple[weakref.ref[Tensor], nn.Parameter]]()

    def replace(module: nn.Module, name: str, parameter: Any) -> nn.Parameter | None:
        if threading.get_ident() != thread or parameter is None or parameter.is_meta:
            return None
        known = made.get(id(parameter))
        if known is None or known[0]() is not parameter:
            empty = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
            known = made[id(parameter)] = (weakref.ref(parameter), empty)
        return known[1]

    handle = register_module_parameter_registration_hook(replace)  # type: ignore[arg-type]
    try:
        with _Uninitialised():
            yield
    finally:
        handle.remove()


def assign(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    where: str,
    foreign: Callable[[str], str | None] | None = None,
    whole: str = "model",
    finite: bool = False,
    dtype: torch.dtype | None = None,
) -> dict[str, str]:
    """Makes `tensors`, all of which must be used, the module's own; returns their names -> the module's.

    Shared parameters stay shared; the file may hold them under one of their names or, with equal values, under several.

    Args:
        module: Built in `without_storage` or as usual.
        tensors: Tensors of a file; those that are contiguous are kept, not copied.
        where: The file, for messages.
        foreign: The name in the file of one of the module's tensors, None for what does not come from there.
        whole: What the tensors are part of, for messages.
        finite: Refuse NaN and infinity.
        dtype: Of floating tensors; None: as they are.

    Raises:
        ConfigError: naming the first tensor that is missing, misshapen, unequal to one it shares or belongs nowhere.
    """
    own = module.state_dict(keep_vars=True)
    names = {ours: name for ours in own if (name := foreign(ours) if foreign else ours) is not None}
    shared: dict[int, list[str]] = {}
    for ours in names:
        shared.setdefault(id(own[ours]), []).append(ours)
    used: dict[str, str] = {}
    values: dict[str, Tensor] = {}
    for group in shared.values():
        there = [ours for ours in group if names[ours] in tensors] or group[:1]
        used |= {names[ours]: ours for ours in there}
        _check_shared([names[ours] for ours in there], tensors, where)
    check({name: own[ours] for name, ours in used.items()}, tensors, where=where, whole=whole, finite=finite)
    for group in shared.values():
        name = next(names[ours] for ours in group if names[ours] in tensors)
        values |= dict.fromkeys(group, _owned(own[group[0]], tensors[name], dtype))
    module.load_state_dict(values, strict=False, assign=True)
    return used


def check_filled(module: nn.Module, where: str) -> None:
    """Raises ConfigError naming a tensor that was built without storage and that no file has filled."""
    for name, value in itertools.chain(module.named_parameters(), module.named_buffers()):
        if value.is_meta:
            raise ConfigError(f"{where}: {name}: expected a value, found none: no tensor of the file belongs to it")


def _owned(own: Tensor, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    value = (value.to(dtype) if dtype and value.is_floating_point() else value).contiguous()
    return nn.Parameter(value, own.requires_grad) if isinstance(own, nn.Parameter) else value


def _check_shared(names: list[str], tensors: Mapping[str, Tensor], where: str) -> None:
    for name in names[1:]:
        if tensors[name] is not tensors[names[0]] and not torch.equal(tensors[name], tensors[names[0]]):
            raise ConfigError(f"{where}: {name}: expected the values of {names[0]}, with which it is shared")
