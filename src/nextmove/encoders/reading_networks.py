"""The two networks that a prefix takes, so that each can be computed by another runtime: what sees, and what reads.

They are made of the encoder's own parts, whose names and places in it stay (`Beside`).

Shapes: N pictures, S their side, px, B rows, P tokens of the prefix, W width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, Memory
from nextmove.encoders.pictures import SCALES, Values
from nextmove.nn.gpt import GptNet
from nextmove.nn.mask import CAUSAL, Mask, block_mask


class Sight(nn.Module):
    """Pictures (N, 3, S, S) in [0, 1] -> their tokens (N, n, W), by towers side by side and what joins them."""

    def __init__(self, towers: nn.ModuleList, bridge: nn.Module, values: Sequence[Values], scale: float) -> None:
        super().__init__()
        self.towers, self.bridge, self.values, self.scale = towers, bridge, tuple(values), scale

    def forward(self, pictures: Tensor, steering: Tensor | None = None) -> Tensor:
        """(N, n, W); steering: (N, W), of towers with `film`."""
        own = next(self.towers.parameters())
        scaled = [part.to(own) for part in self.scaled(pictures.to(own.device))]
        return self.tokens(self.features(scaled, steering))

    def scaled(self, pictures: Tensor) -> list[Tensor]:
        """Pictures as each tower reads them."""
        pairs = ([pictures.new_tensor(part)[:, None, None] for part in SCALES[own]] for own in self.values)
        return [(pictures - mean) / std for mean, std in pairs]

    def features(self, scaled: Sequence[Tensor], steering: Tensor | None = None) -> Tensor:
        """What the towers tell of each patch, side by side (N, patches, C), of `scaled` pictures."""
        nets: Any = self.towers
        found = [net(own, condition=steering)[:, net.config.extra :] for net, own in zip(nets, scaled, strict=True)]
        return torch.cat(found, -1)

    def tokens(self, features: Tensor) -> Tensor:
        """The language model's tokens of `features`."""
        y: Tensor = self.bridge(features) * self.scale
        return y


class Reader(nn.Module):
    """Embedded tokens (B, P, W) -> the memory that the language model has of them."""

    def __init__(self, language: GptNet, causal: bool) -> None:
        super().__init__()
        self.language, self.causal = language, causal

    def forward(self, x: Tensor, valid: Tensor | None = None, block: Tensor | None = None) -> Memory:
        """valid: (B, P) bool, False for padding, None where there is none; block: (P,), None where there is one.

        Tokens see their own block and those before it, or, of a causal reader, all in front of them.
        """
        mask: Mask = CAUSAL if self.causal else None
        if not self.causal and block is not None:
            mask = block_mask(x.new_ones(x.shape[:2], dtype=torch.bool) if valid is None else valid, block)
        _, memory = self.language.read_embedded(x, Context.empty(len(x)), mask=mask, valid=valid, answer=False)
        return memory


class Beside(nn.Module):
    """A module with networks made of its own parts: these are no parts of it, so no tensor has two names.

    BESIDE: their attributes.
    """

    BESIDE: tuple[str, ...] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.BESIDE:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def train(self, mode: bool = True) -> Any:
        """As of every module, and what is made of its parts follows."""
        for name in self.BESIDE:
            network = getattr(self, name)
            if network is not None:
                network.train(mode)
        return super().train(mode)
