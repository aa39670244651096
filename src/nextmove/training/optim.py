"""AdamW with weight-decay groups, gradient norm and clipping."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.config import nearest
from nextmove.contracts import Optim, _torch
from nextmove.training.sharded import local, put

UNDECAYED = (
    nn.Embedding,
    nn.EmbeddingBag,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are to be trained, each once, in the model's order."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def factors(model: nn.Module, scales: Sequence[tuple[str, float]]) -> dict[str, float]:
    """By parameter what its learning rate is multiplied by: the factor of the longest prefix of its name, else 1.

    Raises ValueError for a prefix that no parameter to train begins with, twice the same one, or a factor that is
    negative or not finite.
    """
    names, everything = list(trainable(model)), [name for name, _ in model.named_parameters()]
    for index, (prefix, factor) in enumerate(scales):
        where = f"optim.scales: {prefix!r}"
        among = names if factor else everything
        if not any(_begins(name, prefix) for name in among):
            options = {name.rpartition(".")[0] for name in among}
            raise ValueError(f"{where}: expected the beginning of a trained parameter's name{nearest(prefix, options)}")
        if not 0 <= factor < math.inf:
            raise ValueError(f"{where}: expected a factor of at least 0, found {factor}")
        if prefix in (other for other, _ in scales[:index]):
            raise ValueError(f"{where}: expected one factor, found two")
    longest = sorted(scales, key=lambda scale: len(scale[0]), reverse=True)
    return {name: next((factor for prefix, factor in longest if _begins(name, prefix)), 1.0) for name in names}


def _begins(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(prefix + ".")


@contextmanager
def frozen(model: nn.Module, scales: Sequence[tuple[str, float]]) -> Iterator[None]:
    """Parameters of factor 0 need no gradients inside."""
    named = trainable(model)
    parameters = [named[name] for name, factor in factors(model, scales).items() if not factor]
    try:
        for p in parameters:
            p.requires_grad_(False)
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


def undecayed(model: nn.Module) -> set[str]:
    """Names of the parameters that weight decay leaves alone: biases and other vectors, embeddings, norms, positions.

    A learned table of positions is a parameter called `position`.
    """
    special = (module for module in model.modules() if isinstance(module, UNDECAYED))
    # By identity: a table tied to an output layer may go by that layer's name.
    spared = {id(p) for module in special for p in module.parameters(recurse=False)}
    named = model.named_parameters()
    return {n for n, p in named if p.dim() <= 1 or id(p) in spared or n.rpartition(".")[2] == "position"}


class _AdamW(torch.optim.AdamW):
    """Torch's own, without what torch.compile needs around it: that imports the compiler, a second and 60 MB."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; the arithmetic is torch's."""
        return inspect.unwrap(torch.optim.Adam.step)(self, closure)


class Update:
    """Moves one set of named parameters along their gradients.

    One optimiser per set: an adversarial system will have one `Update` for each of its players.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        optim: Optim,
        *,
        undecayed: set[str],
        factors: Mapping[str, float] | None = None,
    ) -> None:
        if not parameters:
            raise ValueError("model: expected parameters to train, found none")
        self.named, self.parameters = dict(parameters), list(parameters.values())
        self.peak, self.clip = optim.lr, optim.clip
        groups: dict[tuple[float, float], dict[str, Any]] = {}
        for factor in dict.fromkeys((factors or {}).get(name, 1.0) for name in self.named):
            for decay in (optim.weight_decay, 0.0):
                groups[factor, decay] = {"params": [], "weight_decay": decay, "factor": factor}
        for name, p in self.named.items():
            decay = 0.0 if name in undecayed else optim.weight_decay
            groups[(factors or {}).get(name, 1.0), decay]["params"].append(p)
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda", "mps") for p in self.parameters)
        used = [group for group in groups.values() if group["params"]]
        self.adamw = _AdamW(used, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=fused)

    def zero(self) -> None:
        """Forgets the gradients."""
        self.adamw.zero_grad(set_to_none=True)

    def norm(self) -> Tensor:
        """The Euclidean norm () of all gradients together."""
        grads = [p.grad for p in self.parameters if p.grad is not None]
        if not grads:
            raise ValueError("loss: expected it to depend on the parameters, found no gradient")
        norms: Tensor = torch.stack(_torch.norms(grads)).float()
        return norms.square().sum().sqrt()

    def culprit(self) -> str | None:
        """The first parameter whose gradient is not finite."""
        grads = ((name, None if p.grad is None else local(p.grad)) for name, p in self.named.items())
        return next((name for name, g in grads if g is not None and not g.isfinite().all()), None)

    def apply(self, rate: float, norm: float) -> float:
        """One step at `rate` of the peak learning rate, gradients scaled down to norm `clip`; returns the rate."""
        if self.clip > 0 and norm > self.clip:
            grads = [local(p.grad) for p in self.parameters if p.grad is not None]
            _torch.multiply_(grads, self.clip / (norm + 1e-6))
        lr = rate * self.peak
        for group in self.adamw.param_groups:
            group["lr"] = lr * group["factor"]
        self.adamw.step()
        # A fused step does not say that the weights have moved, and copies of them are kept (nn.product).
        torch.autograd.graph.increment_version(self.parameters)
        return lr

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts as `exp_avg/NAME`, `exp_avg_sq/NAME` and `step/NAME`."""
        states = {name: self.adamw.state.get(p, {}) for name, p in self.named.items()}
        return {f"{kind}/{name}": value for name, state in states.items() for kind, value in state.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned."""
        for name, p in self.named.items():
            if f"step/{name}" not in state:
                continue
            moments = {k: torch.empty_like(p) for k in ("exp_avg", "exp_avg_sq")}
            for kind, moment in moments.items():
                put(moment, state[f"{kind}/{name}"])
            self.adamw.state[p] = {"step": state[f"step/{name}"].to(p.device, torch.float32).clone(), **moments}
