"""Trainings that go on from a whole saved policy (`--from FOLDER`), with adapters where asked for (`--lora RANK`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nextmove import store, weights
from nextmove.codecs.fast import Fast
from nextmove.codecs.scaled import Scaled
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError
from nextmove.folders import Saved, open_folder
from nextmove.models.policy import Policy
from nextmove.nn import lora
from nextmove.nn.lora import Lora
from nextmove.training.optim import factors

WHOLE = "model"
"""The slot of a whole saved policy."""


def whole_folder(source: Path | str) -> Saved:
    """Whose policy it is; raises FileNotFoundError, or ConfigError for what is none."""
    return open_folder(source).expect("policy")


@lru_cache(maxsize=1)
def read_whole(source: Path | str, keep_scales: bool = False, unnorm_key: str | None = None) -> Policy:
    """A saved policy, ours or another project's, to begin with; read once for recipe and weights.

    Of an OpenVLA in the units of several data sets any will do where its scales are not kept. Raises ConfigError where
    it was built by no recipe that could build another, and for a data set that it does not know.
    """
    saved = whole_folder(source)
    saved.check_unit(unnorm_key)
    if saved.kind == "nextmove":
        own: Policy = store.load(saved.folder)
        return own
    loaded = saved.foreign(unnorm_key=unnorm_key, refitted=not keep_scales)
    print(loaded.report)
    if unnorm_key is not None and not keep_scales:
        print(f"--unnorm-key {unnorm_key}: its units give way to those of the new data (--keep-scales keeps them)")
    policy: Policy = loaded.policy
    if policy.card is None or policy.card.recipe is None:
        raise ConfigError(
            f"--from {source}: {saved.whose} is read, evaluated and compared as it is, and cannot be trained on; train "
            "one of `nextmove systems`, or begin single parts with --from SLOT=FOLDER"
        )
    return policy


def recipe_of(source: Path | str, system: str, keep_scales: bool = False, unnorm_key: str | None = None) -> Any:
    """The recipe of a saved policy; raises ConfigError where it is of another system."""
    card = read_whole(source, keep_scales, unnorm_key).card
    assert card is not None
    if card.system != system:
        raise ConfigError(f"--from {source}: expected a model of {system}, found one of {card.system}; train that")
    return card.recipe


@torch.no_grad()
def begin_whole(model: Policy, source: Path | str, *, keep_scales: bool, unnorm_key: str | None = None) -> str | None:
    """Gives a new policy all weights of a saved one, and a tokenizer's file; a hash of those weights.

    Scales stay those of the new data unless they are to be kept: of an OpenVLA's those of the data set `unnorm_key`.
    Raises ConfigError naming the first tensor that the
    two have not alike.
    """
    base, where = read_whole(source, keep_scales, unnorm_key), f"--from {source}"
    own, theirs = model.state_dict(), base.state_dict()
    apart = set() if keep_scales else _scales(model) | _scales(base)
    kept = {name: value for name, value in own.items() if name not in apart}
    found = {name: value for name, value in theirs.items() if name not in apart}
    weights.check(kept, found, where=where)
    for name, value in kept.items():
        value.copy_(found[name])
    _take_tokenizers(model, base, keep_scales)
    read_whole.cache_clear()  # Its weights are held once.
    scales = "the same" if keep_scales else "those of the new data (--keep-scales keeps the model's)"
    print(f"begins with all weights of {source}; scales are {scales}")
    return store.weights_hash(whole_folder(source).folder)


def _scales(model: nn.Module) -> set[str]:
    """Names of the statistics of data: those of every scale, and of the codec of actions."""
    found: set[str] = set()
    for name, module in model.named_modules():
        if isinstance(module, Scaled):
            found |= {f"{name}.{buffer}" for buffer, _ in module.named_buffers()}
    return found | {name for name, _ in model.named_buffers() if name.startswith("codec.")}


def _take_tokenizers(model: nn.Module, base: nn.Module, keep_scales: bool) -> None:
    theirs = dict(base.named_modules())
    for name, part in model.named_modules():
        other = theirs.get(name)
        if isinstance(part, Tokenizer) and isinstance(other, Tokenizer):
            part.adopt(other)
        if keep_scales and isinstance(part, Fast) and isinstance(other, Fast):
            part.adopt(other)


def adapted(model: Any, rank: int, names: Sequence[str]) -> dict[str, Any]:
    """Puts adapters on a model, which is frozen but for them; what is said of them in its facts.

    Rates by prefix, which a recipe may freeze parts with, no longer count. Raises ConfigError for a pattern of no layer
    and for a model that has adapters.
    """
    config = Lora(tuple(names), rank, 2.0 * rank)
    try:
        layers = lora.adapt(model, config)
    except ValueError as problem:
        raise ConfigError(f"--lora: {problem}") from None
    card = model.card
    if card.recipe.optim.scales:
        print("recipe.optim.scales do not count beside --lora: adapters are trained, and nothing else")
        card = replace(card, recipe=replace(card.recipe, optim=replace(card.recipe.optim, scales=())))
    model.card, model.adapters = card, config
    trained, total = (count(parts) / 1e6 for parts in (lora.state(model), dict(model.named_parameters())))
    print(f"adapters of rank {rank} on {len(layers)} layers: {trained:.2f} of {total:.2f} M weights are trained")
    return {"rank": rank, "alpha": config.alpha, "names": list(config.names), "layers": len(layers)}


def warn_frozen_planner(policy: Any) -> None:
    """Prints that a policy's sub-tasks are written by weights of which none is trained: it learns to write none."""
    planner = getattr(policy, "planner", None)
    if planner is None:
        return
    writes = {id(p) for p in planner.writer.parameters()}
    rates = factors(policy, policy.card.recipe.optim.scales)
    if not any(rates.get(name) and id(p) in writes for name, p in policy.named_parameters()):
        print(
            "planner: no weight that writes sub-tasks is trained (optim.scales), so that it writes those that it could "
            "write before"
        )


def count(tensors: Mapping[str, Tensor]) -> int:
    """Numbers in tensors."""
    return sum(value.numel() for value in tensors.values())
