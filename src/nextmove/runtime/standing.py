"""A module that stands in the place of a network, and is the network to whatever saves, loads, asks or copies it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nextmove.contracts import _torch


class Standing(nn.Module):
    """Holds the network as `net`; its tensors have the network's own names, and what it has not, the network has."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.training = net, net.training
        self._weights = [*net.parameters(), *net.buffers()]
        self._state: list[tuple[int, int]] = []
        self.register_load_state_dict_pre_hook(_within)  # type: ignore[no-untyped-call]

    def __getattr__(self, name: str) -> Any:
        """What it has not, the network has: what an encoder reads, and the like."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "net" or name.startswith("__"):
                raise
            return getattr(self.net, name)

    def changed(self) -> bool:
        """Whether weights were written in place or loaded since the last time it was asked."""
        state = [(w.data_ptr(), 0 if w.is_inference() else w._version) for w in self._weights]
        if state == self._state:
            return False
        self._state = state
        return True

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """The network's, under its own names."""
        return self.net.state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_state": []}


def computable(net: nn.Module, tensors: list[Tensor]) -> bool:
    """Whether another runtime may stand in: evaluation without gradients or tangents, float32 or integers on a CPU."""
    if net.training or torch.is_grad_enabled():
        return False
    for x in tensors:
        if x.device.type != "cpu" or _torch.transformed(x):
            return False  # tangents and batches of torch.func exist in torch only
        if x.is_floating_point() and x.dtype != torch.float32:
            return False
    return True


def _within(_: nn.Module, tensors: dict[str, Tensor], prefix: str, *__: Any) -> None:
    """Names of a network to those inside `Standing`."""
    for name in [name for name in tensors if name.startswith(prefix)]:
        tensors[f"{prefix}net.{name.removeprefix(prefix)}"] = tensors.pop(name)
