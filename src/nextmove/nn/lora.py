"""Low-rank adapters of linear layers (Hu et al. 2022): y + alpha / r * B A x, of which only A and B are trained.

Any linear layer of any model has a name here: that of its module, or, of an attention that packs them,
`NAME.q_proj`, `NAME.k_proj` and `NAME.v_proj`. Shapes: N outputs, K inputs, R rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.nn.attention import PROJECTIONS, Attention
from nextmove.nn.dropout import Dropout
from nextmove.nn.product import Linear


@dataclass(frozen=True)
class Lora:
    """Which layers are adapted, and how."""

    names: tuple[str, ...] = ("*",)
    """Patterns of names (`*` for any letters); by default all linear layers."""
    rank: int = 8
    alpha: float = 16.0
    """What is added is scaled by alpha / rank."""
    dropout: float = 0.0
    """Of what enters an adapter."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank: expected at least 1, found {self.rank}")
        if not self.names:
            raise ValueError("names: expected at least one pattern, found none")


class LowRank(nn.Module):
    """scale * up(down(x)); it starts as 0."""

    def __init__(self, inputs: int, outputs: int, config: Lora, like: Tensor) -> None:
        super().__init__()
        options: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
        self.down = nn.Parameter(torch.empty(config.rank, inputs, **options))
        self.up = nn.Parameter(torch.zeros(outputs, config.rank, **options))
        self.scale = config.alpha / config.rank
        self.dropout = Dropout(config.dropout) if config.dropout else None
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., N)."""
        x = x if self.dropout is None else self.dropout(x)
        return F.linear(F.linear(x, self.down), self.up) * self.scale

    def delta(self) -> Tensor:
        """The matrix (N, K) that it stands for, in float64."""
        return self.scale * (self.up.double() @ self.down.double())


@dataclass(frozen=True)
class Place:
    """A linear layer that has or may have an adapter."""

    name: str
    module: nn.Module
    part: str = ""
    """Of an attention the projection."""

    @property
    def weight(self) -> Tensor:
        """Its matrix (N, K), of a packed one the rows; a view, which may be written to."""
        module: Any = self.module
        if not self.part:
            found: Tensor = module.weight
            return found
        if module.in_proj_weight is None:
            apart: Tensor = getattr(module, f"{self.part}_weight")
            return apart
        rows: Tensor = module.in_proj_weight.split_with_sizes(module.widths)[PROJECTIONS.index(self.part)]
        return rows

    @property
    def adapter(self) -> LowRank | None:
        """What it has."""
        if self.part:
            adapters: Any = self.module.adapters
            return adapters[self.part] if adapters is not None and self.part in adapters else None
        found: LowRank | None = getattr(self.module, "adapter", None)
        return found

    def put(self, adapter: LowRank | None) -> None:
        """Gives it an adapter, or takes it away."""
        module: Any = self.module
        if self.part:
            kept = {} if module.adapters is None else dict(module.adapters.items())
            kept = {name: value for name, value in kept.items() if name != self.part}
            kept |= {} if adapter is None else {self.part: adapter}
            module.adapters = nn.ModuleDict(kept) if kept else None
            return
        hooks = module._forward_hooks
        for key in [key for key, hook in hooks.items() if hook is _added]:
            del hooks[key]
        module.adapter = adapter
        if adapter is not None and not isinstance(module, Linear):
            module.register_forward_hook(_added)


def _added(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """torch's own layers have no place for an adapter."""
    adapter: Any = module.adapter
    more: Tensor = adapter(inputs[0])
    return output + more


def places(model: nn.Module) -> Iterator[Place]:
    """All linear layers of a model by name."""
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            yield from (Place(f"{name}.{part}".lstrip("."), module, part) for part in PROJECTIONS)
        elif isinstance(module, nn.Linear):
            yield Place(name, module)


def adapt(model: nn.Module, config: Lora) -> list[str]:
    """Puts adapters on the layers that the patterns name and freezes everything else; their names.

    Raises ValueError for a pattern that no layer has, with names that are close, and for a model that is adapted.
    """
    found = list(places(model))
    if adapted := [place.name for place in found if place.adapter is not None]:
        raise ValueError(f"model: expected one without adapters, found one at {adapted[0]}; merge or remove them first")
    for pattern in config.names:
        if not any(fnmatchcase(place.name, pattern) for place in found):
            close = get_close_matches(pattern, [place.name for place in found], 3, 0.3)
            raise ValueError(f"names: no linear layer is called {pattern!r}; there are {', '.join(close) or 'none'}")
    chosen = [place for place in found if any(fnmatchcase(place.name, pattern) for pattern in config.names)]
    model.requires_grad_(False)
    for place in chosen:
        weight = place.weight
        place.put(LowRank(weight.shape[1], weight.shape[0], config, weight))
    return [place.name for place in chosen]


@torch.no_grad()
def merge(model: nn.Module) -> list[str]:
    """Adds the adapters to the weights and takes them away; the names of the layers.

    Sums are rounded once, to the weights' dtype. Parameters that `adapt` has frozen stay so.
    """
    merged = []
    for place in [place for place in places(model) if place.adapter is not None]:
        adapter = place.adapter
        assert adapter is not None
        place.weight.copy_(place.weight.double() + adapter.delta())
        place.put(None)
        merged.append(place.name)
    return merged


def remove(model: nn.Module) -> list[str]:
    """Takes the adapters away, so that the model is what it was; the names of the layers."""
    removed = [place for place in places(model) if place.adapter is not None]
    for place in removed:
        place.put(None)
    return [place.name for place in removed]


def state(model: nn.Module) -> dict[str, Tensor]:
    """The adapters' matrices, `NAME.down` and `NAME.up`."""
    adapted = [(place.name, place.adapter) for place in places(model)]
    return {
        f"{name}.{key}": value
        for name, adapter in adapted
        if adapter is not None
        for key, value in (("down", adapter.down), ("up", adapter.up))
    }


def base(model: nn.Module) -> dict[str, Tensor]:
    """What the adapters are added to: all other parameters."""
    own = {id(value) for value in state(model).values()}
    return {name: value for name, value in model.named_parameters() if id(value) not in own}
