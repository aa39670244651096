"""Writes a policy of ours as a folder that LeRobot 0.6.1 loads strictly and that acts the same there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove import weights
from nextmove.host.files import replacing, write_json, write_text
from nextmove.interop.lerobot import parts, seen
from nextmove.interop.lerobot.config import ACTION, ActConfig, DiffusionConfig, Version, roles
from nextmove.interop.lerobot.described import described
from nextmove.interop.lerobot.refused import Refused
from nextmove.interop.lerobot.scaling import BATCH, DEVICE, NORMALISER, PROCESSORS, RENAME, UNNORMALISER
from nextmove.interop.lerobot.shown import Shown, shown
from nextmove.interop.lerobot.statistics import EPS, columns
from nextmove.models.policy import Policy
from nextmove.nn.embedding import table

WEIGHTS = "model.safetensors"
VERSION = Version("0.6", "this writer")
COUNT = "num_batches_tracked"
CARD = """# {kind}

A policy trained with [nextmove](https://pypi.org/project/nextmove), for LeRobot 0.6: `{kind}` for {fps:g} actions a
second, which the folder says nowhere else. It reads {inputs}. Images are in [0, 1], channels first.
"""


def export(policy: Policy, folder: Path | str) -> ActConfig | DiffusionConfig:
    """Writes config, weights, processors with their statistics and a card, and returns the config.

    Raises ConfigError naming everything that LeRobot has no place for, each with the option that would make the policy
    exportable, and OSError for a folder that holds something already.
    """
    refused, folder = Refused("export"), Path(folder)
    looks = shown(policy.encoder, refused)
    config = described(policy, looks, refused)
    with replacing(folder) as part:
        part.mkdir()
        write_json(part / "config.json", {**asdict(config), "type": config.type}, indent=4)
        weights.write(part / WEIGHTS, tensors(policy, config, looks))
        _processors(part, config, policy, looks)
        inputs = ", ".join(f"`{name}` {list(feature.shape)}" for name, feature in config.input_features.items())
        write_text(part / "README.md", CARD.format(kind=config.type, fps=policy.spec.fps, inputs=inputs))
    return config


def tensors(policy: Policy, config: ActConfig | DiffusionConfig, looks: Shown) -> dict[str, Tensor]:
    """All tensors under LeRobot's names, its fixed tables included."""
    part = roles(config)
    make = parts.act(config, part, VERSION) if isinstance(config, ActConfig) else parts.diffusion(config, VERSION)
    inside, found = make[2], seen.grids(config, part)
    for own, value in policy.state_dict().items():
        room, _, rest = own.partition(".")
        if room == "encoder":
            name = seen.name(config, rest.removeprefix("encoder."))
        else:
            name = inside(rest) if room == "decoder" else None
        if name is not None and not (isinstance(config, ActConfig) and name.endswith(COUNT)):
            found[name] = value.float() if value.is_floating_point() else value
    if isinstance(config, ActConfig):
        if config.use_vae:
            found[parts.POSITIONS] = table(config.chunk_size + 2, config.dim_model)[None]
        return found
    if not config.use_group_norm:
        # A frozen norm is written as one that has kept its statistics.
        means = [name for name in found if name.endswith("running_mean")]
        for name in means:
            found.setdefault(name.replace("running_mean", COUNT), torch.tensor(0))
    return {name: _in_order(name, value, config, looks) for name, value in found.items()}


def _in_order(name: str, value: Tensor, config: DiffusionConfig, looks: Shown) -> Tensor:
    """A weight that reads the condition, its columns in LeRobot's order of features."""
    if not name.endswith("cond_encoder.1.weight"):
        return value
    order, time = looks.order, config.diffusion_step_embed_dim
    steps = [time + step * len(order) + column for step in range(config.n_obs_steps) for column in order]
    return value[:, [*range(time), *steps]]


def _processors(folder: Path, config: ActConfig | DiffusionConfig, policy: Policy, looks: Shown) -> None:
    """Both lists of steps, and the statistics of those that scale."""
    codec: Any = policy.codec
    action = columns(codec.scale, {ACTION: policy.spec.action})[ACTION]
    colours = {n: {"mean": m, "std": s} for n, (m, s) in looks.colours.items()}
    seen_ = {n: own.forward for n, own in looks.states.items()} | {
        n: {key: value.view(-1, 1, 1) for key, value in own.items()} for n, own in colours.items()
    }
    features = {n: asdict(f) for n, f in {**config.input_features, **config.output_features}.items()}
    made = {n: features[n] for n in config.output_features}
    device = {"registry_name": DEVICE, "config": {"device": "cpu", "float_dtype": None}}
    renamed = {"registry_name": RENAME, "config": {"rename_map": dict(looks.renamed)}}
    before = [renamed, {"registry_name": BATCH, "config": {}}, device]
    for file, first, scale, shown_, stats, after in (
        (PROCESSORS[0], before, NORMALISER, features, {**seen_, ACTION: action.forward}, []),
        (PROCESSORS[1], [], UNNORMALISER, made, {ACTION: action.back}, [device]),
    ):
        state = f"{Path(file).stem}_step_{len(first)}_{scale}.safetensors"
        how = {"eps": EPS, "features": shown_, "norm_map": config.normalization_mapping}
        steps = [*first, {"registry_name": scale, "config": how, "state_file": state}, *after]
        write_json(folder / file, {"name": Path(file).stem, "steps": steps})
        weights.write(folder / state, _flat(stats))


def _flat(stats: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{name}.{key}": value.float() for name, own in stats.items() for key, value in own.items()}
