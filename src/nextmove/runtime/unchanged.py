"""A camera whose picture has not changed keeps its tokens: the towers, which look at each picture alone, rest.

The tokens of a picture depend on nothing but it (and, of towers that words steer, on these), so those of an equal one
are exact; the threshold says how far from equal a picture may be. It is compared with the picture that the tokens were
made of, not with the one before it, so that slow changes add up until they count.

Shapes: N pictures, S their side, px, n tokens, W width of the language model.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.config import ConfigError
from nextmove.contracts import _torch
from nextmove.contracts.networks import Networked
from nextmove.runtime.standing import Standing

Model = TypeVar("Model", bound=Networked)
SIGHT = "vision"
"""The name of the network that makes tokens of pictures."""


def keep_unchanged(model: Model, levels: float, cameras: int) -> Model:
    """The same model, changed in place, which keeps the tokens of pictures that change by at most `levels` of 255.

    cameras: how many there are, the pictures that are remembered. Raises ConfigError for levels that are no number of
    at least 0, and for a model without towers whose tokens a language model reads.
    """
    if not (math.isfinite(levels) and levels >= 0):
        raise ConfigError(f"unchanged: expected levels of 255 of at least 0, found {levels}")
    found = model.networks()
    if SIGHT not in found:
        raise ConfigError(
            "unchanged: expected a policy whose language model reads the tokens of pictures (OpenVLA, pi0, RT-2, "
            f"SmolVLA, ...), found one of {', '.join(found) or 'no network'}; leave it out"
        )
    model.exchange(SIGHT, Unchanged(found[SIGHT], levels, cameras))
    return model


class Unchanged(Standing):
    """What sees (`encoders.reading_networks.Sight`), which is not asked again for what it has just seen.

    A picture has changed by the mean difference of the patch that differs most, all colours together. Several pictures
    in one call, training and gradients go to the network itself. `asked` and `kept` count the pictures.
    """

    def __init__(self, net: nn.Module, levels: float, most: int) -> None:
        super().__init__(net)
        self.levels, self.most = levels, most
        self.asked = self.kept = 0
        self._seen: list[tuple[Tensor, Tensor | None, Tensor]] = []

    def forget(self) -> None:
        """An episode is over: the next pictures are looked at, whatever they show."""
        self._seen = []

    def forward(self, pictures: Tensor, steering: Tensor | None = None) -> Tensor:
        """Tokens (N, n, W) of pictures (N, 3, S, S) in [0, 1]; steering: (N, W), of towers that words steer."""
        shown = [pictures] if steering is None else [pictures, steering]
        learning = self.net.training or torch.is_grad_enabled() or any(map(_torch.transformed, shown))
        if len(pictures) != 1 or learning:
            return self._looked(pictures, steering)
        if self.changed():
            self.forget()
        self.asked += 1
        found = next((one for one in self._seen if self._same(one, pictures, steering)), None)
        if found is None:
            found = (pictures.clone(), steering, self._looked(pictures, steering))
        else:
            self.kept += 1
        # What was seen last stands last; as many stay as there are cameras.
        self._seen = [*(one for one in self._seen if one is not found), found][-self.most :]
        return found[2]

    def _same(self, seen: tuple[Tensor, Tensor | None, Tensor], pictures: Tensor, steering: Tensor | None) -> bool:
        before, words, _ = seen
        if before.shape != pictures.shape or (steering is not None and (words is None or not words.equal(steering))):
            return False
        towers: Any = self.net.towers
        return change(before, pictures, towers[0].config.side) <= self.levels

    def _looked(self, pictures: Tensor, steering: Tensor | None) -> Tensor:
        tokens: Tensor = self.net(pictures) if steering is None else self.net(pictures, steering)
        return tokens

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_seen": []}


def change(before: Tensor, after: Tensor, side: int) -> float:
    """The mean difference, in levels of 255, of the patch that differs most of two pictures (1, 3, S, S) in [0, 1].

    side: patches along a side. nan where a picture holds what is no number, which is never small enough.
    """
    apart = (after - before).abs().mean(1, keepdim=True)
    patches = F.adaptive_avg_pool2d(apart, side)
    return math.nan if bool(torch.isnan(patches).any()) else 255 * float(patches.max())
