"""What would fail in the middle of a training on images and texts, said before it begins."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from nextmove.codecs.byte_level import CAPTION_TOKENS
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError
from nextmove.data import DataError
from nextmove.data.pair_rows import Row
from nextmove.data.pairs import Pairs
from nextmove.jobs.towers import Tower
from nextmove.models.vision_language.wording import IMAGE
from nextmove.nn.vit import VisionTower

BYTES = 256 + len(CAPTION_TOKENS)
"""Ids of a tokenizer of captions that joins no bytes."""


def tower_of(recipe: Any) -> VisionTower | None:
    """The recipe's first image tower that is for images of one size."""
    towers = [recipe]
    while towers:
        part = towers.pop(0)
        if isinstance(part, VisionTower) and part.image:
            return part
        if is_dataclass(part):
            towers += [getattr(part, field.name) for field in fields(part)]
    return None


def side_of(recipe: Any) -> int:
    """The side, px, of the images that the recipe's first image tower is for; raises ConfigError for none."""
    tower = tower_of(recipe)
    if tower is None:
        raise ConfigError(
            f"side: expected at least 1 px, since no tower of {type(recipe).__name__} has a size of its own"
        )
    return tower.image


def check_side(side: int, recipe: Any, begun: Tower | None, source: Path | str) -> None:
    """Raises ConfigError for a side that is no whole number of patches, or not that of a tower to begin with."""
    tower = tower_of(recipe)
    if tower is None:
        return
    if begun is not None and begun.net.places is not None and side // tower.patch != begun.net.config.side:
        own = begun.net.config.image
        raise ConfigError(f"side: expected the {own} px that the tower of {source} is for, found {side}; --side {own}")
    if side % tower.patch:
        less = side // tower.patch * tower.patch
        near = " or ".join(f"--side {n}" for n in (less, less + tower.patch) if n)
        raise ConfigError(f"side: expected a multiple of the {tower.patch} px of a patch, found {side}; {near}")


def check_vocabulary(size: int) -> None:
    """Raises ConfigError for fewer ids than a tokenizer that is fitted on captions has at least."""
    if size < BYTES:
        raise ConfigError(
            f"vocabulary: expected at least {BYTES}, the bytes and {len(CAPTION_TOKENS)} marks, found {size}"
        )


def check_rows(pairs: Pairs, system: str, source: str, *, alone: bool) -> None:
    """Raises DataError naming a row that the system cannot read.

    alone: it compares one image with one text; else rows may show several images and mark their places.
    """
    for row in pairs.rows:
        if alone and len(row.images) > 1:
            raise _row(source, row, "image", f"1, which {system} compares with a text", len(row.images))
        if alone:
            continue
        if IMAGE in row.text:
            raise _row(source, row, "text", f"no marker {IMAGE}, which stands in questions alone", "one")
        marked = row.prompt.count(IMAGE)
        if marked not in (0, len(row.images)):
            wanted = f"{len(row.images)} markers {IMAGE}, one an image of the row, or none"
            raise _row(source, row, "question", wanted, marked)


def check_lengths(pairs: Pairs, codec: Tokenizer, length: int, where: str) -> None:
    """Raises DataError where question and answer have more than `length` ids, counting them, naming the longest."""
    ids = {text: len(codec.encode(text)) for text in pairs.texts}
    around = len(codec.prompt("")) if pairs.texts else 0
    count = {row: ids.get(row.prompt, 0) + ids[row.text] + around for row in pairs.rows}
    longest = max(count, key=lambda row: count[row])
    if count[longest] > length:
        raise DataError(
            f"{where}: {sum(n > length for n in count.values())} of {len(count)} texts have more than the {length} ids "
            f"of --length; the longest has {count[longest]}: {(longest.prompt + ' ' + longest.text).strip()[:60]!r}"
        )


def _row(source: str, row: Row, field: str, expected: str, found: object) -> DataError:
    shown, said = ", ".join(row.images), row.prompt or row.text
    return DataError(f"{source}: {field}: expected {expected}, found {found}, in the row of {shown}: {said[:60]!r}")
