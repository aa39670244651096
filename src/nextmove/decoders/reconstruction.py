"""Judging a reconstruction: distance to the image, how different it looks, and a critic that must not notice it.

VQ-VAE (van den Oord et al. 2017) has the first alone, VQ-GAN (Esser et al. 2021, section 3.1) all three.
Shapes: B batch, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec
from nextmove.decoders.adversarial import Rule, check_rule, critic_loss, frozen, generator_loss

DISTANCES = ("mse", "l1")


def adaptive_weight(distance: Tensor, generator: Tensor, last: Tensor) -> Tensor:
    """|grad distance| / (|grad generator| + 1e-4) (), clamped to [0, 1e4], gradients with respect to `last`.

    Esser et al. 2021, equation 7: both terms pull at the last layer with the same strength. A constant.
    """
    (far,) = torch.autograd.grad(distance, last, retain_graph=True)
    (seen,) = torch.autograd.grad(generator, last, retain_graph=True)
    return (far.norm() / (seen.norm() + 1e-4)).clamp(0, 1e4).detach()


@dataclass(frozen=True)
class Reconstruction:
    """What a reconstruction is judged by.

    loss: mean |made - x|^2 / variance (or |made - x|), + perceptual_weight P(x, made), + critic_weight w of a critic's
    generator term, w the adaptive weight; the last two where there are such parts.
    """

    distance: Literal["mse", "l1"] = "mse"
    variance: float = 1.0
    """The distance is divided by it: the data's, if it should be a share of what there is to explain."""
    perceptual: Any = None
    """Config whose `build(shape=)` gives `(x, y) -> distances (B,)`."""
    perceptual_weight: float = 1.0
    critic: Any = None
    """Config whose `build(shape=, context=)` gives `(x, ctx) -> scores (B, ...)`."""
    critic_weight: float = 0.8
    """Times the adaptive weight: the generator's term against the distances."""
    start: int = 0
    """Training batches before the critic enters."""
    rule: Rule = "hinge"

    def __post_init__(self) -> None:
        check_rule(self.rule)
        if self.distance not in DISTANCES:
            raise ValueError(f"distance: expected one of {', '.join(DISTANCES)}; found {self.distance!r}")
        if not self.variance > 0:
            raise ValueError(f"variance: expected a number above 0, found {self.variance}")

    def build(self, *, shape: tuple[int, ...]) -> ReconstructionJudge:
        """The judge of images (B, *shape)."""
        return ReconstructionJudge(self, shape)


class ReconstructionJudge(nn.Module):
    """Loss terms of a pair (x, made)."""

    def __init__(self, config: Reconstruction, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        self.perceptual = None if config.perceptual is None else config.perceptual.build(shape=shape)
        self.critic = None if config.critic is None else config.critic.build(shape=shape, context=ContextSpec())

    def loss_at(self, x: Tensor, made: Tensor, *, last: Tensor, step: int) -> dict[str, Tensor]:
        """{reconstruction} and, where there are such parts, {perceptual} and {generator, critic}.

        x, made: (B, C, height, width) in [-1, 1]. last: weight of the layer that `made` leaves. step: training batches
        before this one; earlier than `start` the last two terms are 0.
        The gradient of `critic`, half the rule's loss, reaches the critic only, that of the others never does.
        """
        error = made.float() - x
        error = error.square() if self.config.distance == "mse" else error.abs()
        terms = {"reconstruction": error.mean() / self.config.variance}
        if self.perceptual is not None:
            terms["perceptual"] = self.config.perceptual_weight * self.perceptual(x, made).mean()
        if self.critic is not None:
            terms |= self._game(x, made, last, terms) if step >= self.config.start else _absent(error)
        return terms

    def _game(self, x: Tensor, made: Tensor, last: Tensor, distances: dict[str, Tensor]) -> dict[str, Tensor]:
        ctx, rule, critic = Context.empty(len(x)), self.config.rule, self.critic
        assert critic is not None
        real, fake = critic(x, ctx).float(), critic(made.detach(), ctx).float()
        generator = generator_loss(rule, frozen(critic)(made, ctx).float(), real)
        # Without gradients, as in validation, there is nothing to balance, and the term is left out.
        weight = torch.zeros_like(generator)
        if generator.requires_grad:
            weight = adaptive_weight(torch.stack(list(distances.values())).sum(), generator, last)
        return {
            "generator": self.config.critic_weight * weight * generator,
            "critic": critic_loss(rule, real, fake) / 2,
        }


def _absent(like: Tensor) -> dict[str, Tensor]:
    nothing = like.new_zeros(())
    return {"generator": nothing, "critic": nothing.clone()}
