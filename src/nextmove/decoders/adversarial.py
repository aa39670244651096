"""Adversarial decoder: one call makes x from z; a critic that learns to tell it from data is its loss.

Goodfellow et al. 2014. Both players train in one backward pass: the loss has a term for each, and the gradient of a
term reaches only the parameters that its player may move. The generator's term looks through a critic whose
parameters are constants, the critic's at samples that are, so the sum of both has the gradients of two passes.

Shapes: B batch, Z width of the latent, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.contracts import Context, ContextSpec, Known, Rng, normal, uniform
from nextmove.decoders.few_step import apply_known
from nextmove.decoders.resampled import OneWay, Resampled

Rule = Literal["non_saturating", "hinge", "relativistic"]
RULES: tuple[Rule, ...] = ("non_saturating", "hinge", "relativistic")


def critic_loss(rule: Rule, real: Tensor, fake: Tensor) -> Tensor:
    """What a critic wants () from its scores of data and of samples.

    non_saturating: E softplus(-real) + E softplus(fake) (Goodfellow et al. 2014, equation 1, with logits).
    hinge: E relu(1 - real) + E relu(1 + fake) (Lim and Ye 2017).
    relativistic: E softplus(fake - real) of pairs (Jolicoeur-Martineau 2019; Huang et al. 2024, equation 2).
    """
    if rule == "relativistic":
        return F.softplus(fake - real).mean()
    if rule == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(rule: Rule, fake: Tensor, real: Tensor) -> Tensor:
    """What a generator wants () from the critic's scores of its samples.

    E softplus(-fake); -E fake for "hinge"; E softplus(real - fake) for "relativistic", which alone looks at `real`.
    """
    if rule == "relativistic":
        return F.softplus(real.detach() - fake).mean()
    return -fake.mean() if rule == "hinge" else F.softplus(-fake).mean()


def check_rule(rule: str) -> None:
    """Raises ValueError for a name that is no rule."""
    if rule not in RULES:
        raise ValueError(f"rule: expected one of {', '.join(RULES)}; found {rule!r}")


def frozen(module: nn.Module) -> Callable[..., Any]:
    """`module` as a function whose parameters are constants and whose running statistics stay as they are.

    The gradient passes to what it is given.
    """
    held = {name: p.detach() for name, p in module.named_parameters()}
    held |= {name: buffer.clone() for name, buffer in module.named_buffers()}

    def call(*inputs: Any) -> Any:
        return torch.func.functional_call(module, held, inputs)

    return call


@dataclass(frozen=True)
class Translate:
    """Moves images by up to `pixels` in both directions, the border repeated (Zhao et al. 2020, DiffAugment).

    Done to data and samples alike, so that the critic cannot learn the training set by heart and the generator does
    not learn to move its images; where all are moved it may, as the critic never sees where they stood.
    """

    pixels: int = 1
    share: float = 1.0
    """Share of the images that is moved (Karras et al. 2020, section 2.2: well below 1, moves do not leak)."""

    def __post_init__(self) -> None:
        if self.pixels < 0 or not 0 <= self.share <= 1:
            found = f"pixels {self.pixels}, share {self.share}"
            raise ValueError(f"augment: expected pixels of at least 0 and a share in [0, 1], found {found}")

    def draw(self, rows: int, rng: Rng) -> Tensor:
        """Moves (rows, 2) int64 in [-pixels, pixels], down and right."""
        span = 2 * self.pixels + 1
        moves = (uniform((rows, 2), rng) * span).long().clamp_max(span - 1) - self.pixels
        return moves if self.share == 1 else moves * (uniform((rows, 1), rng) < self.share)

    def apply(self, x: Tensor, moves: Tensor) -> Tensor:
        """x (B, C, height, width) moved by `moves` (B, 2)."""
        (B, _, height, width), p = x.shape, self.pixels
        padded, moves = F.pad(x, (p, p, p, p), mode="replicate"), moves.to(x.device)
        down = (torch.arange(height, device=x.device) + p - moves[:, :1])[:, :, None]
        right = (torch.arange(width, device=x.device) + p - moves[:, 1:])[:, None, :]
        row = torch.arange(B, device=x.device)[:, None, None]
        return padded.permute(0, 2, 3, 1)[row, down, right].permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Adversarial(OneWay):
    """A generator G and its critic D.

    loss (non_saturating): of G E softplus(-D(G(z))), of D E softplus(-D(x)) + E softplus(D(G(z))); sample: G(z),
    z ~ N(0, I).
    """

    generator: Any
    """Config whose `build(latent=, shape=, context=)` gives `(z (B, Z), ctx) -> x (B, *shape)`."""
    critic: Any
    """Config whose `build(shape=, context=)` gives `(x, ctx) -> scores (B, ...)`, high for data."""
    latent: int = 100
    rule: Rule = "non_saturating"
    r1: float = 0.0
    """Weight gamma of gamma / 2 E |grad_x score(x)|^2 on data (Mescheder et al. 2018, equation 9)."""
    r2: float = 0.0
    """The same on samples."""
    augment: Translate | None = None
    """What is done to data and samples before the critic sees them."""

    def __post_init__(self) -> None:
        check_rule(self.rule)
        if self.latent < 1:
            raise ValueError(f"latent: expected at least 1, found {self.latent}")
        for name in ("r1", "r2"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected a weight of at least 0, found {getattr(self, name)}")

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> AdversarialDecoder:
        """The decoder of x (B, *shape)."""
        generator = self.generator.build(latent=self.latent, shape=shape, context=context)
        return AdversarialDecoder(self, generator, self.critic.build(shape=shape, context=context))


class AdversarialDecoder(Resampled, nn.Module):
    """A game between `generator(z, ctx) -> x` and `critic(x, ctx) -> scores`."""

    NETWORKS: ClassVar[dict[str, str | None]] = {"generator": "generator"}

    def __init__(self, config: Adversarial, generator: nn.Module, critic: nn.Module) -> None:
        super().__init__()
        self.config, self.generator, self.critic = config, generator, critic

    def counted(self, weight: Tensor | None, *, shape: Sequence[int], rng: Rng) -> dict[str, Tensor]:
        """Nothing: all terms are means over rows."""
        return {}

    def loss(self, ctx: Context, x: Tensor, *, weight: Tensor | None, rng: Rng) -> dict[str, Tensor]:
        """`loss_at` with z drawn from `rng`, then the moves of the data, then those of the samples."""
        if weight is not None:
            raise ValueError("weight: a critic judges an x as a whole, expected None")
        z, augment = normal((len(x), self.config.latent), rng, like=x), self.config.augment
        moves = None if augment is None else (augment.draw(len(x), rng), augment.draw(len(x), rng))
        return self.loss_at(ctx, x, z=z, moves=moves)

    def loss_at(
        self, ctx: Context, x: Tensor, *, z: Tensor, moves: tuple[Tensor, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """{generator, critic} and what of {r1, r2} has a weight; z (B, Z), moves: of x and of the samples, each (B, 2).

        The gradient of `generator` reaches the generator only, that of the others the critic only. The critic sees
        data and samples apart, because batch norm would mark a batch that mixes them.
        """
        rule, made = self.config.rule, self.generator(z, ctx)
        if moves is not None and self.config.augment is not None:
            x, made = (self.config.augment.apply(part, move) for part, move in zip((x, made), moves, strict=True))
        r1, r2 = self.config.r1, self.config.r2
        x, still = x.detach().requires_grad_(r1 > 0), made.detach().requires_grad_(r2 > 0)
        with torch.set_grad_enabled(torch.is_grad_enabled() or r1 > 0 or r2 > 0):
            real = self.critic(x, ctx).float()
            fake = self.critic(still, ctx).float()
        seen = frozen(self.critic)(made, ctx).float()
        terms = {"generator": generator_loss(rule, seen, real), "critic": critic_loss(rule, real, fake)}
        slopes = {"r1": (r1, real, x), "r2": (r2, fake, still)}
        return terms | {name: g / 2 * roughness(scores, at) for name, (g, scores, at) in slopes.items() if g > 0}

    @torch.no_grad()
    def sample(
        self,
        ctx: Context,
        *,
        shape: Sequence[int],
        rng: Rng,
        known: Known | None = None,
        z: Tensor | None = None,
    ) -> Tensor:
        """x (B, *shape) in one call, from z (B, Z) where it is given.

        A known part is set at the end: the rest of x does not depend on it.
        """
        weights = next(self.generator.parameters())
        z = normal((ctx.batch, self.config.latent), rng) if z is None else z
        return apply_known(self.generator(z.to(weights), ctx), known)


def roughness(scores: Tensor, x: Tensor) -> Tensor:
    """E |grad_x score|^2 () over the rows of x, with a graph of its own."""
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return slope.float().square().flatten(1).sum(1).mean()
