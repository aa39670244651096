"""A SmolVLA of ours as a config.json of LeRobot's, or every reason why there is none: the way back of `composed`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nextmove.contracts import Optim
from nextmove.decoders import Flow, Sampler
from nextmove.encoders.reading import Reading
from nextmove.interop.lerobot.config import ACTION, STATE, Feature
from nextmove.interop.lerobot.refused import Refused
from nextmove.interop.smolvla.config import EMPTY, KNOWN, SmolVlaConfig, hidden
from nextmove.models.policy import Policy
from nextmove.models.policy.pi0 import flow
from nextmove.models.policy.smolvla import reads
from nextmove.nn import Expert, Gpt
from nextmove.nn.attention import as_heads
from nextmove.nn.rope import Rotary


def described(policy: Policy) -> tuple[SmolVlaConfig, dict[str, Any]]:
    """The config, and that of the vision-language model; raises ConfigError with all that LeRobot has no place for."""
    refused, encoder, decoder = Refused("export"), policy.encoder, policy.decoder
    reading, own = getattr(encoder, "config", None), getattr(decoder, "config", None)
    if not isinstance(reading, Reading) or not isinstance(own, Flow) or not isinstance(own.trunk, Expert):
        raise refused.problem("a policy that is no SmolVLA; what is exported here is smolvla")
    _check_prefix(reading, refused)
    _check_expert(own, reading.language, refused)
    sampler: Sampler = decoder.sampler  # type: ignore[attr-defined]
    plain = sampler == Sampler(steps=sampler.steps)
    refused.unless(plain, f"the sampler {sampler}; export with --sampler euler, without guidance")
    codec: Any = policy.codec
    refused.unless(codec.relative.plain, f"actions {codec.space}; train with --recipe.actions.space absolute")
    refused.unless(not codec.per_step, "a scale for each step; train with --recipe.actions.no-per-step")
    refused.check()
    vlm = _vlm(reading)
    name = next((name for name, known in KNOWN.items() if _same(known, vlm)), None)
    return replace(_config(policy, reading, own, name), num_steps=sampler.steps), {} if name else vlm


def _check_prefix(reading: Reading, refused: Refused) -> None:
    usual = reads(reading.language, reading.towers[0], reading.projector.shuffle, reading.prompt, reading.state_width)
    for field in (
        "values", "framed", "projector", "image_scale", "front", "state", "state_place", "order", "read", "planner"
    ):  # fmt: skip
        found, expected = getattr(reading, field), getattr(usual, field)
        refused.unless(found == expected, f"encoder.{field} {found!r}; train with {expected!r}")
    trunk, template = reading.language, reading.prompt.template
    refused.unless(reading.prompt.classes > 0, "words read as bytes; train with --tokenizer FILE")
    refused.unless(template == "{task}\n", f"the prompt {template!r}; train with '{{task}}\\n'")
    refused.unless(trunk.rotary == Rotary(), f"positions that rotate by {trunk.rotary}; train with {Rotary()}")
    refused.unless(trunk.head == "plain", f"the head {trunk.head!r}; train with --recipe.encoder.language.head plain")
    same = abs(trunk.embed_scale - trunk.width**0.5) < 1e-6
    refused.unless(same, f"embeddings times {trunk.embed_scale}; train with the root of the width")
    marks = reading.around
    refused.unless(marks == ((), ()) or marks[0][:1] == marks[1], f"the ids {marks} around images")


def _check_expert(own: Flow, language: Gpt, refused: Refused) -> None:
    expert: Any = own.trunk
    usual = flow(expert)
    for field in ("path", "target", "times", "drop", "min_snr", "pairing", "prefix"):
        found, expected = getattr(own, field), getattr(usual, field)
        refused.unless(found == expected, f"decoder.{field} {found!r}; train with {expected!r}")
    units, count = hidden(expert.width), as_heads(language.heads).n_heads
    refused.unless(expert.feedforward.hidden == units, f"other than {units} units; train with --trunk.hidden {units}")
    refused.unless(expert.heads == count, f"{expert.heads} heads of queries; train with {count}")
    refused.unless(expert.norm == language.norm, f"the norm {expert.norm}; train with the language model's")
    refused.unless(expert.time == "token" and expert.causal, "an expert that is not causal, or adaptive")


def _vlm(reading: Reading) -> dict[str, Any]:
    """The vision-language model in transformers' words."""
    language, tower = reading.language, reading.towers[0]
    heads = as_heads(language.heads).resolved(language.width)
    text = {
        "model_type": "llama", "hidden_size": language.width, "num_hidden_layers": language.layers,
        "num_attention_heads": heads.n_heads, "num_key_value_heads": heads.n_kv_heads, "head_dim": heads.head_dim,
        "intermediate_size": language.feedforward.hidden, "vocab_size": reading.ids or reading.prompt.classes,
        "rms_norm_eps": language.norm.eps, "max_position_embeddings": 8192,
    }  # fmt: skip
    vision = {
        "model_type": "smolvlm_vision", "hidden_size": tower.width, "num_hidden_layers": tower.layers,
        "num_attention_heads": as_heads(tower.heads).n_heads, "patch_size": tower.patch, "image_size": tower.image,
        "intermediate_size": tower.feedforward.hidden or 4 * tower.width, "num_channels": tower.channels,
    }  # fmt: skip
    return {
        "model_type": "smolvlm", "text_config": text, "vision_config": vision, "tie_word_embeddings": False,
        "scale_factor": reading.projector.shuffle, "image_token_id": text["vocab_size"] - 1,
    }  # fmt: skip


def _same(known: Mapping[str, Any], vlm: Mapping[str, Any]) -> bool:
    """Whether it is a published model, or the beginning of one's language model."""
    same = all(known["vision_config"].get(key) == value for key, value in vlm["vision_config"].items())
    text = {key: value for key, value in vlm["text_config"].items() if key != "num_hidden_layers"}
    layers = vlm["text_config"]["num_hidden_layers"] <= known["text_config"]["num_hidden_layers"]
    same = same and layers and known["scale_factor"] == vlm["scale_factor"]
    return same and all(known["text_config"].get(key) == value for key, value in text.items())


def _config(policy: Policy, reading: Reading, own: Flow, name: str | None) -> SmolVlaConfig:
    trunk: Any = own.trunk
    encoder: Any = policy.encoder
    codec: Any = policy.codec
    scale = encoder.scale
    cameras = {n: f for n, f in encoder.inputs.items() if f.type == "image"}
    inputs = {n: Feature("VISUAL", (3, *f.shape[:2])) for n, f in cameras.items()}
    inputs |= {f"{EMPTY}{i}": Feature("VISUAL", (3, 480, 640)) for i in range(reading.blanks)}
    width, expert = reading.language.width, trunk.width
    return SmolVlaConfig(
        type="smolvla",
        input_features={STATE: Feature("STATE", (scale.width,)), **inputs},
        output_features={ACTION: Feature("ACTION", (policy.spec.action,))},
        device="cpu",
        push_to_hub=False,
        chunk_size=policy.timing.horizon,
        n_action_steps=policy.timing.n_action_steps,
        normalization_mapping={"VISUAL": "IDENTITY", "STATE": scale.mode.upper(), "ACTION": codec.scale.mode.upper()},
        max_state_dim=reading.state_width or scale.width,
        max_action_dim=policy.shape[1],
        resize_imgs_with_padding=(reading.towers[0].image,) * 2,
        empty_cameras=reading.blanks,
        tokenizer_max_length=reading.prompt.length,
        **_training(getattr(policy.recipe, "optim", Optim())),
        vlm_model_name=name or list(KNOWN)[-1],
        add_image_special_tokens=reading.around != ((), ()),
        num_vlm_layers=reading.language.layers,
        num_expert_layers=trunk.layers or -1,
        self_attn_every_n_layers=trunk.joint_every or -1,
        # Rounded down to the width where it is read.
        expert_width_multiplier=expert / width if int(width * (expert / width)) == expert else (expert + 0.5) / width,
        min_period=trunk.periods[0],
        max_period=trunk.periods[1],
    )


def _training(optim: Optim) -> dict[str, Any]:
    """What the config says of training: which parts learn, and the optimiser."""
    factors = dict(optim.scales)
    return {
        "freeze_vision_encoder": factors.get("encoder.towers", factors.get("encoder")) == 0,
        "train_expert_only": factors.get("encoder") == 0,
        "train_state_proj": factors.get("encoder.state", factors.get("encoder")) != 0,
        "optimizer_lr": optim.lr,
        "optimizer_betas": optim.betas,
        "optimizer_eps": optim.eps,
        "optimizer_weight_decay": optim.weight_decay,
        "optimizer_grad_clip_norm": optim.clip,
        "scheduler_warmup_steps": optim.warmup,
    }
