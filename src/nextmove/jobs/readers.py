"""Models of images and texts that a policy begins with: `--from reader=RUN` of one that answers about images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from nextmove import store, weights
from nextmove.config import ConfigError
from nextmove.models.vision_language.reader import Reader
from nextmove.models.vision_language.wording import ending

READER = "reader"
"""The slot of a policy's vision-language model."""
PARTS = {"tower": "encoder.towers.0", "bridge": "encoder.bridge", "decoder.net.language": "encoder.language"}
"""Parts of a reader -> those of a policy that reads."""


def read_reader(source: Path | str) -> Reader:
    """A saved model that answers about images; raises ConfigError for another, and FileNotFoundError for none."""
    model: Any = store.load(source)
    if not isinstance(model, Reader):
        raise ConfigError(
            f"--from {READER}={source}: expected a model that answers about images (llava, paligemma, smolvlm), found "
            f"{type(model).__name__}"
        )
    return model


def reading(recipe: Any, model: Reader, source: Path | str) -> Any:
    """The recipe around a reader's parts, the last ids of whose tokenizer become actions.

    Raises ConfigError for a recipe that begins with no reader, and a reader whose tokenizer or order does not suit it.
    """
    where = f"--from {READER}={source}"
    if not hasattr(recipe, "reading"):
        raise ConfigError(f"{where}: {type(recipe).__name__} begins with no reader; rt2 does")
    codec, card = model.codec, model.card
    assert card is not None
    wording = model.wording
    first = codec.decode(model.first()) + wording.before
    front, lead = codec.encode(first).tolist(), codec.encode(wording.behind or "\n").tolist()
    try:
        return recipe.reading(
            card.recipe, question=first + wording.question, front=len(front), classes=codec.classes, hash=codec.hash,
            lead=tuple(lead), end=ending(codec, wording),
        )  # fmt: skip
    except ValueError as problem:
        raise ConfigError(f"{where}: {problem}") from None


@torch.no_grad()
def begin_reader(policy: nn.Module, model: Reader, source: Path | str) -> str:
    """Gives a policy the weights and the tokenizer of a reader; a hash of these weights.

    Raises ConfigError for parts that are not built alike.
    """
    for theirs, mine in PARTS.items():
        found = {n: v for n, v in model.get_submodule(theirs).state_dict().items() if not n.startswith("pool.")}
        part = policy.get_submodule(mine)
        weights.check(part.state_dict(), found, where=f"--from {READER}={source}", whole=mine)
        part.load_state_dict(found)
    policy.get_submodule("encoder").tokenizer.adopt(model.codec)  # type: ignore[operator, union-attr]
    print(f"{READER}: begins with the weights and words of {source}")
    return str(store.weights_hash(source))
