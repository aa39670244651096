"""LeRobot's ACT and Diffusion Policy as compositions of our parts, and the names of their tensors on either side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nextmove.decoders import Diffusion, Latent, Regression, Sampler
from nextmove.decoders.grids import Indices
from nextmove.decoders.paths import DiscreteVP
from nextmove.decoders.solvers import Ancestral, Ddim
from nextmove.interop.legacy_rules import MeanOverPadding, ZeroLatent
from nextmove.interop.lerobot.config import ActConfig, DiffusionConfig, Roles, Version
from nextmove.interop.unet import unet_name
from nextmove.interop.weights import renamed
from nextmove.models.policy import Timing
from nextmove.nn import ActVaeEncoder, Detr, UNet1d

Foreign = Callable[[str], str | None]
"""Name of one of our decoder's tensors -> its name in the file."""

_BLOCK = {"first": "conv1.block", "second": "conv2.block", "film": "cond_encoder.1", "skip": "residual_conv"}


def diffusion(config: DiffusionConfig, version: Version) -> tuple[Any, Timing, Foreign]:
    """Decoder config, time contract and names of a Diffusion Policy."""
    trunk = UNet1d(
        widths=config.down_dims,
        kernel=config.kernel_size,
        groups=config.n_groups,
        time_width=config.diffusion_step_embed_dim,
        final_groups=8,
        scale=config.use_film_scale_modulation,
    )
    T = config.num_train_timesteps
    solver = Ancestral() if config.noise_scheduler_type == "DDPM" else Ddim()
    clip = config.clip_sample_range if config.clip_sample else 0.0
    decoder: Any = Diffusion(
        trunk,
        path=DiscreteVP(T, config.beta_schedule, config.beta_start, config.beta_end),
        target="eps" if config.prediction_type == "epsilon" else "x0",
        sampler=Sampler(solver, config.num_inference_steps or T, Indices(), clip=clip),
    )
    # Older releases divide a masked loss by the padding too.
    if config.do_mask_loss_for_padding and version.counts_padding:
        decoder = MeanOverPadding(decoder)
    timing = Timing(config.n_obs_steps, config.horizon, config.n_action_steps, align="first_observation")

    def foreign(name: str) -> str | None:
        found = renamed(name.removeprefix("inner."), {"net": ""})
        inside = None if found is None else unet_name(found.removeprefix("."), _BLOCK)
        return None if inside is None else f"diffusion.unet.{inside}"

    return decoder, timing, foreign


_NET = {
    "inputs.0": "encoder_latent_input_proj",
    "inputs.1": "encoder_robot_state_input_proj",
    "inputs.2": "encoder_env_state_input_proj",
    "position": "encoder_1d_feature_pos_embed",
    "query": "decoder_pos_embed",
    "encoder.blocks": "encoder.layers",
    "encoder.norm": "encoder.norm",
    "decoder.blocks": "decoder.layers",
    "decoder.norm": "decoder.norm",
    "head": "action_head",
}
_POSTERIOR = {
    "cls": "vae_encoder_cls_embed",
    "state": "vae_encoder_robot_state_input_proj",
    "action": "vae_encoder_action_input_proj",
    "encoder.blocks": "vae_encoder.layers",
    "encoder.norm": "vae_encoder.norm",
    "latent": "vae_encoder_latent_output_proj",
}
_LAYER = {
    ".attention.": ".self_attn.",
    ".cross.": ".multihead_attn.",
    ".feedforward.up.": ".linear1.",
    ".feedforward.down.": ".linear2.",
    ".attention_branch.norm.": ".norm1.",
    ".cross_branch.norm.": ".norm2.",
}
"""Within a layer of either stack; the last norm's number is that of the stack's parts."""
POSITIONS = "model.vae_encoder_pos_enc"


def act(config: ActConfig, roles: Roles, version: Version) -> tuple[Any, Timing, Foreign]:
    """Decoder config, time contract and names of an ACT."""
    sizes: dict[str, Any] = {
        "width": config.dim_model,
        "heads": config.n_heads,
        "feedforward": config.dim_feedforward,
        "dropout": config.dropout,
        "activation": config.feedforward_activation,
        "pre_norm": config.pre_norm,
    }
    widths = tuple(width for width in (config.latent_dim, roles.state, roles.env) if width)
    trunk = Detr(**sizes, encoder_layers=config.n_encoder_layers, decoder_layers=config.n_decoder_layers, parts=widths)
    inner: Any = Regression(trunk, loss="l1")
    inner = MeanOverPadding(inner) if version.counts_padding else inner
    decoder: Any = ZeroLatent(inner, config.latent_dim)
    if config.use_vae:
        posterior = ActVaeEncoder(**sizes, layers=config.n_vae_encoder_layers, state=roles.state)
        decoder = Latent(inner, posterior, config.latent_dim, config.kl_weight)
    timing = Timing(
        n_obs_steps=1,
        horizon=config.chunk_size,
        n_action_steps=config.n_action_steps,
        ensemble=config.temporal_ensemble_coeff,
    )

    def foreign(name: str) -> str | None:
        part, _, rest = name.partition(".")
        if part == "posterior":
            found = renamed(rest, _POSTERIOR)
        else:
            found = renamed(rest.removeprefix("inner.").removeprefix("net."), _NET)
        if found is None:
            return None
        for ours, theirs in _LAYER.items():
            found = found.replace(ours, theirs)
        last = ".norm3." if found.startswith("decoder") else ".norm2."
        return f"model.{found.replace('.feedforward_branch.norm.', last)}"

    return decoder, timing, foreign
