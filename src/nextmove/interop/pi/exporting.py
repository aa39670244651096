"""Writes a pi0 or pi0.5 of ours as a folder that LeRobot 0.6.1 loads strictly, or in openpi's layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove import weights
from nextmove.config import ConfigError
from nextmove.host.files import replacing, write_json, write_text
from nextmove.interop.lerobot.config import ACTION, STATE
from nextmove.interop.lerobot.scaling import BATCH, DEVICE, NORMALISER, PROCESSORS, RENAME, UNNORMALISER
from nextmove.interop.lerobot.statistics import EPS, Columns, columns
from nextmove.interop.pi import layout
from nextmove.interop.pi.config import Pi0Config, PiShared
from nextmove.interop.pi.described import described
from nextmove.interop.pi.statistics import NORMS
from nextmove.interop.pi.steps import ABSOLUTE, LINE, RELATIVE, TELL, TOKENIZE, TOKENIZER
from nextmove.models.policy import Policy

WEIGHTS = "model.safetensors"
CARD = """# {kind}

A policy trained with [nextmove](https://pypi.org/project/nextmove), for LeRobot 0.6: `{kind}` for {fps:g} actions a
second, which the folder says nowhere else. It reads {inputs}. Images are in [0, 1], channels first.
"""


def export(policy: Policy, folder: Path | str) -> Pi0Config:
    """Writes config, weights, processors with their statistics and a card, and returns the config.

    Raises ConfigError naming everything that LeRobot has no place for, and OSError for a folder that holds something.
    """
    folder, config = Path(folder), described(policy)
    with replacing(folder) as part:
        part.mkdir()
        write_json(part / "config.json", {**asdict(config), "type": config.type}, indent=4)
        weights.write(part / WEIGHTS, {f"model.{name}": value for name, value in tensors(policy).items()})
        _processors(part, config, policy)
        write_words(part, policy)
        inputs = ", ".join(f"`{name}` {list(feature.shape)}" for name, feature in config.input_features.items())
        write_text(part / "README.md", CARD.format(kind=config.type, fps=policy.spec.fps, inputs=inputs))
    return config


def export_openpi(policy: Policy, folder: Path | str, *, asset: str = "robot") -> None:
    """Writes weights, config and statistics as openpi's PyTorch code reads them; errors as of `export`.

    openpi's head is tied to the table of embeddings, which its files hold under the head's name.
    """
    folder, config = Path(folder), described(policy)
    if config.type == "pi0" and config.max_state_dim != config.max_action_dim:
        raise ConfigError(
            f"export: openpi pads states and actions to one width, found {config.max_state_dim} and "
            f"{config.max_action_dim}; train with --recipe.encoder.state-width {config.max_action_dim}"
        )
    found = tensors(policy)
    del found[layout.EMBEDDING]
    with replacing(folder) as part:
        part.mkdir()
        kind = {torch.bfloat16: "bfloat16", torch.float16: "float16"}.get(found[layout.HEAD].dtype, "float32")
        plain = {
            "action_dim": config.max_action_dim,
            "action_horizon": config.chunk_size,
            "paligemma_variant": config.paligemma_variant,
            "action_expert_variant": config.action_expert_variant,
            "precision": kind,
        }
        write_json(part / "config.json", plain, indent=2)
        weights.write(part / WEIGHTS, found)
        stats = {key: _norms(own) for key, own in zip(("state", "actions"), scales(policy), strict=True)}
        (part / "assets" / asset).mkdir(parents=True)
        write_json(part / "assets" / asset / NORMS, {"norm_stats": stats}, indent=2)
        write_words(part, policy)


def tensors(policy: Policy) -> dict[str, Tensor]:
    """All tensors under openpi's names, with the heads that LeRobot expects and no move uses."""
    own = policy.state_dict()
    found = layout.scattered(layout.table(policy), own)
    table = found[layout.EMBEDDING]
    net: Any = policy.decoder
    found[layout.HEAD] = table.clone()
    found[layout.SPARE] = table.new_zeros(len(table), net.net.stream.width)
    return found


def scales(policy: Policy) -> tuple[Columns, Columns]:
    """Of states and actions."""
    encoder: Any = policy.encoder
    codec: Any = policy.codec
    state = columns(encoder.scale, {STATE: encoder.scale.width})[STATE]
    return state, columns(codec.scale, {ACTION: policy.spec.action})[ACTION]


def _norms(own: Columns) -> dict[str, list[float]]:
    """Statistics by openpi's names; those it adds its own number to, less that number."""
    from nextmove.interop.pi.statistics import EPS as THEIRS

    found = {key: value.double() for key, value in own.forward.items()}
    if own.mode == "mean_std":
        found["std"] = own.scale - THEIRS
    elif "q99" in found:
        found["q99"] = found["q99"] - torch.where(found["q99"] > found["q01"], THEIRS, 0.0)
    if "mean" not in found:
        # Its reader asks for them and does not use them.
        found |= {"mean": own.shift + own.scale, "std": own.scale}
    return {key: value.tolist() for key, value in found.items()}


def write_words(part: Path, policy: Policy) -> None:
    """Writes the tokenizer of words."""
    encoder: Any = policy.encoder
    for name, text in encoder.tokenizer.files().items():
        write_text(part / name, text)


def _processors(folder: Path, config: Pi0Config, policy: Policy) -> None:
    """Both lists of steps in LeRobot's order, and the statistics of those that scale."""
    five = config.type == "pi05"
    scale, back, relative, tokenize, device = steps(config)
    first = [step(RENAME, rename_map={}), step(BATCH)]
    if five:
        before = [*first, relative, scale, step(TELL), tokenize, device]
    else:
        before = [*first, step(LINE), tokenize, device, relative, scale]
    write_steps(folder, before, [back, step(ABSOLUTE, enabled=config.use_relative_actions), device], *scales(policy))


def steps(config: PiShared) -> tuple[Mapping[str, Any], ...]:
    """The steps that scale, there and back, make actions relative, make ids of words, and move to a device."""
    features = {n: asdict(f) for n, f in {**config.input_features, **config.output_features}.items()}
    device = step(DEVICE, device="cpu", float_dtype=None)
    relative = step(
        RELATIVE, enabled=config.use_relative_actions, exclude_joints=list(config.relative_exclude_joints),
        action_names=None if config.action_feature_names is None else list(config.action_feature_names),
    )  # fmt: skip
    tokenize = step(
        TOKENIZE, max_length=config.tokenizer_max_length, task_key="task", padding_side="right", padding="max_length",
        truncation=True, tokenizer_name=TOKENIZER,
    )  # fmt: skip
    how = {"eps": EPS, "norm_map": config.normalization_mapping}
    scale = step(NORMALISER, **how, features=features)
    back = step(UNNORMALISER, **how, features={n: features[n] for n in config.output_features})
    return scale, back, relative, tokenize, device


def write_steps(
    folder: Path, before: list[Mapping[str, Any]], after: list[Mapping[str, Any]], state: Columns, action: Columns
) -> None:
    """Writes both lists of steps and the statistics of those that scale."""
    for file, own, stats in (
        (PROCESSORS[0], before, {STATE: state.forward, ACTION: action.forward}),
        (PROCESSORS[1], after, {ACTION: action.back}),
    ):
        place = next(i for i, one in enumerate(own) if one["registry_name"] in (NORMALISER, UNNORMALISER))
        name = f"{Path(file).stem}_step_{place}_{own[place]['registry_name']}.safetensors"
        own[place] = {**own[place], "state_file": name}
        write_json(folder / file, {"name": Path(file).stem, "steps": own})
        weights.write(
            folder / name, {f"{n}.{key}": v.float() for n, columns_ in stats.items() for key, v in columns_.items()}
        )


def step(name: str, **config: Any) -> Mapping[str, Any]:
    """A step of a processor as saved."""
    return {"registry_name": name, "config": config}
