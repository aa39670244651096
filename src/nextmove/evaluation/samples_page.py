"""A page to look at samples of a data set of images and texts."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextmove.evaluation import pages
from nextmove.host.files import write_text


@dataclass(frozen=True)
class Sample:
    """An image, as a PNG file, and what is said of it: kind, question and answer."""

    image: bytes
    split: str
    rows: Sequence[tuple[str, str, str]]


def write_samples(
    out: Path, title: str, groups: Mapping[str, Sequence[Sample]], tables: Mapping[str, Sequence[Sequence[Any]]],
    notes: Sequence[str] = (), commands: Sequence[str] = (),
) -> None:  # fmt: skip
    """Writes the page `out`: samples by group, tables by caption (a header first), all within one file."""
    shown = {
        name: [{"data": base64.b64encode(s.image).decode(), "split": s.split, "rows": s.rows} for s in samples]
        for name, samples in groups.items()
    }
    page = pages.page("samples", 
        title=title, created=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), groups=shown, tables=tables,
        notes=notes, commands=commands,
    )  # fmt: skip
    write_text(out, page)
