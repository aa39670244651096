"""config.json of LeRobot's pi0 and pi0.5 and of openpi's folders, checked key by key; the sizes behind its names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nextmove.config import ConfigError, decode, nearest
from nextmove.interop.lerobot.config import ACTION, STATE, Norm, Shared
from nextmove.models.policy.pi0 import SIGLIP, VOCABULARY
from nextmove.nn.vit import VisionTower

EMPTY = "observation.images.empty_camera_"
"""How LeRobot names cameras that stand in a config and nowhere else."""


@dataclass(frozen=True)
class Stack:
    """Sizes of a language model or an expert with Gemma's parts."""

    width: int
    layers: int
    hidden: int
    heads: int = 8
    pairs: int = 1
    """Heads of keys and values."""
    head: int = 256


VARIANTS = {"gemma_2b": Stack(2048, 18, 16384), "gemma_300m": Stack(1024, 18, 4096)}
"""By the names that configs have for them."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the parts of a checkpoint, which its config.json has only names for."""

    tower: VisionTower = SIGLIP
    language: Stack = VARIANTS["gemma_2b"]
    expert: Stack = VARIANTS["gemma_300m"]
    ids: int = VOCABULARY


def sizes_of(language: str, expert: str) -> Sizes:
    """Those of two names; raises ConfigError for a name that is not known."""
    for key, name in (("paligemma_variant", language), ("action_expert_variant", expert)):
        if name not in VARIANTS:
            lora = "; merge its adapters first" if "lora" in name else nearest(name, VARIANTS)
            raise ConfigError(f"config.json: {key}: expected one of {', '.join(VARIANTS)}; found {name!r}{lora}")
    return Sizes(language=VARIANTS[language], expert=VARIANTS[expert])


def _norms(**modes: Norm) -> Any:
    return field(default_factory=lambda: dict(modes))


@dataclass(frozen=True, kw_only=True)
class PiShared(Shared):
    """Keys that pi0, pi0.5 and pi0-FAST have, with the defaults of release 0.6.1."""

    paligemma_variant: str = "gemma_2b"
    action_expert_variant: str = "gemma_300m"
    dtype: Literal["float32", "bfloat16"] = "float32"
    chunk_size: int = 50
    n_action_steps: int = 50
    max_state_dim: int = 32
    max_action_dim: int = 32
    use_relative_actions: bool = False
    relative_exclude_joints: tuple[str, ...] = ("gripper",)
    action_feature_names: tuple[str, ...] | None = None
    rtc_config: dict[str, Any] | None = None
    image_resolution: tuple[int, int] = (224, 224)
    empty_cameras: int = 0
    normalization_mapping: dict[str, Norm] = _norms(VISUAL="IDENTITY", STATE="MEAN_STD", ACTION="MEAN_STD")
    gradient_checkpointing: bool = False
    compile_model: bool = False
    compile_mode: str = "max-autotune"
    optimizer_lr: float = 2.5e-5
    optimizer_betas: tuple[float, float] = (0.9, 0.95)
    optimizer_eps: float = 1e-8
    optimizer_weight_decay: float = 0.01
    optimizer_grad_clip_norm: float = 1.0
    scheduler_warmup_steps: int = 1000
    scheduler_decay_steps: int = 30000
    scheduler_decay_lr: float = 2.5e-6
    tokenizer_max_length: int = 48

    def __post_init__(self) -> None:
        for name in ("chunk_size", "n_action_steps", "max_state_dim", "max_action_dim"):
            if getattr(self, name) < 1:
                raise ConfigError(f"config.json: {name}: expected at least 1, found {getattr(self, name)}")
        if self.n_obs_steps != 1:
            raise ConfigError(f"config.json: n_obs_steps: {self.type} looks at 1 step, found {self.n_obs_steps}")
        if self.n_action_steps > self.chunk_size:
            raise ConfigError(f"config.json: n_action_steps: expected at most {self.chunk_size}, found more")
        if self.use_peft:
            raise ConfigError("config.json: use_peft: adapter files are not supported; merge them into the weights")
        if self.image_resolution[0] != self.image_resolution[1]:
            raise ConfigError(f"config.json: image_resolution: expected a square, found {self.image_resolution}")
        self._check("input_features", STATE, "STATE", "max_state_dim")
        self._check("output_features", ACTION, "ACTION", "max_action_dim")

    def _check(self, group: str, name: str, kind: str, most: str) -> None:
        feature = getattr(self, group).get(name)
        if feature is None or feature.type != kind or len(feature.shape) != 1:
            found = sorted(getattr(self, group))
            raise ConfigError(f"config.json: {group}: expected {name!r} of type {kind} and one axis, found {found}")
        if feature.shape[0] > getattr(self, most):
            own = getattr(self, most)
            raise ConfigError(f"config.json: {most}: expected at least the {feature.shape[0]} of {name!r}, found {own}")


@dataclass(frozen=True, kw_only=True)
class Pi0Config(PiShared):
    """Keys of `"type": "pi0"`, with the defaults of release 0.6.1."""

    num_inference_steps: int = 10
    time_sampling_beta_alpha: float = 1.5
    time_sampling_beta_beta: float = 1.0
    time_sampling_scale: float = 0.999
    time_sampling_offset: float = 0.001
    min_period: float = 4e-3
    max_period: float = 4.0
    freeze_vision_encoder: bool = False
    train_expert_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_inference_steps < 1:
            raise ConfigError(
                f"config.json: num_inference_steps: expected at least 1, found {self.num_inference_steps}"
            )
        if self.time_sampling_beta_beta != 1 or abs(self.time_sampling_scale + self.time_sampling_offset - 1) > 1e-9:
            raise ConfigError(
                "config.json: time_sampling: expected times offset + (1 - offset) Beta(alpha, 1), found "
                f"{self.time_sampling_offset} + {self.time_sampling_scale} Beta({self.time_sampling_beta_alpha}, "
                f"{self.time_sampling_beta_beta})"
            )


@dataclass(frozen=True, kw_only=True)
class Pi05Config(Pi0Config):
    """Keys of `"type": "pi05"`, with the defaults of release 0.6.1."""

    normalization_mapping: dict[str, Norm] = _norms(VISUAL="IDENTITY", STATE="QUANTILES", ACTION="QUANTILES")
    tokenizer_max_length: int = 200


KINDS: dict[str, type[Pi0Config]] = {"pi0": Pi0Config, "pi05": Pi05Config}


def parse(data: Mapping[str, Any]) -> Pi0Config:
    """The checked configuration of LeRobot's; raises ConfigError for an unknown type, key or value."""
    kind = str(data.get("type"))
    if kind not in KINDS:
        raise ConfigError(f"config.json: type: expected {' or '.join(KINDS)}, found {kind!r}{nearest(kind, KINDS)}")
    return decode(KINDS[kind], data, where="config.json")


@dataclass(frozen=True)
class OpenPi:
    """config.json that openpi's conversion to PyTorch writes."""

    action_dim: int = 32
    action_horizon: int = 50
    paligemma_variant: str = "gemma_2b"
    action_expert_variant: str = "gemma_300m"
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
