"""The parts a recipe may be made of: what `kind` in a file may name, and what `--decoder` and `--trunk` choose."""

from __future__ import annotations

import math
from typing import Any

from nextmove import decoders, nn
from nextmove.config import ConfigError, nearest
from nextmove.decoders import grids, solvers
from nextmove.decoders.guidance import Guidance
from nextmove.decoders.reach import check_reach, reach
from nextmove.models.generator import ImageSpec, PriorSpec, TextSpec
from nextmove.models.policy import PolicySpec
from nextmove.nn import (
    attention,
    autoencoder,
    critic,
    dcgan,
    feedforward,
    imagegpt,
    norm,
    perceptual,
    pixelcnn,
    pixelrnn,
    text_encoder,
)

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
    "unet2d": nn.UNet2d,
    "dit": nn.Dit,
}
PARTS: tuple[type, ...] = (
    *DECODERS.values(),
    *TRUNKS.values(),
    decoders.Latent,
    decoders.Autoregressive,
    nn.Lstm,
    nn.Rnn,
    nn.Gpt,
    nn.Expert,
    attention.Heads,
    norm.LayerNorm,
    norm.RmsNorm,
    feedforward.Dense,
    feedforward.Gated,
    nn.Posterior,
    pixelcnn.MaskedCnn,
    pixelcnn.GatedCnn,
    pixelrnn.RowLstm,
    pixelrnn.DiagonalLstm,
    imagegpt.ImageTransformer,
    autoencoder.Strided,
    autoencoder.Residual,
    critic.DcganCritic,
    critic.PatchCritic,
    dcgan.Dcgan,
    perceptual.RandomFeatures,
    text_encoder.TextEncoder,
)
SPECS: tuple[type, ...] = (PolicySpec, TextSpec, ImageSpec, PriorSpec)
"""What a saved model may be for."""

SOLVERS: dict[str, Any] = {
    "ancestral": solvers.Ancestral,
    "ddim": solvers.Ddim,
    "dpm++": solvers.DpmPP,
    "euler": solvers.Euler,
    "midpoint": solvers.Midpoint,
    "heun": solvers.Heun,
    "rk4": solvers.Rk4,
}


def with_sampling(model: Any, solver: str | None = None, steps: int = 0, guidance: float = 1.0) -> Any:
    """The policy or generator itself, set to another solver, number of network calls (0: as trained) or guidance.

    Raises ConfigError where its decoder has nothing of the kind, and where it would end before the data do and did not
    as trained.
    """
    chosen = asked_sampler(model.decoder, solver, steps, guidance)
    if chosen is not None:
        before, model.decoder = reach(model.decoder), model.decoder.with_sampler(chosen)
        check_reach(model.decoder, min(before, getattr(model.codec, "end", math.inf)), "sampler")
    elif steps:
        model.sampling["steps"] = steps
    return model


def asked_sampler(decoder: Any, solver: str | None, steps: int, guidance: float = 1.0) -> Any:
    """What `with_sampling` gives a decoder, or the decoder of a config, as its sampler; None leaves its own.

    A few-step decoder has no sampler and takes `steps` when it samples. Raises ConfigError as `with_sampling`.
    """
    if solver or guidance != 1 or (steps and hasattr(decoder, "sampler")):
        return sampler(decoder, solver, steps, guidance)
    if steps and not hasattr(getattr(decoder, "config", decoder), "steps"):
        raise ConfigError(f"steps: {type(decoder).__name__} has no number of steps to choose; leave it out")
    return None


def sampler(decoder: Any, solver: str | None, steps: int, guidance: float = 1.0) -> Any:
    """The sampler of a decoder or of its config with another solver, number of steps or guidance weight.

    Raises ConfigError where there is none to change.
    """
    if not math.isfinite(guidance):
        raise ConfigError(f"guidance: expected a finite number, found {guidance}")
    own = getattr(decoder, "sampler", None)
    if own is None:
        what = "guidance" if guidance != 1 and not solver else "sampler"
        raise ConfigError(f"{what}: {type(decoder).__name__} is not integrated step by step; leave it out")
    if solver is not None and solver not in SOLVERS:
        raise ConfigError(f"sampler: expected one of {', '.join(SOLVERS)}; found {solver!r}{nearest(solver, SOLVERS)}")
    rule = own.solver if solver is None else SOLVERS[solver]()
    # Only solvers that predict the clean data can clip it.
    clip = 0.0 if isinstance(rule, solvers.VELOCITY) else own.clip
    grid = own.grid
    if isinstance(rule, solvers.DpmPP) and isinstance(grid, grids.Indices):
        grid = grids.Indices(spacing="linspace", spare=True)
    asked = own.guidance if guidance == 1 else Guidance(guidance)
    return decoders.Sampler(rule, steps or own.steps, grid, clip=clip, guidance=asked, completion=own.completion)
