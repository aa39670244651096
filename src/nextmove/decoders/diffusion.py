"""Diffusion and flow matching: one decoder, whose path, target, time law and sampler are choices.

DDPM (Ho et al. 2020) = VP table + eps + uniform indices + ancestral steps; flow matching (Lipman et al. 2023) = linear
path + velocity + uniform times + Euler. Shapes: B batch, H horizon, A action width, n steps.
Draws come in this order: in `loss` time, noise, guidance drop, prefix length; in `sample` initial noise, the noise of a
known part (when fixed), then per step that of a known part (when fresh), the step's own, and a resampling's.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from nextmove.config import ConfigError, nearest
from nextmove.contracts import Context, ContextSpec, Known, Rng, Trunk, normal, uniform, weighted_mean
from nextmove.decoders import pairing
from nextmove.decoders.edm import Preconditioned, edm_weight
from nextmove.decoders.few_step import full_precision
from nextmove.decoders.grids import EvenTime, Grid, Indices, Karras
from nextmove.decoders.guidance import Guidance, drop, guided
from nextmove.decoders.known import (
    Inpaint,
    InpaintingMethod,
    KnownPart,
    NodeCall,
    PseudoInverseGuidance,
    RePaint,
    prefix_length,
    renoise,
    with_known,
)
from nextmove.decoders.paths import VE, DiscreteVP, Linear, Node, Path
from nextmove.decoders.resampled import finite
from nextmove.decoders.solvers import (
    SOLVERS,
    VELOCITY,
    Ancestral,
    DpmPP,
    Euler,
    Heun,
    Predict,
    Prediction,
    Solver,
    Step,
    plan,
)
from nextmove.decoders.targets import Target, slope, target_value
from nextmove.decoders.times import Indexed, LogNormal, TimeLaw, Uniform


@dataclass(frozen=True)
class Sampler:
    """How a trained decoder is used; any sampler its path and target allow, without new training."""

    solver: Solver = Euler()
    steps: int = 10
    grid: Grid = EvenTime()
    clip: float = 0.0
    """Bound of the predicted x1 (ancestral, DDIM, DPM-Solver++); 0 switches it off."""
    guidance: Guidance = Guidance()
    inpainting: InpaintingMethod | None = None
    """How a known part is respected; None: `Inpaint` where trained with a prefix, else `PseudoInverseGuidance`."""

    @property
    def reach(self) -> float:
        """Largest magnitude it can generate."""
        return self.clip or math.inf

    def plan(self, path: Path, target: Target, steps: int | None = None) -> Sequence[Step]:
        """The steps on a path; ConfigError names a choice that does not fit."""
        if self.clip and isinstance(self.solver, VELOCITY):
            raise ConfigError(f"sampler.clip: {type(self.solver).__name__} integrates velocities and predicts no x1")
        return plan(path, target, self.solver, self.grid, self.steps if steps is None else steps)

    def asked(self, solver: str | None, steps: int, guidance: float) -> Sampler:
        """The same with the solver of that name, number of steps (0: its own) and weight of guidance (1: its own)."""
        if solver is not None and solver not in SOLVERS:
            near = nearest(solver, SOLVERS)
            raise ConfigError(f"sampler: expected one of {', '.join(SOLVERS)}; found {solver!r}{near}")
        rule: Solver = self.solver if solver is None else SOLVERS[solver]()
        # Only solvers that predict the clean data can clip it.
        clip = 0.0 if isinstance(rule, VELOCITY) else self.clip
        grid = self.grid
        if isinstance(rule, DpmPP) and isinstance(grid, Indices):
            grid = Indices(spacing="linspace", spare=True)
        weight = self.guidance if finite(guidance) == 1 else Guidance(guidance)
        return Sampler(rule, steps or self.steps, grid, clip=clip, guidance=weight, inpainting=self.inpainting)


@dataclass(frozen=True)
class _Generative:
    """The choices that `Diffusion` and `Flow` share."""

    trunk: Trunk
    """Config of the network (contracts.Trunk)."""
    path: Path
    target: Target
    times: TimeLaw
    """The density of training times."""
    sampler: Sampler
    drop: float = 0.0
    """Share of rows trained on `ctx.null`, for classifier-free guidance."""
    min_snr: float = 0.0
    """Weights the error in x1 by min(a^2 / b^2, min_snr) (Hang et al. 2023; 5); 0: the target's plain square."""
    pairing: Literal["independent", "optimal"] = "independent"
    """Optimal: noise is matched to data within the batch before training on the pairs."""
    prefix: int = 0
    """Most leading positions (of H) given clean in training, the number being uniform in 0 .. prefix; the network
    reads it as a second time, and there is no loss on them."""
    sigma_data: float = 0.0
    """EDM preconditioning and weighting for data of this spread (path VE, target x0); 0 switches it off."""

    @property
    def reach(self) -> float:
        """Largest magnitude its sampler can generate."""
        return self.sampler.reach

    def with_sampling(self, solver: str | None = None, steps: int = 0, guidance: float = 1.0) -> Self:
        """The same with another sampler; raises ConfigError naming a choice that its path and target do not allow."""
        if not solver and not steps and guidance == 1:
            return self
        sampler = self.sampler.asked(solver, steps, guidance)
        sampler.plan(self.path, self.target)
        return replace(self, sampler=sampler)

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> DiffusionDecoder:
        """The decoder of x (B, *shape), shape (H, A) or (C, height, width)."""
        # Coefficients are plain numbers, also where the network is built without memory.
        with torch.device("cpu"):
            self.sampler.plan(self.path, self.target)
        if self.target == "velocity" and isinstance(self.path, DiscreteVP):
            raise ConfigError("target: velocity needs a continuous path, found DiscreteVP; use v")
        if self.sigma_data and not (isinstance(self.path, VE) and self.target == "x0"):
            raise ConfigError("sigma_data: EDM preconditioning needs path VE and target x0")
        if self.prefix and (len(shape) != 2 or self.prefix >= shape[0]):
            raise ConfigError(
                f"prefix: expected 0, or less than H of a shape (H, A); found {self.prefix} with shape {shape}"
            )
        times, out = 1 + bool(self.prefix), shape[0] if len(shape) == 3 else shape[-1]
        net = self.trunk.build(shape=shape, out=out, times=times, context=context, causal=False)
        return DiffusionDecoder(self, net)


@dataclass(frozen=True)
class Diffusion(_Generative):
    """DDPM on the cosine table, 100 steps, as in Diffusion Policy (Chi et al. 2023).

    With the defaults, for data x, noise e ~ N(0, I) and a_i = sqrt(alpha_bar_i), b_i = sqrt(1 - alpha_bar_i):

        loss:   mean |net(x_i, i, ctx) - e|^2,  x_i = a_i x + b_i e,  i uniform in 0 .. 99
        sample: from x_99 = e, for i = 99 .. 0: x_(i-1) ~ q(. | x_i, x1),  x1 = clip((x_i - b_i net(x_i, i, ctx)) / a_i)

    The same network needs ten calls with `sampler=Sampler(Ddim(), 10, Indices(), clip=1.0)`.
    """

    path: Path = DiscreteVP()
    target: Target = "eps"
    times: TimeLaw = Indexed()
    sampler: Sampler = Sampler(Ancestral(), 100, Indices(), clip=1.0)


@dataclass(frozen=True)
class Flow(_Generative):
    """Flow matching on the linear path, 10 Euler steps (Lipman et al. 2023; Liu et al. 2023).

    With the defaults, for data x, noise e ~ N(0, I) and time t from noise (0) to data (1):

        loss:   mean |net(x_t, 1000 t, ctx) - (x - e)|^2,  x_t = t x + (1 - t) e,  t uniform in [0, 1)
        sample: from x = e, for k = 0 .. N - 1: x <- x + net(x, 1000 k / N, ctx) / N,  N = 10
    """

    path: Path = Linear()
    target: Target = "velocity"
    times: TimeLaw = Uniform()
    sampler: Sampler = Sampler()


def edm(trunk: Any, *, steps: int = 18, sigma_data: float = 0.5) -> Diffusion:
    """Karras et al. 2022 for data of spread `sigma_data`: 2 steps - 1 network calls."""
    sampler = Sampler(Heun(), steps, Karras())
    return Diffusion(trunk, VE(), "x0", LogNormal(), sampler, sigma_data=sigma_data)


class DiffusionDecoder(nn.Module):
    """A generative rule around `net(x, t (B, 1 or 2), ctx) -> y`; `sampler` may be exchanged at any time."""

    NETWORKS: ClassVar[dict[str, str | None]] = {"net": "step"}

    def __init__(self, config: _Generative, net: nn.Module) -> None:
        super().__init__()
        self.config = config
        if isinstance(config.path, VE) and config.sigma_data:
            net = Preconditioned(net, config.path, config.sigma_data)
        self.net = net
        self.sampler = config.sampler

    @property
    def reach(self) -> float:
        """Largest magnitude the present sampler can generate."""
        return self.sampler.reach

    def with_sampling(self, solver: str | None = None, steps: int = 0, guidance: float = 1.0) -> Self:
        """The same weights with another solver by name, number of steps (0: its own) or weight of guidance."""
        if not solver and not steps and guidance == 1:
            return self
        return self.with_sampler(self.sampler.asked(solver, steps, guidance))

    def with_sampler(self, sampler: Sampler) -> Self:
        """The same weights (shared, not copied) used in another way."""
        sampler.plan(self.config.path, self.config.target)
        other = copy.copy(self)
        other.sampler = sampler
        return other

    # Training

    def loss(
        self, ctx: Context, x: Tensor, *, weight: Tensor | None, rng: Rng, noise: Tensor | None = None
    ) -> dict[str, Tensor]:
        """`loss_at` with times, noise, dropped contexts and prefix lengths drawn from `rng`.

        noise: like x, instead of the draw: noise and data that belong together, as in reflow.
        """
        t, drawn, keep, prefix = self._draws(x.shape, rng, noise is None)
        if drawn is not None:
            noise = drawn.to(x)
            noise = pairing.optimal(noise, x) if self.config.pairing == "optimal" else noise
        assert noise is not None
        keep, prefix = (None if part is None else part.to(x.device) for part in (keep, prefix))
        return self.loss_at(ctx, x, weight=weight, t=t.to(x.device), noise=noise.to(x), keep=keep, prefix=prefix)

    def _draws(
        self, shape: Sequence[int], rng: Rng, noisy: bool = True
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Times, noise, whose context is kept, and lengths of prefixes, in the order in which they are drawn."""
        c, batch = self.config, shape[0]
        t = c.times.draw(batch, rng, c.path)
        noise = normal(shape, rng) if noisy else None
        keep = uniform((batch,), rng) >= c.drop if c.drop else None
        prefix = (uniform((batch,), rng) * (c.prefix + 1)).long() if c.prefix else None
        return t, noise, keep, prefix

    def counted(self, weight: Tensor | None, *, shape: Sequence[int], rng: Rng) -> dict[str, Tensor]:
        """{target: `weight` behind the prefixes that are given clean}."""
        if not self.config.prefix:
            return {} if weight is None else {self.config.target: weight}
        prefix = self._draws(shape, rng)[3]
        assert prefix is not None
        return {self.config.target: self._free(prefix, shape[1], weight, torch.float32)}

    def _free(self, prefix: Tensor, length: int, weight: Tensor | None, dtype: torch.dtype) -> Tensor:
        """The weights of what is not given clean, (B, length) or like `weight`."""
        clean = torch.arange(length, device=prefix.device) < prefix[:, None]
        free = (~clean).to(dtype).reshape(*clean.shape, *[1] * (0 if weight is None else weight.dim() - 2))
        return free if weight is None else weight * free

    def loss_at(
        self,
        ctx: Context,
        x: Tensor,
        *,
        weight: Tensor | None = None,
        t: Tensor,
        noise: Tensor,
        keep: Tensor | None = None,
        prefix: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """{target: mean square error} at times t (B,) in [0, 1], 0 = noise, and noise like x.

        weight: (B, H) or like x. keep: (B,) bool, False where the context is dropped. prefix: (B,) int, leading
        positions given clean.
        """
        c = self.config
        node = c.path.at(t, x)
        x_t = node.a * x + node.b * noise
        times = [node.timestep.to(torch.promote_types(x.dtype, torch.float32))]
        if c.prefix:
            prefix = torch.zeros_like(t, dtype=torch.long) if prefix is None else prefix
            clean = torch.arange(x.shape[1], device=x.device) < prefix[:, None]
            x_t = torch.where(clean[..., None], x, x_t)
            times.append(prefix.to(times[0]))
            weight = self._free(prefix, x.shape[1], weight, x.dtype)
        y = self.net(x_t, torch.stack(times, 1), ctx if keep is None else drop(ctx, keep))
        error = (y - target_value(c.target, x, noise, node)) ** 2
        if c.min_snr:
            error = error * (torch.minimum(node.a2, c.min_snr * node.b2) / slope(c.target, node) ** 2)
        if c.sigma_data:
            error = error * edm_weight(node.b, c.sigma_data)
        return {c.target: weighted_mean(error, weight)}

    # Sampling

    def predict(self, x: Tensor, node: Node[float], ctx: Context) -> Prediction:
        """The network's prediction at x (B, ...) given `ctx` and the timestep alone, with gradient and not guided."""
        if self.config.prefix:
            raise ValueError("predict: expected a decoder trained without a prefix")
        times = x.new_full((len(x), 1), node.timestep, dtype=torch.promote_types(x.dtype, torch.float32))
        return Prediction(x, full_precision(self.net)(x, times, ctx), node, self.config.target)

    @torch.no_grad()
    def sample(
        self,
        ctx: Context,
        *,
        shape: Sequence[int],
        rng: Rng,
        known: Known | None = None,
        noise: Tensor | None = None,
        step_noise: Tensor | None = None,
        steps: int | None = None,
        watch: Callable[[Tensor], object] | None = None,
    ) -> Tensor:
        """x (B, *shape), B = ctx.batch, without gradient.

        noise: (B, *shape) standard normal, instead of the initial draw. step_noise: (n, B, *shape), instead of each
        step's own. steps: instead of the sampler's. known: what is decided already, see `known.py`.
        watch: is shown x before each step.
        """
        s = self.sampler
        walk = s.plan(self.config.path, self.config.target, steps)
        x = self._start((ctx.batch, *shape), rng, noise)

        def draw() -> Tensor:
            return normal(x.shape, rng, like=x)

        predict, part, how = self._predict(ctx, x, known, draw, fresh=any(step.std for step in walk))
        x = x if walk[0].now.vp else x * walk[0].now.b
        times, state = how.times if isinstance(how, RePaint) else 1, None
        for k, step in enumerate(walk):
            if watch is not None:
                watch(x)
            for left in reversed(range(times)):
                own = None if not step.std else draw() if step_noise is None else step_noise[k].to(x)
                y, after = s.solver.step(predict, x, step, state, own)
                x = renoise(y, step.now, step.then, draw()) if left else y
            state = after
        return x if part is None else part.finish(x)

    def _start(self, shape: tuple[int, ...], rng: Rng, noise: Tensor | None) -> Tensor:
        """Standard normal x on the network's device, in float32 or its wider type; given noise keeps its type."""
        if noise is not None and tuple(noise.shape) != shape:
            raise ValueError(f"noise: expected shape {shape}, found {tuple(noise.shape)}")
        x = normal(shape, rng) if noise is None else noise
        weights = next((p for p in self.parameters() if p.is_floating_point()), x)
        return (
            x.to(weights.device)
            if noise is not None
            else x.to(weights.device, torch.promote_types(weights.dtype, torch.float32))
        )

    def _predict(
        self, ctx: Context, x: Tensor, known: Known | None, draw: Callable[[], Tensor], fresh: bool
    ) -> tuple[Predict, KnownPart | None, InpaintingMethod | None]:
        """What a solver calls, the known part ready for use, and how it is respected."""
        c, s = self.config, self.sampler
        if known is None:
            return with_known(self._answer(ctx, x, None), c.target, s.clip, None, None, draw, fresh), None, None
        how = s.inpainting or (Inpaint() if c.prefix else PseudoInverseGuidance())
        # Guidance differentiates, for which everything it meets must be an ordinary tensor even under inference mode.
        with torch.inference_mode(torch.is_inference_mode_enabled() and not isinstance(how, PseudoInverseGuidance)):
            part = KnownPart.of(known, x)
            ctx = ctx.map(torch.clone) if isinstance(how, PseudoInverseGuidance) else ctx
            answer = self._answer(ctx, x, part if isinstance(how, Inpaint) else None)
        return with_known(answer, c.target, s.clip, how, part, draw, fresh), part, how

    def _answer(self, ctx: Context, x: Tensor, clean: KnownPart | None) -> NodeCall:
        """The network's answer at a node, conditioned on the timestep and, where trained with a prefix, its length."""
        call = guided(self.net, ctx, self.sampler.guidance)
        batch = x.shape[0]
        if not self.config.prefix:
            return lambda x, node: call(x, x.new_full((batch, 1), node.timestep), node.t)
        length = x.new_zeros(batch) if clean is None else prefix_length(clean, self.config.prefix).to(x)

        def answer(x: Tensor, node: Node[float]) -> Tensor:
            return call(x, torch.stack([torch.full_like(length, node.timestep), length], 1), node.t)

        return answer
