"""Image towers to begin with: those of saved models of images and texts, with the way they scale pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from nextmove import store, weights
from nextmove.config import ConfigError
from nextmove.encoders.pictures import Values
from nextmove.models.vision_language.model import ImageTextModel
from nextmove.nn.vit import VisionTower, VisionTowerNet

TOWER = "tower"
"""The slot of a model's image tower: `--from tower=RUN`."""


class Tower(NamedTuple):
    """A saved model's image tower."""

    net: VisionTowerNet
    values: Values
    hash: str


def read_tower(source: Path | str) -> Tower:
    """The image tower of a run of clip, siglip, blip, or of a model that reads images.

    Raises ConfigError for a model without one, and FileNotFoundError for a folder without a model.
    """
    model: Any = store.load(source)
    found = [part for part in model.modules() if isinstance(part, VisionTowerNet)]
    if not found or not hasattr(model, "pictures"):
        raise ConfigError(
            f"--from {TOWER}={source}: expected a model with an image tower, found {type(model).__name__}"
        )
    return Tower(found[0], model.pictures.values, str(store.weights_hash(source)))


def seeing(recipe: Any, tower: Tower, source: Path | str) -> Any:
    """The recipe around this tower, of which the recipe's own layer is read; raises ConfigError for one without.

    A recipe that reads an image's tokens names its tower `tower`; one that also makes one vector of it, `image`.
    """
    for name in (TOWER, "image"):
        own = getattr(recipe, name, None)
        if isinstance(own, VisionTower) and hasattr(recipe, "values"):
            pool = "none" if name == TOWER else own.pool
            return replace(recipe, values=tower.values, **{name: replace(tower.net.config, layer=own.layer, pool=pool)})
    net = getattr(recipe, "net", None)
    if isinstance(getattr(net, "image", None), VisionTower):
        raise ConfigError(
            f"--from {TOWER}={source}: {type(recipe).__name__} scales pixels in a way of its own, so it begins with a "
            f"tower of its kind alone: --from net.image={source}"
        )
    raise ConfigError(f"--from {TOWER}={source}: {type(recipe).__name__} has no image tower to begin with")


@torch.no_grad()
def begin_tower(model: ImageTextModel, tower: Tower, source: Path | str) -> str:
    """Gives a model's tower the weights of another, but for those that make one vector of an image; their hash."""
    part = model.get_submodule(TOWER if hasattr(model, TOWER) else "image")
    found = {name: value for name, value in tower.net.state_dict().items() if not name.startswith("pool.")}
    weights.check(part.state_dict(), found, where=f"--from {TOWER}={source}", whole=TOWER)
    part.load_state_dict(found)
    model.begun()
    print(f"{TOWER}: begins with the weights of {source}")
    return tower.hash
