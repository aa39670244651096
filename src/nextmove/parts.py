"""The parts a recipe may be made of: what `kind` in a file may name, and what `--decoder` and `--trunk` choose."""

from __future__ import annotations

from typing import Any

from nextmove import decoders, nn
from nextmove.config import ConfigError, nearest
from nextmove.decoders import grids, solvers

DECODERS: dict[str, Any] = {
    "flow": decoders.Flow,
    "diffusion": decoders.Diffusion,
    "consistency": decoders.Consistency,
    "shortcut": decoders.Shortcut,
    "meanflow": decoders.MeanFlow,
    "regression": decoders.Regression,
    "mixture": decoders.Mixture,
}
TRUNKS: dict[str, Any] = {
    "mlp": nn.Mlp,
    "plain-mlp": nn.PlainMlp,
    "unet1d": nn.UNet1d,
    "transformer": nn.Transformer,
    "detr": nn.Detr,
}
PARTS: tuple[type, ...] = (
    *DECODERS.values(),
    *TRUNKS.values(),
    decoders.Latent,
    decoders.Autoregressive,
    nn.Lstm,
    nn.Gpt,
    nn.Posterior,
)

SOLVERS: dict[str, Any] = {
    "ancestral": solvers.Ancestral,
    "ddim": solvers.Ddim,
    "dpm++": solvers.DpmPP,
    "euler": solvers.Euler,
    "midpoint": solvers.Midpoint,
    "heun": solvers.Heun,
    "rk4": solvers.Rk4,
}


def sampler(decoder: Any, solver: str | None, steps: int) -> Any:
    """The decoder's sampler with another solver or number of steps; raises ConfigError where it has none to change."""
    own = getattr(decoder, "sampler", None)
    if own is None:
        raise ConfigError(f"sampler: {type(decoder).__name__} is not integrated step by step; leave it out")
    if solver is not None and solver not in SOLVERS:
        raise ConfigError(f"sampler: expected one of {', '.join(SOLVERS)}; found {solver!r}{nearest(solver, SOLVERS)}")
    rule = own.solver if solver is None else SOLVERS[solver]()
    # Only solvers that predict the clean data can clip it.
    clip = 0.0 if isinstance(rule, solvers.VELOCITY) else own.clip
    grid = own.grid
    if isinstance(rule, solvers.DpmPP) and isinstance(grid, grids.Indices):
        grid = grids.Indices(spacing="linspace", spare=True)
    return decoders.Sampler(rule, steps or own.steps, grid, clip=clip, guidance=own.guidance, completion=own.completion)
