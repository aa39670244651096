"""A tiny BLIP of four colours, untrained and trained."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from nextmove import store
from nextmove.codecs.byte_level import train_captions
from nextmove.contracts import seeded
from nextmove.decoders.distilled import Distilled
from nextmove.models.vision_language.blip import Blip
from nextmove.models.vision_language.blip_model import BlipModel
from nextmove.models.vision_language.spec import PairSpec
from nextmove.nn.med import Med
from nextmove.nn.norm import LayerNorm
from nextmove.nn.vit import VisionTower

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
TINY = Blip(
    VisionTower(16, 8, 32, 2, 2, norm=LayerNorm(1e-6)),
    Med(32, 2, 2),
    space=16,
    contrast=Distilled(momentum=0.9, queue=16, ramp=20),
)


def tiny(recipe: Blip = TINY) -> BlipModel:
    codec = train_captions([f"a {name} square" for name in COLOURS], 280)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: BlipModel = store.create("blip", PairSpec(16, 16, codec.classes, 12, codec.hash), recipe)
    model.codec.adopt(codec)
    return model


def batch() -> dict[str, Any]:
    images = torch.stack([torch.tensor(rgb, dtype=torch.uint8).expand(1, 16, 16, 3) for rgb in COLOURS.values()])
    return {
        "images": images.contiguous(),
        "image_ids": torch.arange(4)[:, None],
        "text": [f"a {name} square" for name in COLOURS],
    }


@functools.cache
def trained() -> BlipModel:
    model = tiny().train()
    optim = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for step in range(150):
            optim.zero_grad()
            sum(model.loss(batch(), rng=seeded(step)).values()).backward()  # type: ignore[union-attr]
            optim.step()
    return model.eval()


def pictures() -> Tensor:
    return batch()["images"][:, 0]
