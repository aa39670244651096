"""The page of a judged model of images and texts: figures with intervals, what was found, said and looked at."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from nextmove.evaluation import gallery, pages
from nextmove.evaluation.entry import unfinished
from nextmove.evaluation.episode import plain
from nextmove.evaluation.intervals import Rate
from nextmove.evaluation.machine import machine, versions
from nextmove.evaluation.summary import rate_json
from nextmove.host.files import write_json, write_text


@dataclass(frozen=True)
class Shown:
    """A picture on the page: pixels (height, width, 3) uint8, what stands below it, and whether it is right."""

    pixels: npt.NDArray[Any]
    caption: str
    right: bool | None = None

    @property
    def png(self) -> str:
        """The pixels as a PNG file in base64."""
        return base64.b64encode(gallery.png(self.pixels)).decode()


@dataclass(frozen=True)
class PairsResult:
    """The results of judging one model: rates by name with what each says, and rows of pictures under headings."""

    name: str
    facts: Mapping[str, Any]
    rates: Mapping[str, Rate]
    explained: Mapping[str, str]
    grids: Mapping[str, Sequence[tuple[str, Sequence[Shown]]]] = field(default_factory=dict)
    """Heading -> rows of (title, pictures)."""
    judged_on: Mapping[str, Any] = field(default_factory=lambda: {"sentence": "", "caution": ""})


def write_pairs(judged: PairsResult, out: Path, *, commands: Sequence[str] = ()) -> dict[str, Any]:
    """Writes `report.html` and `report.json` into `out`, each whole or not at all; returns the latter's content."""
    summary = plain({
        "title": judged.name, "created": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commands": list(commands), "machine": machine(), "versions": versions(), "name": judged.name,
        "facts": dict(judged.facts), "rates": {name: rate_json(rate) for name, rate in judged.rates.items()},
        "judged_on": dict(judged.judged_on),
        "caution": f"{judged.name} is not finished: {reason}." if (reason := unfinished(judged.facts)) else "",
    })  # fmt: skip
    page = pages.page("pairs", s=summary, rates=judged.rates, explained=judged.explained, grids=judged.grids)
    write_json(Path(out) / "report.json", summary, indent=1, allow_nan=False)
    write_text(Path(out) / "report.html", page)
    return dict(summary)
