"""config.json of LeRobot's ACT and Diffusion policies, of every release that wrote one, checked key by key.

Defaults are those of release 0.6.1; a key that an older release did not have takes that release's behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from nextmove.config import ConfigError, decode, nearest

Kind = Literal["STATE", "VISUAL", "ENV", "ACTION", "REWARD", "LANGUAGE"]
Norm = Literal["IDENTITY", "MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10"]
STATE, ENV, ACTION = "observation.state", "observation.environment_state", "action"
BACKBONE = "ResNet18_Weights.IMAGENET1K_V1"
Layers = Literal[18, 34, 50, 101, 152]
BACKBONES: dict[str, Layers] = {f"resnet{layers}": layers for layers in get_args(Layers)}
"""Networks of images that LeRobot takes, all of them torchvision's, and their layers."""
DILATED = 50
"""Fewest layers of which LeRobot's library can dilate the last stage."""


@dataclass(frozen=True)
class Feature:
    """An entry of input_features or output_features; images are channel first."""

    type: Kind
    shape: tuple[int, ...]


def _norms(**modes: Norm) -> Any:
    return field(default_factory=lambda: dict(modes))


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Keys every policy has."""

    type: str
    n_obs_steps: int = 1
    input_features: dict[str, Feature] = field(default_factory=dict)
    output_features: dict[str, Feature] = field(default_factory=dict)
    device: str | None = None
    use_amp: bool = False
    use_peft: bool = False
    push_to_hub: bool = True
    repo_id: str | None = None
    private: bool | None = None
    tags: list[str] | None = None
    license: str | None = None
    pretrained_path: str | None = None
    pretrained_revision: str | None = None
    normalization_mapping: dict[str, Norm] = field(default_factory=dict)

    @property
    def cameras(self) -> dict[str, Feature]:
        """In file order, which decides the order of their tokens and channels."""
        return {name: feature for name, feature in self.input_features.items() if feature.type == "VISUAL"}


@dataclass(frozen=True, kw_only=True)
class Common(Shared):
    """Keys of the policies whose images a residual network reads."""

    vision_backbone: str = "resnet18"
    pretrained_backbone_weights: str | None = BACKBONE

    def __post_init__(self) -> None:
        if self.vision_backbone not in BACKBONES:
            raise ConfigError(
                f"vision_backbone: expected one of {', '.join(BACKBONES)}; found {self.vision_backbone!r}"
                f"{nearest(self.vision_backbone, BACKBONES)}"
            )

    @property
    def layers(self) -> Layers:
        """Of the network of images."""
        return BACKBONES[self.vision_backbone]


@dataclass(frozen=True, kw_only=True)
class ActConfig(Common):
    """Keys of `"type": "act"`."""

    chunk_size: int = 100
    n_action_steps: int = 100
    normalization_mapping: dict[str, Norm] = _norms(VISUAL="MEAN_STD", STATE="MEAN_STD", ACTION="MEAN_STD")
    replace_final_stride_with_dilation: bool | int = False
    pre_norm: bool = False
    dim_model: int = 512
    n_heads: int = 8
    dim_feedforward: int = 3200
    feedforward_activation: Literal["relu", "gelu", "glu"] = "relu"
    n_encoder_layers: int = 4
    n_decoder_layers: int = 1
    use_vae: bool = True
    latent_dim: int = 32
    n_vae_encoder_layers: int = 4
    temporal_ensemble_coeff: float | None = None
    dropout: float = 0.1
    kl_weight: float = 10.0
    optimizer_lr: float = 1e-5
    optimizer_weight_decay: float = 1e-4
    optimizer_lr_backbone: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.replace_final_stride_with_dilation and self.cameras and self.layers < DILATED:
            raise ConfigError(
                f"replace_final_stride_with_dilation: expected false with {self.vision_backbone}, whose blocks LeRobot "
                "cannot dilate either"
            )
        if self.n_obs_steps != 1:
            raise ConfigError(f"n_obs_steps: ACT looks at 1 step, found {self.n_obs_steps}")
        if self.n_action_steps > self.chunk_size:
            raise ConfigError(f"n_action_steps: expected at most {self.chunk_size}, found {self.n_action_steps}")
        if self.temporal_ensemble_coeff is not None and self.n_action_steps != 1:
            raise ConfigError(f"n_action_steps: temporal ensembling needs 1, found {self.n_action_steps}")
        if self.feedforward_activation == "glu":
            raise ConfigError("feedforward_activation: glu halves a width that LeRobot's layers do not, it never runs")


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(Common):
    """Keys of `"type": "diffusion"`."""

    n_obs_steps: int = 2
    horizon: int = 64
    n_action_steps: int = 32
    normalization_mapping: dict[str, Norm] = _norms(VISUAL="MEAN_STD", STATE="MIN_MAX", ACTION="MIN_MAX")
    drop_n_last_frames: int = 7
    resize_shape: tuple[int, int] | None = None
    crop_ratio: float = 1.0
    crop_shape: tuple[int, int] | None = None
    crop_is_random: bool = True
    use_group_norm: bool = False
    spatial_softmax_num_keypoints: int = 32
    use_separate_rgb_encoder_per_camera: bool = True
    down_dims: tuple[int, ...] = (512, 1024, 2048)
    kernel_size: int = 5
    n_groups: int = 8
    diffusion_step_embed_dim: int = 128
    use_film_scale_modulation: bool = True
    gradient_checkpointing: bool = False
    noise_scheduler_type: Literal["DDPM", "DDIM"] = "DDPM"
    num_train_timesteps: int = 100
    beta_schedule: Literal["squaredcos_cap_v2", "linear", "scaled_linear"] = "squaredcos_cap_v2"
    beta_start: float = 1e-4
    beta_end: float = 2e-2
    prediction_type: Literal["epsilon", "sample"] = "epsilon"
    clip_sample: bool = True
    clip_sample_range: float = 1.0
    num_inference_steps: int | None = None
    compile_model: bool = False
    compile_mode: str = "reduce-overhead"
    do_mask_loss_for_padding: bool = False
    optimizer_lr: float = 1e-4
    optimizer_betas: tuple[float, ...] = (0.95, 0.999)
    optimizer_eps: float = 1e-8
    optimizer_weight_decay: float = 1e-6
    scheduler_name: str = "cosine"
    scheduler_warmup_steps: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        factor = 2 ** len(self.down_dims)
        if self.horizon % factor:
            raise ConfigError(
                f"horizon: expected a multiple of {factor} with {len(self.down_dims)} levels, found {self.horizon}"
            )
        room = self.horizon - self.n_obs_steps + 1
        if self.n_action_steps > room:
            raise ConfigError(f"n_action_steps: expected at most {room}, found {self.n_action_steps}")
        if not 0 < self.crop_ratio <= 1:
            raise ConfigError(f"crop_ratio: expected more than 0 and at most 1, found {self.crop_ratio}")
        if len({feature.shape for feature in self.cameras.values()}) > 1:
            found = {name: list(feature.shape) for name, feature in self.cameras.items()}
            raise ConfigError(f"input_features: expected cameras of one shape, found {found}")
        for name, feature in self.cameras.items():
            size = self.resize_shape or feature.shape[1:]
            if self.crop is not None and any(side > whole for side, whole in zip(self.crop, size, strict=False)):
                raise ConfigError(f"crop_shape: expected at most {list(size)}, of {name!r}, found {list(self.crop)}")

    @property
    def crop(self) -> tuple[int, int] | None:
        """Height and width of the part of an image that is read; a size to resize to overrules `crop_shape`."""
        if self.resize_shape is None:
            return self.crop_shape
        height, width = self.resize_shape
        return (int(height * self.crop_ratio), int(width * self.crop_ratio)) if self.crop_ratio < 1 else None


# What the release did before a key, or its present default, existed.
_OLDER: dict[str, Any] = {
    "crop_shape": [84, 84],
    "horizon": 16,
    "n_action_steps": 8,
    "use_group_norm": True,
    "use_separate_rgb_encoder_per_camera": False,
    "pretrained_backbone_weights": None,
}
_SINCE_0_6 = ("pretrained_revision", "gradient_checkpointing")
_SINCE_0_4_4 = ("resize_shape", "crop_ratio", "compile_model", "compile_mode")
"""Keys of a Diffusion Policy; those of the other policies are the same from 0.4.3 on."""


@dataclass(frozen=True)
class Version:
    """Which releases write files like these."""

    releases: Literal["up to 0.3.3", "0.4.0 to 0.4.3", "0.4.4 to 0.5.1", "0.4.0 to 0.5.1", "0.6"]
    shown_by: str

    @property
    def legacy(self) -> bool:
        """Whether normalisation statistics are part of the weights."""
        return self.releases == "up to 0.3.3"

    @property
    def counts_padding(self) -> bool:
        """Whether masked losses are divided by all positions, padding included."""
        return self.releases != "0.6"

    def __str__(self) -> str:
        return f"LeRobot {self.releases}, shown by {self.shown_by}"


def model_folder(folder: Path | str) -> Path:
    """The folder of config.json: itself, or `pretrained_model` in the folder of a training's step."""
    folder = Path(folder)
    inner = folder / "pretrained_model"
    return inner if inner.is_dir() and not (folder / "config.json").is_file() else folder


def version_of(data: Mapping[str, Any], processors: bool) -> Version:
    """The releases that write a config.json of these keys, with or without processor files."""
    if not processors:
        return Version("up to 0.3.3", "the absence of processor files")
    for releases, keys in (("0.6", _SINCE_0_6), ("0.4.4 to 0.5.1", _SINCE_0_4_4)):
        for key in keys:
            if key in data:
                return Version(releases, f"the key {key!r}")  # type: ignore[arg-type]
    if data.get("type") == "diffusion":
        return Version("0.4.0 to 0.4.3", f"processor files without the key {_SINCE_0_4_4[0]!r}")
    return Version("0.4.0 to 0.5.1", f"processor files without the key {_SINCE_0_6[0]!r}")


READING = ("smolvla", "pi0", "pi05", "pi0_fast")
"""Types of LeRobot's policies that read words, which `interop.lerobot_types` gives to others."""


def parse(data: Mapping[str, Any], version: Version) -> ActConfig | DiffusionConfig:
    """The checked configuration; raises ConfigError for an unknown type, key or value."""
    kinds: dict[str, type[ActConfig] | type[DiffusionConfig]] = {"act": ActConfig, "diffusion": DiffusionConfig}
    kind = data.get("type")
    if kind not in kinds:
        known = (*kinds, *READING)
        raise ConfigError(
            f"config.json: type: expected one of {', '.join(known)}; found {kind!r}{nearest(str(kind), known)}"
        )
    older = _OLDER if kind == "diffusion" and version.releases != "0.6" else {}
    if older and version.releases == "0.4.4 to 0.5.1":
        older = {**older, "crop_shape": None}
    config = decode(kinds[str(kind)], {**older, **data}, where="config.json")
    if config.use_peft:
        raise ConfigError("config.json: use_peft: adapter files are not supported; merge them into the weights first")
    return config


@dataclass(frozen=True)
class Roles:
    """Which feature plays which part; cameras in file order, which decides the order of their tokens and channels."""

    state: int
    """Width of the robot's state."""
    env: int
    """Width of the environment's state, 0 if there is none."""
    cameras: Mapping[str, tuple[int, int]]
    """Height and width of each."""
    action: int
    unused: tuple[str, ...]


def roles(config: Shared) -> Roles:
    """The parts the features play; raises ConfigError for a missing or misshapen one."""
    inputs = config.input_features
    if inputs.get(STATE, Feature("ENV", ())).type != "STATE":
        raise ConfigError(f"config.json: input_features: expected {STATE!r} of type STATE, found {sorted(inputs)}")
    action = config.output_features.get(ACTION)
    if action is None or action.type != "ACTION":
        found = sorted(config.output_features)
        raise ConfigError(f"config.json: output_features: expected {ACTION!r} of type ACTION, found {found}")
    env = next((name for name, feature in inputs.items() if feature.type == "ENV"), None)
    if env not in (None, ENV):
        raise ConfigError(f"config.json: input_features: expected the ENV feature to be {ENV!r}, found {env!r}")
    cameras = {name: _image(name, feature) for name, feature in config.cameras.items()}
    unused = tuple(name for name in inputs if name not in (STATE, env, *cameras))
    widths = [_width(name, inputs[name]) if name else 0 for name in (STATE, env)]
    return Roles(widths[0], widths[1], cameras, _width(ACTION, action), unused)


def _image(name: str, feature: Feature) -> tuple[int, int]:
    if len(feature.shape) != 3 or feature.shape[0] != 3 or min(feature.shape) < 1:
        raise ConfigError(f"config.json: {name}: expected a shape [3, height, width], found {list(feature.shape)}")
    return feature.shape[1], feature.shape[2]


def _width(name: str, feature: Feature) -> int:
    if len(feature.shape) != 1 or feature.shape[0] < 1:
        raise ConfigError(f"config.json: {name}: expected a shape of one number, found {list(feature.shape)}")
    return feature.shape[0]
