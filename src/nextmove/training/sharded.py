"""Weights, gradients and moments in shares on several processes (FSDP2), in place of a copy on each.

Blocks of transformers are gathered one by one when they are called, everything else when the loss is; gradients are
averaged where their share lies (Zhao et al. 2023; Rajbhandari et al. 2020, stage 3). Files hold each process's share
and are read by any number of processes (PyTorch's Distributed Checkpoint, as safetensors: nothing is unpickled).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.contracts import _torch
from nextmove.contracts.blocks import Blocks
from nextmove.training.distributed import World

METHODS = ("loss", "compared")
"""What a run calls of a model, for which its weights have to be gathered."""


class Shares:
    """Models of a run while their weights lie in shares; the caller's model has none of its own meanwhile."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        from torch.distributed.device_mesh import init_device_mesh

        _checkpoints()
        self.mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
        self.whole = model
        # The same parameters in modules of their own, so that the caller's model keeps its class.
        self.live = self.of(copy.deepcopy(model, {id(p): p for p in model.parameters()}))

    def of(self, model: nn.Module) -> nn.Module:
        """The model itself, with this process's shares as its parameters."""
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        for network in [module for module in model.modules() if isinstance(module, Blocks)]:
            for block in network.blocks:
                fully_shard(block, mesh=self.mesh, **_scalars(block))
        fully_shard(model, mesh=self.mesh, **_scalars(model))
        for name in METHODS:
            if hasattr(model, name):
                register_fsdp_forward_method(model, name)
        return model

    def empty(self) -> None:
        """Frees the whole weights."""
        for p in self.whole.parameters():
            if p.dim():
                p.data = p.new_empty(0)

    @torch.no_grad()
    def collect(self) -> None:
        """Gives the caller's model its weights and buffers back, as they are now; all processes call it."""
        own, found = dict(self.whole.named_parameters()), dict(self.live.named_parameters())
        for name, p in own.items():
            p.data = whole(found[name].data).to(p.device)
        for mine, live in zip(self.whole.buffers(), self.live.buffers(), strict=True):
            mine.copy_(live)


def _scalars(model: nn.Module) -> dict[str, Any]:
    """Single numbers cannot be shared and stay on each process."""
    found = {p for p in model.parameters() if not p.dim()}
    return {"ignored_params": found} if found else {}


def is_share(tensor: Tensor) -> bool:
    """Whether it is one process's share of a tensor."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """What of a tensor lies on this process; of a plain one all."""
    share: Any = tensor
    found: Tensor = share.to_local() if is_share(tensor) else tensor
    return found


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, equal on each process; all of them call it."""
    share: Any = tensor
    found: Tensor = share.full_tensor() if is_share(tensor) else tensor.clone()
    return found


@torch.no_grad()
def put(own: Tensor, value: Tensor) -> None:
    """Writes a whole value, or its share, into a tensor of which a share may lie here."""
    if is_share(own) and not is_share(value):
        from torch.distributed.tensor import distribute_tensor

        placed: Any = own
        value = distribute_tensor(value, placed.device_mesh, placed.placements)
    local(own).copy_(local(value))


def norm(parameters: Sequence[nn.Parameter], world: World) -> Tensor:
    """The Euclidean norm () of all gradients, of which each process has its shares."""
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        raise ValueError("loss: expected it to depend on the parameters, found no gradient")
    shared, plain = (_squares(g for g in grads if is_share(g) == kind) for kind in (True, False))
    return torch.tensor(world.sum([shared])[0] + plain).sqrt()


def _squares(grads: Iterable[Tensor]) -> float:
    found = [local(grad) for grad in grads]
    return float(torch.stack(_torch.norms(found)).double().square().sum()) if found else 0.0


def write(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes this process's share of tensors into a folder; all processes call it."""
    dcp = _checkpoints()
    dcp.save(dict(tensors), storage_writer=dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True))


def read(folder: Path, tensors: Mapping[str, Tensor], world: World) -> None:
    """Reads a folder of shares, of however many processes, into tensors of which shares may lie here."""
    dcp = _checkpoints()
    dcp.load(dict(tensors), storage_reader=dcp.HuggingFaceStorageReader(str(folder)), no_dist=world.size == 1)


def _checkpoints() -> Any:
    """Distributed Checkpoint; raises ValueError for a version of torch whose own files are pickles alone."""
    import torch.distributed.checkpoint

    checkpoints: Any = torch.distributed.checkpoint
    if not hasattr(checkpoints, "HuggingFaceStorageReader"):
        raise ValueError(f"sharded: expected PyTorch 2.9 or newer, found {torch.__version__}; leave it out")
    return checkpoints
