"""The page of a search: the images found, the best first."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nextmove.evaluation import gallery, pages
from nextmove.host.files import write_bytes, write_json, write_text


@dataclass(frozen=True)
class Found:
    """An image by its name, how well the text fits (a cosine), and its pixels (height, width, 3) uint8."""

    name: str
    score: float
    pixels: npt.NDArray[Any]

    @property
    def png(self) -> str:
        """The pixels as a PNG file in base64."""
        return base64.b64encode(gallery.png(self.pixels)).decode()


def write_found(
    found: Sequence[Found],
    out: Path,
    *,
    text: str,
    folder: str,
    model: str,
    images: int,
    commands: Sequence[str] = (),
) -> None:
    """Writes search.html, search.png (a grid) and search.json into `out`, each whole or not at all."""
    summary = {
        "text": text,
        "folder": folder,
        "model": model,
        "images": images,
        "commands": list(commands),
        "found": [{"image": one.name, "score": one.score} for one in found],
    }
    page = pages.page("found", s=summary, found=found)
    write_json(out / "search.json", summary, indent=1, allow_nan=False)
    write_text(out / "search.html", page)
    if found:
        grid = gallery.grid(np.stack([one.pixels for one in found]).transpose(0, 3, 1, 2) / 255)
        write_bytes(out / "search.png", gallery.png(grid))
