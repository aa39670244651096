"""FlowPolicy (Zhang et al. 2025): a one-step policy on point clouds, with its authors' weights.

How it is composed: point encoder and state MLP for each observed step -> `Consistency` (two segments, one step, both
network calls with gradient) around the 1-D U-Net. Shapes: B batch, T observation steps, P points, H horizon, A action
width, D width of the robot's state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove import weights
from nextmove.config import ConfigError, decode, read_object
from nextmove.contracts import Feature
from nextmove.decoders import Consistency
from nextmove.encoders import Cloud, Observation
from nextmove.interop.report import Loaded, Report
from nextmove.interop.unet import unet_name
from nextmove.interop.weights import fill, renamed
from nextmove.models.policy import Policy, PolicySpec
from nextmove.models.policy.flow_policy_3d import STATE as SHOWN
from nextmove.models.policy.flow_policy_3d import TIMING, FlowPolicy3d
from nextmove.nn import Points3d, UNet1d

FPS = 10.0
NORMALISER = "normalizer.params_dict"
POINTS, STATE = "point_cloud", "agent_pos"


@dataclass(frozen=True)
class FlowPolicyConfig:
    """config.json: what the reference's policy is constructed with."""

    agent_pos_dim: int
    action_dim: int
    point_count: int = 512
    use_pc_color: bool = False
    horizon: int = 4
    n_obs_steps: int = 2
    n_action_steps: int = 4
    encoder_output_dim: int = 64
    diffusion_step_embed_dim: int = 128
    down_dims: tuple[int, ...] = (512, 1024, 2048)
    kernel_size: int = 5
    n_groups: int = 8
    eps: float = 1e-2
    num_segments: int = 2
    boundary: float = 1.0
    delta: float = 1e-2
    alpha: float = 1e-5
    num_inference_step: int = 1


_ENCODER = {
    "parts.0.networks.0.mlp": "obs_encoder.extractor.mlp",
    "parts.0.networks.0.projection": "obs_encoder.extractor.final_projection",
    "parts.1.mlp": "obs_encoder.state_mlp",
}
_BLOCK = {"first": "blocks.0.block", "second": "blocks.1.block", "film": "cond_encoder.1", "skip": "residual_conv"}
_UNUSED = {
    "model.var_est.": "a network that neither the reference's loss nor its sampler calls",
    "_dummy_variable": "an empty parameter of the reference",
    ".input_stats.": "statistics of the data; the normaliser's scale and offset are made of them",
}


def foreign(name: str) -> str | None:
    """A tensor of the policy under the reference's name."""
    part, _, rest = name.partition(".")
    if part == "encoder":
        return renamed(rest, _ENCODER)
    if part == "codec":
        return None
    inside = unet_name(rest.removeprefix("net."), _BLOCK, resample="2.conv")
    return None if inside is None else f"model.{inside}"


def build(config: FlowPolicyConfig, *, fps: float = FPS) -> Policy:
    """The policy without weights: the recipe `FlowPolicy3d` under the reference's names of features."""
    trunk = UNet1d(config.down_dims, config.kernel_size, config.n_groups, config.diffusion_step_embed_dim)
    decoder = Consistency(
        trunk,
        segments=config.num_segments,
        eps=config.eps,
        delta=config.delta,
        boundary=config.boundary,
        alpha=config.alpha,
        time_scale=99.0,
        stop_gradient=False,
        steps=config.num_inference_step,
    )
    channels = 6 if config.use_pc_color else 3
    inputs = {POINTS: Feature("points", (0, channels)), STATE: Feature("state", (config.agent_pos_dim,))}
    cloud = Cloud(network=Points3d(out=config.encoder_output_dim, color=config.use_pc_color))
    # The reference executes prediction[first : first + n_action_steps], which the horizon may cut short.
    steps = min(config.n_action_steps, config.horizon - config.n_obs_steps + 1)
    return FlowPolicy3d(
        timing=replace(TIMING, n_obs_steps=config.n_obs_steps, horizon=config.horizon, n_action_steps=steps),
        encoder=Observation((cloud, replace(SHOWN, features=(STATE,)))),
        decoder=decoder,
    ).build(PolicySpec(inputs, config.action_dim, fps))


def load(folder: Path | str, *, fps: float | None = None) -> Loaded:
    """The policy of a folder with config.json (constructor values) and model.safetensors (the reference's names).

    fps: actions a second, which the folder does not say (10 if not given). Raises FileNotFoundError, or ConfigError
    naming the key or tensor that is wrong.
    """
    folder = Path(folder)
    config = decode(FlowPolicyConfig, read_object(folder / "config.json"), where="config.json")
    if not 1 <= config.n_obs_steps <= config.horizon:
        raise ConfigError(f"config.json: n_obs_steps: expected 1 to {config.horizon}, found {config.n_obs_steps}")
    with weights.without_storage():
        policy = build(config, fps=FPS if fps is None else fps)
    path = folder / "model.safetensors"
    tensors = weights.read(path)
    ignored = {name: why for name in tensors for key, why in _UNUSED.items() if key in name}
    ours = {name: value for name, value in tensors.items() if name not in ignored}
    scales, cut = _scale(ours, policy, str(path))
    names = fill(policy, ours, foreign, where=str(path)) | scales
    weights.check_filled(policy, str(path))
    notes = [f"fps: the folder does not say, {FPS:g} assumed"] if fps is None else []
    if policy.n_action_steps < config.n_action_steps:
        notes.append(
            f"n_action_steps: {config.n_action_steps} reaches beyond the horizon, {policy.n_action_steps} executed"
        )
    notes += ["colours of the points are not used"] if cut else []
    report = Report("flowpolicy", "zql-kk/FlowPolicy", tuple(names), ignored, (), tuple(notes))
    return Loaded(policy.eval(), report, config, names)


def _scale(tensors: dict[str, Tensor], policy: Policy, where: str) -> tuple[dict[str, str], bool]:
    """Sets the policy's scales from the normaliser's tensors and takes those out; where each of them went.

    Also whether scales of colours were dropped, which the encoder does not see. Raises ConfigError naming a tensor that
    is absent or misshapen.
    """
    parts: Any = policy.encoder
    places = {
        POINTS: ("encoder.parts.0.scales.0", parts.parts[0].scales[0]),
        STATE: ("encoder.parts.1.scale", parts.parts[1].scale),
        "action": ("codec.scale", policy.codec.scale),  # type: ignore[attr-defined]
    }
    names, cut = {}, False
    for feature, (place, codec) in places.items():
        found = []
        for kind in ("scale", "offset"):
            name = f"{NORMALISER}.{feature}.{kind}"
            if name not in tensors:
                raise ConfigError(f"{where}: missing tensor {name!r}")
            value = tensors.pop(name)
            if feature == POINTS and value.shape == (6,) and codec.width == 3:
                value, cut = value[:3], True
            if value.shape != (codec.width,):
                raise ConfigError(f"{where}: {name}: expected shape {(codec.width,)}, found {tuple(value.shape)}")
            if not torch.isfinite(value).all():
                raise ConfigError(f"{where}: {name}: expected finite values, found NaN or infinity")
            found.append(value.float())
            names[name] = f"{place}.{kind}"
        codec.affine(*found)
    return names, cut
