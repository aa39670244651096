"""Scenes drawn and written, a part of a source at a time: a folder of images and of what is said of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextmove.evaluation.gallery import png
from nextmove.host.files import replacing
from nextmove.sim.scene import Scene, Wish
from nextmove.sim.scene_words import written
from nextmove.sim.scenes import Drawing, Source

IMAGES, ROWS = "images", "rows.jsonl"
PART = 48
"""Scenes of a part: what is lost at most when the drawing is stopped, for each process."""
TRAIN, HELD = "train", "held-out"


@dataclass(frozen=True)
class Settings:
    """What decides a set of scenes."""

    scenes: int
    size: int
    questions: int
    held_out: float
    seed: int


@dataclass(frozen=True)
class Part:
    """Wishes `first` to `last` (exclusive) of a source."""

    source: Source
    first: int
    last: int

    @property
    def name(self) -> str:
        """Of its folder in `images`."""
        return f"{self.source.name.replace('/', '-')}-{self.first:06d}"


def parts(source: Source, scenes: int) -> list[Part]:
    """The parts that make so many scenes of a source, or a few more."""
    wishes, step = -(-scenes // source.each), max(1, PART // source.each)
    return [Part(source, first, min(first + step, wishes)) for first in range(0, wishes, step)]


class Drawer:
    """Draws and writes parts; made anew in every process, it keeps the source of the last part open."""

    def __init__(self, out: Path, settings: Settings) -> None:
        self.out, self.settings = out, settings
        self._open: tuple[str, Drawing] | None = None

    def __call__(self, part: Part) -> int:
        """Draws a part and writes its folder, whole or not at all; how many scenes it has."""
        drawing, count = self._drawing(part.source), 0
        with replacing(self.out / IMAGES / part.name) as folder:
            folder.mkdir(parents=True)
            lines = []
            for number in range(part.first, part.last):
                wish = Wish(number, self.settings.seed, is_held(number, self.settings.held_out))
                for scene in drawing.scenes(wish):
                    name = f"{count:03d}.png"
                    (folder / name).write_bytes(png(scene.image))
                    lines += [json.dumps(row) for row in self._rows(scene, wish, f"{IMAGES}/{part.name}/{name}", count)]
                    count += 1
            (folder / ROWS).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return count

    def _rows(self, scene: Scene, wish: Wish, image: str, number: int) -> Iterator[dict[str, Any]]:
        split = HELD if scene.held else TRAIN
        for kind, question, text in written(scene, wish.rng(scene.source, 1 + number), self.settings.questions):
            said = {"question": question, "answer": text} if question else {"text": text}
            yield {"image": image, **said, "kind": kind, "split": split}

    def _drawing(self, source: Source) -> Drawing:
        if self._open is None or self._open[0] != source.name:
            self.close()
            self._open = source.name, source.open(self.settings.size)
        return self._open[1]

    def close(self) -> None:
        """Frees what is open."""
        if self._open is not None:
            self._open[1].close()
        self._open = None


def is_held(number: int, share: float) -> bool:
    """Whether wish `number` is of a held-out scene: of the first n, about n share are, spread evenly."""
    return int((number + 1) * share + 1e-9) > int(number * share + 1e-9)
