"""config.json of LeRobot's SmolVLA, and the config of the vision-language model that it names, checked key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nextmove.config import ConfigError, decode, nearest, read_object
from nextmove.interop.lerobot.config import ACTION, STATE, Norm, Shared

VLM = "vlm_config.json"
"""The config of the vision-language model, where the folder has it; LeRobot's folders have its name only."""
EMPTY = "observation.images.empty_camera_"
"""How cameras are named that stand in a config and nowhere else."""


def _vlm(width: int, layers: int, heads: int, pairs: int, hidden: int) -> dict[str, Any]:
    text = {
        "model_type": "llama", "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": pairs, "head_dim": 64, "intermediate_size": hidden, "vocab_size": 49280,
        "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "max_position_embeddings": 8192, "pad_token_id": 2,
    }  # fmt: skip
    vision = {
        "model_type": "smolvlm_vision", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "image_size": 512, "patch_size": 16, "num_channels": 3,
    }  # fmt: skip
    return {
        "model_type": "smolvlm", "text_config": text, "vision_config": vision, "scale_factor": 4,
        "tie_word_embeddings": False, "image_token_id": 49190, "pad_token_id": 2,
    }  # fmt: skip


KNOWN: Mapping[str, dict[str, Any]] = {
    "HuggingFaceTB/SmolVLM2-256M-Video-Instruct": _vlm(576, 30, 9, 3, 1536),
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": _vlm(960, 32, 15, 5, 2560),
}
"""Published vision-language models by the name that a config.json has for them (Marafioti et al. 2025)."""
MARKS = ("<fake_token_around_image>", "<global-img>")
"""Special tokens around an image."""
IDS = {49280: (49189, 49152)}
"""Their ids, by the size of a published vocabulary."""


def _norms(**modes: Norm) -> Any:
    return field(default_factory=lambda: dict(modes))


@dataclass(frozen=True, kw_only=True)
class SmolVlaConfig(Shared):
    """Keys of `"type": "smolvla"`, with the defaults of release 0.6.1."""

    chunk_size: int = 50
    n_action_steps: int = 50
    normalization_mapping: dict[str, Norm] = _norms(VISUAL="IDENTITY", STATE="MEAN_STD", ACTION="MEAN_STD")
    max_state_dim: int = 32
    max_action_dim: int = 32
    resize_imgs_with_padding: tuple[int, int] | None = (512, 512)
    empty_cameras: int = 0
    adapt_to_pi_aloha: bool = False
    use_delta_joint_actions_aloha: bool = False
    tokenizer_max_length: int = 48
    num_steps: int = 10
    use_cache: bool = True
    freeze_vision_encoder: bool = True
    train_expert_only: bool = True
    train_state_proj: bool = True
    optimizer_lr: float = 1e-4
    optimizer_betas: tuple[float, float] = (0.9, 0.95)
    optimizer_eps: float = 1e-8
    optimizer_weight_decay: float = 1e-10
    optimizer_grad_clip_norm: float = 10
    scheduler_warmup_steps: int = 1000
    scheduler_decay_steps: int = 30000
    scheduler_decay_lr: float = 2.5e-6
    vlm_model_name: str = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"
    load_vlm_weights: bool = False
    add_image_special_tokens: bool = False
    attention_mode: Literal["cross_attn", "self_attn"] = "cross_attn"
    prefix_length: int = -1
    pad_language_to: Literal["longest", "max_length"] = "longest"
    num_expert_layers: int = -1
    num_vlm_layers: int = 16
    self_attn_every_n_layers: int = 2
    expert_width_multiplier: float = 0.75
    min_period: float = 4e-3
    max_period: float = 4.0
    rtc_config: dict[str, Any] | None = None
    compile_model: bool = False
    compile_mode: str = "max-autotune"

    def __post_init__(self) -> None:
        for name in ("chunk_size", "n_action_steps", "max_state_dim", "max_action_dim", "num_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if self.n_obs_steps != 1:
            raise ConfigError(f"n_obs_steps: SmolVLA looks at 1 step, found {self.n_obs_steps}")
        if self.n_action_steps > self.chunk_size:
            raise ConfigError(f"n_action_steps: expected at most {self.chunk_size}, found {self.n_action_steps}")
        if self.adapt_to_pi_aloha or self.use_delta_joint_actions_aloha:
            raise ConfigError(
                "adapt_to_pi_aloha: expected false: joints turned over and grippers by their angle are not supported"
            )
        if self.use_peft:
            raise ConfigError("use_peft: adapter files are not supported; merge them into the weights first")
        for most, group, name in (
            ("max_state_dim", "input_features", STATE), ("max_action_dim", "output_features", ACTION),
        ):  # fmt: skip
            feature, room = getattr(self, group).get(name), getattr(self, most)
            if feature is not None and feature.shape and feature.shape[0] > room:
                raise ConfigError(f"{most}: expected at least the {feature.shape[0]} of {name!r}, found {room}")

    def expert_layers(self, layers: int) -> int:
        """Layers of the expert beside `layers` of the language model; raises ConfigError for no divisor of them."""
        own = self.num_expert_layers if self.num_expert_layers > 0 else layers
        if layers % own:
            raise ConfigError(f"config.json: num_expert_layers: expected a divisor of {layers}, found {own}")
        apart, every = layers // own, self.joint_every
        if every and any((i % every == 0) != (i * apart % every == 0) for i in range(own)):
            raise ConfigError(
                f"config.json: self_attn_every_n_layers: {every} with {own} of {layers} layers gives layers whose "
                "matrices do not fit, in LeRobot too; expected -1"
            )
        return own

    @property
    def joint_every(self) -> int:
        """Every which layer attends to prefix and suffix together; 0: none."""
        return 1 if self.attention_mode == "self_attn" else max(0, self.self_attn_every_n_layers)

    @property
    def real(self) -> dict[str, tuple[int, int]]:
        """Height and width of the cameras that there are, in order."""
        found = {}
        for name, feature in self.cameras.items():
            if len(feature.shape) != 3 or feature.shape[0] != 3:
                raise ConfigError(
                    f"config.json: {name}: expected a shape [3, height, width], found {list(feature.shape)}"
                )
            if not name.startswith(EMPTY):
                found[name] = (feature.shape[1], feature.shape[2])
        return found


def parse(data: Mapping[str, Any]) -> SmolVlaConfig:
    """The checked configuration; raises ConfigError for an unknown key or value."""
    return decode(SmolVlaConfig, data, where="config.json")


def hidden(width: int) -> int:
    """Hidden units of the expert's feed-forward part (`get_intermediate_size` of the published code)."""
    return 256 * -(-int(4 * int(2 * width / 3)) // 256)


def vlm_config(folder: Path, name: str) -> dict[str, Any]:
    """The config of the vision-language model: the folder's own, else that of the published model of this name.

    Raises ConfigError for a name that is not known where the folder has none.
    """
    if (folder / VLM).is_file():
        return read_object(folder / VLM)
    if name not in KNOWN:
        raise ConfigError(
            f"config.json: vlm_model_name: expected {' or '.join(KNOWN)}, or {VLM} beside it with the config of that "
            f"model, found {name!r}{nearest(name, KNOWN)}"
        )
    return KNOWN[name]
