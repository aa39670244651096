"""Reads OpenVLA's folders, and those of its fine-tuned form, as policies of our parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError, read_object
from nextmove.contracts import TASK, Feature
from nextmove.encoders.pictures import SCALES, Values
from nextmove.interop.hf import joined
from nextmove.interop.hf.tensors import Checkpoint, read_folder
from nextmove.interop.hf.words import read_tokenizer
from nextmove.interop.openvla import layout, native, oft, statistics
from nextmove.interop.openvla.config import Described, describe
from nextmove.interop.openvla.recipes import word_by_word
from nextmove.interop.openvla.towers import Sizes, sizes_of
from nextmove.interop.report import Loaded, Report
from nextmove.interop.weights import naming
from nextmove.models.model import Card
from nextmove.models.policy import Policy, PolicySpec
from nextmove.weights import check_filled, without_storage

PROCESSOR = "preprocessor_config.json"
CAMERA = "observation.images.image"
FPS = 5.0


@dataclass(frozen=True)
class Asked:
    """What a folder does not say."""

    unnorm_key: str | None = None
    """The data set in whose units actions are; None: the only one."""
    cameras: tuple[str, ...] = (CAMERA,)
    """Names, the outer one first and then the wrist's."""
    size: tuple[int, int] = (224, 224)
    """Height and width of the cameras' pictures, px."""
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """The same of cameras that have others."""
    state: str = "observation.state"
    horizon: int = 0
    """Actions of a chunk; 0 = by the robot (`oft.horizon`)."""
    fps: float | None = None
    towers: Sequence[Sizes] = field(default_factory=tuple)
    """Kinds and heads of the image towers; none: by their names in config.json."""
    refitted: bool = False
    """Whether the statistics give way to those of other data, so that of several data sets any will do."""

    @classmethod
    def shown(
        cls,
        unnorm_key: str | None,
        cameras: Mapping[str, tuple[int, int]] | None,
        fps: float | None,
        refitted: bool = False,
    ) -> Asked:
        """For a robot with these cameras, where they are known."""
        names = tuple(cameras or (CAMERA,))
        return cls(unnorm_key, names, sizes=dict(cameras or {}), fps=fps, refitted=refitted)


def load(
    folder: Path | str,
    asked: Asked | None = None,
    *,
    fps: float | None = None,
    dtype: torch.dtype | None = torch.float32,
) -> Loaded:
    """The policy of a folder with config.json and weights, whole or in shards; heads beside them make it OpenVLA-OFT's.

    dtype: of the weights, None: as the files have them. Raises FileNotFoundError, or ConfigError naming the key,
    statistic or tensor that is wrong.
    """
    folder, asked = Path(folder), asked or Asked(fps=fps)
    with naming(folder):
        return _load(folder, asked, dtype)


def _load(folder: Path, asked: Asked, dtype: torch.dtype | None) -> Loaded:
    data, whole = read_object(folder / "config.json"), dict[str, Tensor]()
    if native.is_native(data):
        whole = native.read_checkpoint(folder, dtype)
        data = native.as_config(data, whole)
    said, known = describe(data), statistics.read_statistics(folder, data)
    key, stats = statistics.chosen(known, asked.unnorm_key, asked.refitted)
    whole = whole or read_folder(folder, dtype)
    extra = oft.read_heads(folder, whole, dtype)
    tokenizer = _tokenizer(folder, said)
    sizes = asked.towers or tuple(map(sizes_of, said.config.timm_model_ids))
    if len(sizes) != 1 + said.config.fused:
        raise ConfigError(f"config.json: timm_model_ids: expected {1 + said.config.fused} towers, found {len(sizes)}")
    networks = layout.described(whole, sizes, said.image, said.family.trunk.width if extra.film else 0)
    # Words come of one picture; heads were tuned to several.
    seen = asked.cameras if extra else asked.cameras[:1]
    base = word_by_word(said, networks, _values(folder, sizes), tokenizer, seen)
    recipe = oft.recipe(base, extra, stats, key, asked) if extra else base
    spec = _spec(asked, extra, stats, key, recipe)
    with without_storage():
        policy: Policy = recipe.build(spec)
    mine = joined.Joined(
        "openvla",
        said.config,
        policy,
        (*layout.parts(said.family, networks), *extra.parts),
        said.aside,
        layout.canonical,
    )
    names, ignored = joined.filled(mine, Checkpoint(whole | extra.tensors, str(folder)), dtype)
    notes = [*_scaled(policy, extra, stats, f"norm_stats.{key}"), *_said(asked, seen, key, known, tokenizer)]
    check_filled(policy, str(folder))
    if tokenizer.files():
        encoder: Any = policy.encoder
        encoder.tokenizer.adopt(tokenizer)
    version = f"transformers {data.get('transformers_version', 'no version')}"
    name = "openvla-oft" if extra else "openvla"
    policy.card = Card(name, policy.recipe, spec)
    report = Report(name, version, tuple(names), ignored, (), tuple(notes))
    # Those that count, wherever the folder has them.
    return Loaded(policy.eval(), report, replace(said.config, norm_stats=known), names)


def _said(asked: Asked, seen: Sequence[str], key: str, known: Mapping[str, Any], tokenizer: Tokenizer) -> list[str]:
    """What is to be said of a folder that was read."""
    notes = [] if tokenizer.files() else ["no tokenizer.json: it reads ids and no instruction"]
    if not asked.refitted:
        notes.append(f"actions in the units of {key}" + (f", of {len(known)} data sets" if len(known) > 1 else ""))
    if len(seen) < len(asked.cameras):
        notes.append(f"it reads one camera, {seen[0]}; {', '.join(asked.cameras[1:])} are not read")
    if asked.fps is None and not asked.refitted:
        notes.append(f"fps: the folder does not say, {FPS:g} assumed")
    return notes


def _spec(asked: Asked, extra: oft.Heads, stats: Mapping[str, Any], key: str, recipe: Any) -> PolicySpec:
    cameras = recipe.encoder.cameras
    inputs = {name: Feature("image", (*asked.sizes.get(name, asked.size), 3)) for name in cameras}
    if extra.proprio:
        inputs[asked.state] = Feature("state", (extra.proprio,))
    inputs[TASK] = Feature("text")
    width = statistics.width(stats.get("action", {}), f"norm_stats.{key}.action", extra.bounds)
    return PolicySpec(inputs, width, FPS if asked.fps is None else asked.fps)


def _scaled(policy: Policy, extra: oft.Heads, stats: Mapping[str, Any], where: str) -> list[str]:
    """Gives the scales of actions and state their numbers; returns what is to be said of them."""
    codec: Any = policy.codec
    encoder: Any = policy.encoder
    notes = statistics.set_scale(codec.scale, stats["action"], f"{where}.action", extra.bounds)
    if extra.proprio:
        notes += statistics.set_scale(encoder.scale, stats.get("proprio", {}), f"{where}.proprio", extra.bounds)
    return notes


def _tokenizer(folder: Path, said: Described) -> Tokenizer:
    """The folder's; raises ConfigError for one of another number of ids than actions are counted from."""
    found = read_tokenizer(folder, said.family.classes)
    if found.files():
        count = 1 + max(found.backend.get_vocab(with_added_tokens=True).values())
        if not said.vocabulary <= count <= said.vocabulary + 1:
            raise ConfigError(
                f"tokenizer.json: expected {said.vocabulary} ids, or one more for padding, for actions are the last of "
                f"config.json's text_config.vocab_size {said.family.classes} less pad_to_multiple_of "
                f"{said.config.pad_to_multiple_of}; found {count}"
            )
    return found


def _values(folder: Path, sizes: Sequence[Sizes]) -> tuple[Values, ...]:
    """How each tower's pictures are scaled, as the processor says, which rounds; as published where there is none."""
    kinds: dict[str, Values] = {"dinov2": "imagenet", "siglip": "symmetric"}
    path = folder / PROCESSOR
    own = read_object(path).get("tvf_normalize_params") if path.is_file() else None
    if own is None:
        return tuple(kinds[size.kind] for size in sizes)
    if len(own) != len(sizes):
        raise ConfigError(f"{PROCESSOR}: tvf_normalize_params: expected {len(sizes)}, found {len(own)}")
    return tuple(_scale_of(params) for params in own)


def _scale_of(params: Mapping[str, Any]) -> Values:
    for name, (mean, std) in SCALES.items():
        pairs = zip((*mean, *std), (*params.get("mean", ()), *params.get("std", ())), strict=False)
        if len(params.get("mean", ())) == len(mean) and all(abs(a - b) < 1e-6 for a, b in pairs):
            return name
    raise ConfigError(f"{PROCESSOR}: tvf_normalize_params: expected a known scaling, found {dict(params)!r:.120}")
