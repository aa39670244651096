"""Reads a folder of LeRobot's that holds pi0-FAST as a policy of ours."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove import weights
from nextmove.codecs import fast_files
from nextmove.codecs.fast import Fast
from nextmove.config import ConfigError, read_object
from nextmove.interop.hf.tensors import read_folder
from nextmove.interop.lerobot.config import STATE, version_of
from nextmove.interop.lerobot.scaling import PROCESSORS, from_processors
from nextmove.interop.pi import layout, statistics, words
from nextmove.interop.pi.composed import robot
from nextmove.interop.pi.config import Sizes, sizes_of
from nextmove.interop.pi.loading import FPS, check_known, most, precise
from nextmove.interop.pi.steps import POST
from nextmove.interop.pi_fast.composed import Places, recipe
from nextmove.interop.pi_fast.config import PRE, PiFastConfig, check_steps, parse
from nextmove.interop.report import Loaded, Report
from nextmove.interop.weights import naming
from nextmove.models.model import Card
from nextmove.models.policy import Policy

FAST = "action_tokenizer"
"""Where in a folder the tokenizer of actions is, of which LeRobot keeps the name alone."""


def load(
    folder: Path | str,
    *,
    fps: float | None = None,
    dtype: torch.dtype | None = None,
    optional: Collection[str] = (),
    sizes: Sizes | None = None,
    scaled: bool = False,
    fast: Fast | Path | str | None = None,
    places: Places | None = None,
) -> Loaded:
    """The policy of a folder of LeRobot's, or of a training step's folder that holds `pretrained_model`.

    fast: the tokenizer of actions or its published folder; None: `action_tokenizer` in the folder, or what config.json
    names where that is a folder, and without one the policy cannot act. places: of its ids in the vocabulary; None:
    those of tokenizer.json, or PaliGemma's. The rest and errors as of `interop.pi.load`.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file() and (folder / "pretrained_model").is_dir():
        folder = folder / "pretrained_model"
    with naming(folder):
        data = read_object(folder / "config.json")
        config, there = parse(data), (folder / PROCESSORS[0]).is_file()
        own = sizes or sizes_of(config.paligemma_variant, config.action_expert_variant)
        own = replace(own, tower=replace(own.tower, image=config.image_resolution[0]))
        scales = None if scaled else from_processors(folder, config, PRE, POST)
        if scales is not None:
            check_steps(config, scales.steps)
        renamed = {} if scales is None else dict(scales.renamed)
        check_known(optional, config, renamed)
        tensors, words_, codec = (
            read_folder(folder, dtype),
            words.tokenizer(folder, own.ids),
            _codec(folder, config, fast),
        )
        plain, ignored = layout.tidied(tensors, where=str(folder), spoken=_apart(tensors))
        spec = robot(config, optional, renamed, FPS if fps is None else fps)
        places = places or Places.of(config, own.ids, words_)
        tied = layout.HEAD not in plain
        made = recipe(config, own, spec, places, codec, tied=tied, hash=words_.hash)
        policy = _built(made, spec)
        names = _fill(policy, plain, where=str(folder), dtype=dtype)
        notes = [] if fps is not None else [f"fps: the folder does not say, {FPS:g} assumed"]
        notes += _give(policy, codec, words_)
        states, actions = statistics.unscaled(config) if scales is None else (scales.inputs[STATE], scales.action)
        notes += statistics.give(policy, states, actions)
        notes += [f"observations are renamed: {renamed}"] if renamed else []
        report = Report(config.type, str(version_of(data, there)), tuple(names), ignored, (), tuple(notes))
        return Loaded(policy.eval(), report, config, names)


def _apart(tensors: dict[str, Tensor]) -> bool:
    """Whether a file has a head beside the table of embeddings."""
    found = {name.replace("._orig_mod", "").removeprefix("model.") for name in tensors}
    return {layout.HEAD, layout.EMBEDDING} <= found


def _codec(folder: Path, config: PiFastConfig, given: Fast | Path | str | None) -> Fast | None:
    """The tokenizer of actions, where it is."""
    if isinstance(given, Fast):
        return given
    if given is not None:
        return fast_files.read(given)
    places = (folder / FAST, Path(config.action_tokenizer_name))
    return next((fast_files.read(place) for place in places if (place / fast_files.CONFIG).is_file()), None)


def _built(made: Any, spec: Any) -> Policy:
    try:
        with weights.without_storage():
            policy: Policy = made.build(spec)
    except ConfigError:
        raise
    except ValueError as problem:
        raise ConfigError(f"config.json: {problem}") from None
    policy.card = Card("pi0-fast", policy.recipe, spec)
    return policy


def table(policy: Any) -> dict[str, tuple[layout.Piece, ...]]:
    """Where each tensor of ours is in a file, by openpi's names."""
    own = policy.state_dict()
    found = layout.prefix(policy, own)
    head = "encoder.language.head.weight"
    return found | ({head: (layout.Piece(layout.HEAD, 0, len(own[head])),)} if head in own else {})


def _fill(policy: Policy, plain: dict[str, Tensor], *, where: str, dtype: torch.dtype | None) -> dict[str, str]:
    """Gives a policy the tensors of a file; tensor of the file -> ours."""
    pieces, own = table(policy), policy.state_dict()
    kind = most(plain) if dtype is None else dtype
    made = layout.gathered(pieces, own, plain, where=where)
    weights.assign(policy, made, where=where, foreign=lambda name: name if name in made else None)
    precise(policy, kind)
    weights.check_filled(policy, where)
    return {f"model.{piece.name}": ours for ours, parts in pieces.items() for piece in parts}


def _give(policy: Policy, codec: Fast | None, words_: Any) -> list[str]:
    """Gives a policy both tokenizers; what is said of those that are absent."""
    encoder: Any = policy.encoder
    actions: Any = policy.codec
    notes = []
    if codec is None or not codec.fitted:
        notes.append(
            f"no tokenizer of actions: put that of {FAST} into the folder (processor_config.json and tokenizer.json of "
            "lerobot/fast-action-tokenizer), or give `fast`; without it the policy cannot act"
        )
    else:
        actions.fast.fast.adopt(codec)
    if words_.files():
        encoder.tokenizer.adopt(words_)
    else:
        notes.append("no tokenizer.json: put that of google/paligemma-3b-pt-224 into the folder")
    return notes
