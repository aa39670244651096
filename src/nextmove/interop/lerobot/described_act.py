"""ACT as a config.json of LeRobot's, and what LeRobot's ACT has no place for."""

from __future__ import annotations

from typing import Any

from nextmove.decoders.latent import LatentDecoder
from nextmove.interop.lerobot.config import ENV, STATE, ActConfig
from nextmove.interop.lerobot.refused import Refused
from nextmove.interop.lerobot.shown import Shown
from nextmove.models.policy import Policy
from nextmove.nn import Detr

TRUNK, POSTERIOR = "--recipe.decoder.inner.trunk", "--recipe.decoder.posterior"


def check(policy: Policy, decoder: Any, inner: Any, looks: Shown, refused: Refused) -> None:
    """Adds what does not fit to `refused`; decoder: around `inner`, a regression by a `Detr`."""
    trunk, timing = inner.config.trunk, policy.timing
    looked = f"ACT that looks at {timing.n_obs_steps} steps; train with --recipe.timing.n-obs-steps 1"
    refused.unless(timing.n_obs_steps == 1, looked)
    refused.unless(timing.align == "now", "a first action in the past; train with --recipe.timing.align now")
    refused.unless(trunk.activation != "glu", f"glu; train with {TRUNK}.activation relu")
    state, env = looks.width(STATE), looks.width(ENV)
    states = [name for name, _ in looks.vector if name in (STATE, ENV)]
    refused.unless(
        states != [ENV, STATE], f"{ENV} before {STATE}; train with the features of states in the other order"
    )
    widths = tuple(width for width in (_latent(decoder), state, env) if width)
    asked = " ".join(map(str, widths))
    refused.unless(
        inner.net.parts == widths, f"a vector cut into tokens {inner.net.parts}; train with {TRUNK}.parts {asked}"
    )
    if isinstance(decoder, LatentDecoder):
        _check_posterior(decoder, trunk, state, refused)
    _check_images(looks, trunk, refused)


def _latent(decoder: Any) -> int:
    width: int = decoder.config.latent if isinstance(decoder, LatentDecoder) else decoder.latent
    return width


def _check_posterior(decoder: Any, trunk: Detr, state: int, refused: Refused) -> None:
    posterior, columns = decoder.config.posterior, decoder.posterior.columns
    for name in ("width", "heads", "feedforward", "activation", "pre_norm", "dropout"):
        own, other = getattr(posterior, name), getattr(trunk, name)
        asked = f"{POSTERIOR}.{name.replace('_', '-')} {other}, as the trunk's"
        refused.unless(own == other, f"a posterior whose {name} is {own}; train with {asked}")
    seen = f"a posterior that sees {columns} columns; train with {POSTERIOR}.state {state}"
    refused.unless(columns == state, seen)


def _check_images(looks: Shown, trunk: Detr, refused: Refused) -> None:
    camera, option = looks.looking, f"--recipe.encoder.parts.{looks.place}"
    if camera is None:
        return
    norm = looks.backbone.norm
    refused.unless(camera.pool == "tokens", f"pool {camera.pool} in ACT; train with {option}.pool tokens")
    refused.unless(
        camera.width == trunk.width, f"tokens of width {camera.width}; train with {option}.width {trunk.width}"
    )
    refused.unless(camera.shared or len(looks.cameras) == 1, f"a network for each camera; train with {option}.shared")
    refused.unless(norm != "group", f"group norm in ACT; train with {option}.backbone.norm frozen or batch")
    for name in ("resize", "crop"):
        found = getattr(camera, name)
        whole = f"{name} {found} in ACT, which reads images as they come; train on images of that size"
        refused.unless(found is None, f"{whole}, with {option}.{name} None")


def config(policy: Policy, decoder: Any, inner: Any, looks: Shown, common: dict[str, Any]) -> ActConfig:
    """The config of a policy that fits; common: keys that both kinds of policy have."""
    trunk, vae = inner.config.trunk, isinstance(decoder, LatentDecoder)
    return ActConfig(
        type="act",
        **common,
        chunk_size=policy.timing.horizon,
        replace_final_stride_with_dilation=looks.backbone.dilate,
        pre_norm=trunk.pre_norm,
        dim_model=trunk.width,
        n_heads=trunk.heads,
        dim_feedforward=trunk.feedforward,
        feedforward_activation=trunk.activation,
        n_encoder_layers=trunk.encoder_layers,
        n_decoder_layers=trunk.decoder_layers,
        use_vae=vae,
        latent_dim=_latent(decoder),
        n_vae_encoder_layers=decoder.config.posterior.layers if vae else 4,
        temporal_ensemble_coeff=policy.timing.ensemble,
        dropout=trunk.dropout,
        kl_weight=decoder.config.kl_weight if vae else 10.0,
    )
