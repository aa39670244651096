"""Writes a SmolVLA of ours as a folder that LeRobot 0.6.1 loads strictly and that acts the same there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from nextmove import weights
from nextmove.host.files import replacing, write_json, write_text
from nextmove.interop.lerobot.config import ACTION, STATE
from nextmove.interop.lerobot.scaling import BATCH, DEVICE, NORMALISER, PROCESSORS, RENAME, UNNORMALISER
from nextmove.interop.lerobot.statistics import EPS, columns
from nextmove.interop.smolvla import names
from nextmove.interop.smolvla.config import VLM, SmolVlaConfig
from nextmove.interop.smolvla.described import described
from nextmove.models.policy import Policy
from nextmove.nn.attention import Heads, as_heads

WEIGHTS = "model.safetensors"
CARD = """# smolvla

A policy trained with [nextmove](https://pypi.org/project/nextmove), for LeRobot 0.6: `smolvla` for {fps:g} actions a
second, which the folder says nowhere else. It reads {inputs}. Images are in [0, 1], channels first.
{vlm}"""
OWN = f"""
Its vision-language model is none that is published: `{VLM}` is the config that `vlm_model_name` has to lead to, and
`tokenizer.json` its tokenizer.
"""


def export(policy: Policy, folder: Path | str) -> SmolVlaConfig:
    """Writes config, weights, processors with their statistics, the tokenizer and a card, and returns the config.

    Raises ConfigError naming everything that LeRobot has no place for, and OSError for a folder that holds something
    already.
    """
    folder = Path(folder)
    config, vlm = described(policy)
    encoder: Any = policy.encoder
    with replacing(folder) as part:
        part.mkdir()
        write_json(part / "config.json", {**asdict(config), "type": config.type}, indent=4)
        if vlm:
            write_json(part / VLM, vlm, indent=4)
        weights.write(part / WEIGHTS, tensors(policy))
        _processors(part, config, policy)
        for name, text in encoder.tokenizer.files().items():
            write_text(part / name, text)
        inputs = ", ".join(f"`{name}` {list(feature.shape)}" for name, feature in config.input_features.items())
        card = CARD.format(fps=policy.spec.fps, inputs=inputs, vlm=OWN if vlm else "")
        write_text(part / "README.md", card)
    return config


def tensors(policy: Policy) -> dict[str, Tensor]:
    """All tensors under LeRobot's names."""
    own, found = policy.state_dict(), dict[str, Tensor]()
    for ours, parts in names.table(own, _heads(policy)).items():
        value = -own[ours] if ours.startswith(names.NEGATED) else own[ours]
        rows = value.split([count for _, count in parts])
        # Each its own: what is shared is written under one name only.
        found |= {name: row.clone() for (name, _), row in zip(parts, rows, strict=True)}
    return found


def _heads(policy: Policy) -> Heads:
    encoder: Any = policy.encoder
    language = encoder.config.language
    return as_heads(language.heads).resolved(language.width)


def _processors(folder: Path, config: SmolVlaConfig, policy: Policy) -> None:
    """Both lists of steps, and the statistics of those that scale."""
    encoder: Any = policy.encoder
    codec: Any = policy.codec
    state = columns(encoder.scale, {STATE: encoder.scale.width})[STATE]
    action = columns(codec.scale, {ACTION: policy.spec.action})[ACTION]
    features = {n: asdict(f) for n, f in {**config.input_features, **config.output_features}.items()}
    made = {n: features[n] for n in config.output_features}
    device = {"registry_name": DEVICE, "config": {"device": "cpu", "float_dtype": None}}
    words = {
        "max_length": config.tokenizer_max_length, "task_key": "task", "padding_side": "right",
        "padding": config.pad_language_to, "truncation": True, "tokenizer_name": config.vlm_model_name,
    }  # fmt: skip
    before = [
        {"registry_name": RENAME, "config": {"rename_map": {}}},
        {"registry_name": BATCH, "config": {}},
        {"registry_name": "smolvla_new_line_processor", "config": {}},
        {"registry_name": "tokenizer_processor", "config": words},
        device,
    ]
    for file, first, scale, shown, stats, after in (
        (PROCESSORS[0], before, NORMALISER, features, {STATE: state.forward, ACTION: action.forward}, []),
        (PROCESSORS[1], [], UNNORMALISER, made, {ACTION: action.back}, [device]),
    ):
        stem = f"{Path(file).stem}_step_{len(first)}_{scale}.safetensors"
        how = {"eps": EPS, "features": shown, "norm_map": config.normalization_mapping}
        steps = [*first, {"registry_name": scale, "config": how, "state_file": stem}, *after]
        write_json(folder / file, {"name": Path(file).stem, "steps": steps})
        flat = {f"{name}.{key}": value.float() for name, own in stats.items() for key, value in own.items()}
        weights.write(folder / stem, flat)
