"""Diffusion Policy as a config.json of LeRobot's, and what LeRobot's has no place for."""

from __future__ import annotations

from typing import Any

from nextmove.decoders.grids import Indices
from nextmove.decoders.guidance import Guidance
from nextmove.decoders.paths import DiscreteVP
from nextmove.decoders.solvers import Ancestral, Ddim
from nextmove.interop.lerobot.config import DiffusionConfig
from nextmove.interop.lerobot.refused import Refused
from nextmove.interop.lerobot.shown import Shown
from nextmove.models.policy import Policy

DECODER = "--recipe.decoder"


def check(policy: Policy, decoder: Any, looks: Shown, refused: Refused) -> None:
    """Adds what does not fit to `refused`; decoder: a diffusion by a `UNet1d`."""
    own, sampler, timing = decoder.config, decoder.sampler, policy.timing
    path, levels, groups = own.path, len(own.trunk.widths), own.trunk.final_groups
    aligned = timing.first == timing.n_obs_steps - 1
    refused.unless(aligned, "a horizon that starts now; train with --recipe.timing.align first_observation")
    most = -(-timing.horizon // 2**levels) * 2**levels
    halved = f"a horizon of {timing.horizon} with {levels} levels; train with --recipe.timing.horizon {most}"
    refused.unless(timing.horizon == most, halved)
    refused.unless(groups == 8, f"{groups} groups at the end; train with {DECODER}.trunk.final-groups 8")
    table = isinstance(path, DiscreteVP) and not path.zero_terminal_snr
    refused.unless(table, f"the path {path}; train with the path DiscreteVP")
    refused.unless(own.target in ("eps", "x0"), f"the target {own.target!r}; train with {DECODER}.target eps")
    refused.unless(not own.prefix, f"a prefix given in training; train with {DECODER}.prefix 0")
    plain = sampler.solver in (Ancestral(), Ddim()) and sampler.grid == Indices() and sampler.guidance == Guidance()
    refused.unless(plain, f"the sampler {sampler}; export with --sampler ddim or ancestral, without guidance")
    _check_images(looks, refused)


def _check_images(looks: Shown, refused: Refused) -> None:
    camera, option = looks.looking, f"--recipe.encoder.parts.{looks.place}"
    if camera is None:
        return
    refused.unless(camera.pool == "keypoints", f"pool {camera.pool}; train with {option}.pool keypoints")
    refused.unless(len(set(looks.cameras.values())) == 1, f"cameras of several sizes: {looks.cameras}")
    refused.unless(not looks.backbone.dilate, f"dilation; train with {option}.backbone.no-dilate")
    whole = "images resized to whole levels, where it resizes to any number"
    refused.unless(camera.resize is None or not camera.whole, f"{whole}; train with {option}.no-whole")
    share = f"a crop {camera.crop} of {camera.resize}, where it cuts both sides to one share"
    refused.unless(_ratio(camera.resize, camera.crop) is not None, f"{share}; train with another {option}.crop")


def config(policy: Policy, decoder: Any, looks: Shown, common: dict[str, Any]) -> DiffusionConfig:
    """The config of a policy that fits; common: keys that both kinds of policy have."""
    own, sampler = decoder.config, decoder.sampler
    trunk, path, codec = own.trunk, own.path, policy.codec
    return DiffusionConfig(
        type="diffusion",
        **common,
        **_images(looks),
        horizon=policy.timing.horizon,
        down_dims=trunk.widths,
        kernel_size=trunk.kernel,
        n_groups=trunk.groups,
        diffusion_step_embed_dim=trunk.time_width,
        use_film_scale_modulation=trunk.scale,
        noise_scheduler_type="DDIM" if isinstance(sampler.solver, Ddim) else "DDPM",
        num_train_timesteps=path.T,
        beta_schedule=path.schedule,
        beta_start=path.beta_start,
        beta_end=path.beta_end,
        prediction_type="epsilon" if own.target == "eps" else "sample",
        clip_sample=bool(sampler.clip),
        clip_sample_range=sampler.clip or 1.0,
        num_inference_steps=sampler.steps,
        do_mask_loss_for_padding=codec.mask_padding,  # type: ignore[attr-defined]
    )


def _images(looks: Shown) -> dict[str, Any]:
    """How it looks at images."""
    camera = looks.looking
    if camera is None:
        return {}
    return {
        "resize_shape": camera.resize,
        "crop_ratio": _ratio(camera.resize, camera.crop),
        "crop_shape": camera.crop,
        "use_group_norm": looks.backbone.norm == "group",
        "spatial_softmax_num_keypoints": camera.keypoints,
        "use_separate_rgb_encoder_per_camera": not camera.shared,
    }


def _ratio(whole: tuple[int, int] | None, part: tuple[int, int] | None) -> float | None:
    """The share that `int(side * share)` cuts both sides of a resized image to, None where there is no such."""
    if whole is None or part is None:
        return 1.0
    tried = [(part[i] + more) / whole[i] for i in (0, 1) for more in (0.0, 0.5)]
    fits = (r for r in tried if r < 1 and all(int(w * r) == p for w, p in zip(whole, part, strict=True)))
    return next(fits, None)
