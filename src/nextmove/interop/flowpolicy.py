"""FlowPolicy (Zhang et al. 2025): a one-step policy on point clouds, with its authors' weights.

How it is composed: point encoder and state MLP for each observed step -> `Consistency` (two segments, one step, both
network calls with gradient) around the 1-D U-Net. Letters: B batch, T observation steps, P points, H horizon, A action
width, D width of the robot's state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nextmove import weights
from nextmove.codecs import Actions
from nextmove.config import ConfigError, decode
from nextmove.contracts import Context, ContextSpec, Rng
from nextmove.decoders import Consistency
from nextmove.interop.report import Loaded, Report
from nextmove.interop.unet import unet_name
from nextmove.interop.weights import fill, read_json, renamed
from nextmove.models.policy import Policy, PolicySpec, Timing
from nextmove.nn import Points3d, UNet1d

FPS = 10.0
NORMALISER = "normalizer.params_dict"
POINTS, STATE = "point_cloud", "agent_pos"


@dataclass(frozen=True)
class FlowPolicy3d:
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


class Affine(nn.Module):
    """raw * scale + offset over the last dimension."""

    scale: Tensor
    offset: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("offset", torch.zeros(width))

    def encode(self, raw: Tensor) -> Tensor:
        """Data (..., D) to model space."""
        return raw * self.scale + self.offset

    def decode(self, x: Tensor) -> Tensor:
        """Model space (..., D) to data."""
        return (x - self.offset) / self.scale


class Clouds(nn.Module):
    """Point clouds (B, T, P, 3 or 6) and states (B, T, D) -> Context with a vector: [cloud, state] of each step."""

    def __init__(self, config: FlowPolicy3d) -> None:
        super().__init__()
        self.steps, self.channels = config.n_obs_steps, 6 if config.use_pc_color else 3
        self.points_scale, self.state_scale = Affine(self.channels), Affine(config.agent_pos_dim)
        self.points = Points3d(out=config.encoder_output_dim, color=config.use_pc_color).build()
        self.state = nn.Sequential(nn.Linear(config.agent_pos_dim, 64), nn.ReLU(), nn.Linear(64, 64))
        self.width = config.encoder_output_dim + 64

    @property
    def spec(self) -> ContextSpec:
        """What networks built on this encoder may rely on."""
        return ContextSpec(vector=self.steps * self.width)

    def forward(self, obs: Mapping[str, Tensor], rng: Rng | None = None) -> Context:
        """The context; colours are dropped where they are not used. Raises ValueError naming an absent feature."""
        for name, width in ((POINTS, self.channels), (STATE, self.state_scale.width)):
            if name not in obs:
                raise ValueError(f"observation: expected feature {name!r}, found {sorted(obs)}")
            if obs[name].shape[-1] < width:
                raise ValueError(f"{name}: expected width {width}, found {obs[name].shape[-1]}")
        points = self.points(self.points_scale.encode(obs[POINTS][:, -self.steps :, :, : self.channels]))
        state = self.state(self.state_scale.encode(obs[STATE][:, -self.steps :]))
        return Context(len(points), vector=torch.cat([points, state], -1).flatten(1))


_ENCODER = {
    "points.mlp": "obs_encoder.extractor.mlp",
    "points.projection": "obs_encoder.extractor.final_projection",
    "state": "obs_encoder.state_mlp",
    "points_scale": f"{NORMALISER}.{POINTS}",
    "state_scale": f"{NORMALISER}.{STATE}",
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
        return f"{NORMALISER}.action.{rest.removeprefix('scale.')}"
    inside = unet_name(rest.removeprefix("net."), _BLOCK, resample="2.conv")
    return None if inside is None else f"model.{inside}"


def build(config: FlowPolicy3d, *, fps: float = FPS) -> Policy:
    """The policy without weights."""
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
    encoder, shape = Clouds(config), (config.horizon, config.action_dim)
    # The reference executes prediction[first : first + n_action_steps], which the horizon may cut short.
    steps = min(config.n_action_steps, config.horizon - config.n_obs_steps + 1)
    return Policy(
        spec=PolicySpec({POINTS: encoder.channels, STATE: config.agent_pos_dim}, config.action_dim, fps),
        timing=Timing(config.n_obs_steps, config.horizon, steps, align="first_observation"),
        encoder=encoder,
        codec=Actions(Affine(config.action_dim)),
        decoder=decoder.build(shape=shape, context=encoder.spec),
        shape=shape,
    )


def load(folder: Path | str, *, fps: float | None = None) -> Loaded:
    """The policy of a folder with config.json (constructor values) and model.safetensors (the reference's names).

    fps: actions a second, which the folder does not say (10 if not given). Raises FileNotFoundError, or ConfigError
    naming the key or tensor that is wrong.
    """
    folder = Path(folder)
    config = decode(FlowPolicy3d, read_json(folder / "config.json"), where="config.json")
    if not 1 <= config.n_obs_steps <= config.horizon:
        raise ConfigError(f"config.json: n_obs_steps: expected 1 to {config.horizon}, found {config.n_obs_steps}")
    with weights.without_storage():
        policy = build(config, fps=FPS if fps is None else fps)
    path = folder / "model.safetensors"
    tensors = weights.read(path)
    ignored = {name: why for name in tensors for key, why in _UNUSED.items() if key in name}
    ours = {name: value for name, value in tensors.items() if name not in ignored}
    cut = _cut(ours, policy)
    names = fill(policy, ours, foreign, where=str(path))
    weights.check_filled(policy, str(path))
    notes = [f"fps: the folder does not say, {FPS:g} assumed"] if fps is None else []
    if policy.n_action_steps < config.n_action_steps:
        notes.append(
            f"n_action_steps: {config.n_action_steps} reaches beyond the horizon, {policy.n_action_steps} executed"
        )
    notes += ["colours of the points are not used"] if cut else []
    report = Report("flowpolicy", "zql-kk/FlowPolicy", tuple(names), ignored, (), tuple(notes))
    return Loaded(policy.eval(), report, config, names)


def _cut(tensors: dict[str, Tensor], policy: Policy) -> bool:
    """Drops the scales of colours the encoder does not see; whether there were any."""
    cut = False
    for name in (f"{NORMALISER}.{POINTS}.scale", f"{NORMALISER}.{POINTS}.offset"):
        channels = policy.spec.features[POINTS]
        if name in tensors and tensors[name].shape == (6,) and channels == 3:
            tensors[name], cut = tensors[name][:channels], True
    return cut
