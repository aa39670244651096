"""RT-1's weights under the names of a port to PyTorch (Brohan et al. 2022; the published ones are TensorFlow's).

How it is composed: `models.policy.rt1.Rt1`, of the published sizes but for those that the configuration or the tensors
say. Shapes: B batch, T observation steps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from nextmove import weights
from nextmove.config import ConfigError, decode, read_object
from nextmove.contracts import Feature
from nextmove.encoders import Observation
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.interop.report import Loaded, Report
from nextmove.interop.weights import fill, renamed
from nextmove.models.policy import Policy, PolicySpec
from nextmove.models.policy.rt1 import ACTIONS, B3, TOLD, Rt1
from nextmove.nn.attention import Heads

FPS = 3.0
CAMERA = "observation.image"
CONFIGS = ("config.json", "case.json")
_IMAGES = "encoder.parts.0.networks.0."
_OUTSIDE = {
    "backbone.stem": "encoder.stem.conv",
    "backbone.stem_norm": "encoder.stem.bn",
    "backbone.head": "encoder.top.conv",
    "backbone.head_norm": "encoder.top.bn",
    "project": "encoder.proj",
    "end": "encoder.film",
    "learner.norm": "token_learner.norm",
    "learner.mlp.0": "token_learner.mlp.0",
    "learner.mlp.2": "token_learner.mlp.1",
}
_BLOCK = {
    "expand": "expand_conv", "expand_norm": "expand_bn", "depthwise": "dwconv", "depthwise_norm": "bn",
    "squeeze.reduce": "se_reduce", "squeeze.expand": "se_expand", "project": "project_conv",
    "project_norm": "project_bn",
}  # fmt: skip
_TRANSFORMER = {
    "token": "transformer.token_embedding",
    "position": "transformer.position_embedding",
    "head": "transformer.head",
    "action": "action_embedding",
}
_LAYER = {
    "attention_branch.norm": "norm1", "attention.in_proj_weight": "attention.qkv.weight",
    "attention.in_proj_bias": "attention.qkv.bias", "attention.out_proj": "attention.out",
    "feedforward_branch.norm": "norm2", "feedforward": "feed_forward",
}  # fmt: skip


@dataclass(frozen=True)
class Rt1Config:
    """What the tensors do not say."""

    frames: int = 6
    image_hw: tuple[int, int] = (256, 320)
    layers: int = 8
    width: int = 512
    heads: int = 8
    head_dim: int = 128
    actions: Mapping[str, tuple[float, ...]] | None = None
    """Name -> number of dimensions, low and high; none: the published robot's."""

    @property
    def bounds(self) -> dict[str, tuple[tuple[float, float], ...]]:
        """Low and high of each dimension by name; raises ConfigError for an entry of another form."""
        if self.actions is None:
            return dict(ACTIONS)
        found = {}
        for name, entry in self.actions.items():
            if len(entry) != 3 or entry[0] < 1 or not entry[1] < entry[2]:
                raise ConfigError(f"actions.{name}: expected a number of dimensions, low and high, found {entry}")
            found[name] = ((float(entry[1]), float(entry[2])),) * int(entry[0])
        return found


def foreign(name: str) -> str | None:
    """A tensor of the policy under the port's name."""
    if name.endswith("num_batches_tracked"):
        return None
    if name.startswith("decoder.net."):
        return _of_transformer(name.removeprefix("decoder.net."))
    inside = name.removeprefix(_IMAGES)
    if inside == name:
        return None
    if found := re.fullmatch(r"film\.(\d+)\.(.*)", inside):
        return f"encoder.blocks.{found[1]}.film.{found[2]}"
    if found := re.fullmatch(r"backbone\.blocks\.(\d+)\.(.*)", inside):
        part = renamed(found[2], _BLOCK)
        return None if part is None else f"encoder.blocks.{found[1]}.{part}"
    return renamed(inside, _OUTSIDE)


def _of_transformer(name: str) -> str | None:
    found = re.fullmatch(r"stream\.blocks\.(\d+)\.(.*)", name)
    if found is None:
        return renamed(name, _TRANSFORMER)
    part = renamed(found[2], _LAYER)
    return None if part is None else f"transformer.layers.{found[1]}.{part}"


def build(config: Rt1Config, *, fps: float = FPS, context: int = 512, token: int = 512, tokens: int = 8) -> Policy:
    """The policy without weights, its camera called `CAMERA`.

    context, token, tokens: width of the instruction's vector, and width and number of an image's tokens.
    """
    recipe, bounds = Rt1.as_trained(config.bounds), config.bounds
    seen: Any = recipe.encoder.parts[0]
    seen = replace(seen, camera=replace(B3, width=token, learned=tokens))
    heads = Heads(config.heads, head_dim=config.head_dim)
    trunk = replace(recipe.decoder.trunk, width=config.width, layers=config.layers, heads=heads)
    recipe = replace(
        recipe,
        timing=replace(recipe.timing, n_obs_steps=config.frames, horizon=config.frames),
        encoder=Observation((seen,)),
        decoder=replace(recipe.decoder, trunk=trunk),
    )
    inputs = {CAMERA: Feature("image", (*config.image_hw, 3)), TOLD: Feature("state", (context,))}
    return recipe.build(PolicySpec(inputs, sum(map(len, bounds.values())), fps))


def load(folder: Path | str, *, fps: float | None = None) -> Loaded:
    """The policy of a folder with config.json (or case.json) and model.safetensors.

    fps: actions a second, which the folder does not say (3 if not given). Raises FileNotFoundError, or ConfigError
    naming the key or tensor that is wrong.
    """
    folder = Path(folder)
    path = next((folder / name for name in CONFIGS if (folder / name).is_file()), folder / CONFIGS[0])
    data = {name: value for name, value in read_object(path).items() if name in Rt1Config.__dataclass_fields__}
    config = decode(Rt1Config, data, where=path.name)
    checkpoint = Checkpoint(weights.read(folder / "model.safetensors"), str(folder / "model.safetensors"))
    context, token, tokens = _sizes(checkpoint)
    with weights.without_storage():
        policy = build(config, fps=FPS if fps is None else fps, context=context, token=token, tokens=tokens)
    _pack(checkpoint, policy, config)
    names = checkpoint.used(fill(policy, checkpoint.tensors, foreign, where=checkpoint.where))
    weights.check_filled(policy, checkpoint.where)
    notes = [f"fps: the folder does not say, {FPS:g} assumed"] if fps is None else []
    notes.append("action_embedding: kept, without effect: the published model multiplies what it gives by 0")
    report = Report("rt1", "google-research/robotics_transformer", tuple(names), {}, (), tuple(notes))
    return Loaded(policy.eval(), report, config, names)


def _sizes(checkpoint: Checkpoint) -> tuple[int, int, int]:
    """Width of the instruction's vector, and width and number of an image's tokens, as the tensors have them."""
    found: dict[str, Tensor] = {}
    for name in ("encoder.film.add.weight", "token_learner.mlp.1.bias"):
        if name not in checkpoint.tensors:
            raise ConfigError(f"{checkpoint.where}: missing tensor {name!r}")
        found[name] = checkpoint.tensors[name]
    film, tokens = found.values()
    return film.shape[1], film.shape[0], len(tokens)


def _pack(checkpoint: Checkpoint, policy: Policy, config: Rt1Config) -> None:
    """Scales and shifts as one map, and queries, keys and values as one; raises ConfigError naming what is wrong."""
    network: Any = policy.get_submodule(_IMAGES.removesuffix("."))
    films = {f"encoder.blocks.{i}.film": film for i, film in enumerate(network.film)} | {"encoder.film": network.end}
    for name, film in films.items():
        rows = film.out_features // 2
        for kind, shape in {"weight": (rows, film.in_features), "bias": (rows,)}.items():
            checkpoint.pack(f"{name}.{kind}", {f"{name}.{part}.{kind}": shape for part in ("mult", "add")})
    inner = config.heads * config.head_dim
    for i in range(config.layers):
        name = f"transformer.layers.{i}.attention"
        for kind, shape in {"weight": (inner, config.width), "bias": (inner,)}.items():
            parts = ("query", "key", "value")
            checkpoint.pack(f"{name}.qkv.{kind}", {f"{name}.{part}.{kind}": shape for part in parts})
