"""Wires a language model that reads images from its parts; recipes of this kind end here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Literal

from torch import nn

from nextmove.contracts import ContextSpec
from nextmove.decoders import Autoregressive
from nextmove.encoders.pictures import Values
from nextmove.models.vision_language.model import sized
from nextmove.models.vision_language.reader import Reader
from nextmove.models.vision_language.shots import Shots
from nextmove.models.vision_language.spec import PairSpec
from nextmove.models.vision_language.wording import Wording
from nextmove.nn.interleaved import Interleaved
from nextmove.nn.lora import Lora, adapt
from nextmove.nn.perceiver import Perceiver
from nextmove.nn.prefix import Prefix
from nextmove.nn.projector import Projector
from nextmove.nn.tiles import Tiles
from nextmove.nn.vit import VisionTower

WORDS = 32
"""Ids of the words around a question, at most (`Wording`)."""
Trained = Literal["tower", "bridge", "language"]


def assemble(
    spec: PairSpec,
    tower: VisionTower,
    bridge: Projector | Perceiver,
    net: Prefix | Interleaved,
    wording: Wording,
    *,
    trains: Collection[Trained],
    values: Values = "clip",
    patches: bool = True,
    shots: Shots | None = None,
    adapters: int = 0,
    tiles: int = 1,
) -> Reader:
    """The reader of images of the spec's size and of texts of its length, which the tokens of images lengthen.

    trains: parts whose weights are trained, the rest is frozen; gated blocks and the embedding of an image belong to
    the bridge. patches: leave out the tower's tokens in front of its patches. adapters: rank of low-rank adapters on
    the language model's layers, which are trained in any case; 0 = none. tiles: along each side of an image, which the
    tower sees one by one beside the whole; 1 = the whole alone.
    """
    if spec.height % tiles or spec.width % tiles:
        raise ValueError(f"spec: expected images of {tiles} x {tiles} tiles, found {spec.height} x {spec.width}")
    seen = replace(spec, height=spec.height // tiles, width=spec.width // tiles)
    if (seen.height, seen.width) != (tower.image, tower.image):
        tower = sized(tower, seen)
    skip = tower.extra if patches else 0
    count = tower.tokens - skip
    built: nn.Module
    if isinstance(bridge, Projector):
        width, each = net.trunk.width, bridge.tokens(count)
        several = Tiles(tiles, tiles, width) if tiles > 1 else None
        each = each if several is None else several.tokens(each)
        built, length = bridge.build(tower.width, width), spec.length + WORDS + each * spec.images
    else:
        width, each, length, several = tower.width, 1, spec.length + WORDS * spec.images, None
        built = bridge.build(width)
    decoder = Autoregressive(net, classes=spec.classes, start=False)
    model = Reader(
        spec,
        tower=tower.build(),
        bridge=built,
        decoder=decoder.build(shape=(length,), context=ContextSpec(token=width)),
        wording=wording,
        skip=skip,
        each=each,
        values=values,
        shots=shots,
        tiles=several,
    )
    if adapters:
        adapt(model.net.language, Lora(("stream.blocks.*",), adapters, 2.0 * adapters))
    _freeze(model, trains)
    return model


def _freeze(model: Reader, trains: Collection[Trained]) -> None:
    """Takes the gradient off what is not trained; raises ValueError where nothing is."""
    if not trains and not any(".adapter" in name for name, _ in model.named_parameters()):
        raise ValueError("trains: expected a part that is trained, found none")
    language = "decoder.net.language."
    for name, weight in model.named_parameters():
        part = "language" if name.startswith(language) and ".gated." not in name else name.partition(".")[0]
        part = "bridge" if part in ("decoder", "tiles") or ".gated." in name else part
        weight.requires_grad_(part in trains or ".adapter" in name)
