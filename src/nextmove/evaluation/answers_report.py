"""One page on a model that answers questions about images: shares, and pictures of right and wrong answers."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nextmove.evaluation import gallery, pages
from nextmove.evaluation.episode import plain
from nextmove.evaluation.machine import machine, versions
from nextmove.host.files import write_json, write_text


def write_answers(
    result: Mapping[str, Any], examples: Sequence[Mapping[str, Any]], out: Path, *, commands: Sequence[str] = ()
) -> None:
    """Writes `report.html` and `report.json` into `out`, each whole or not at all.

    examples: `image` (h, w, 3) uint8, `question`, `answer`, `said` and `right`.
    """
    summary = plain({
        "created": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "commands": list(commands),
        "machine": machine(), "versions": versions(), **result,
        "examples": [{k: v for k, v in one.items() if k != "image"} for one in examples],
    })  # fmt: skip
    drawn = [{**one, "image": base64.b64encode(gallery.png(one["image"].numpy())).decode()} for one in examples]
    page = pages.page("answers", s=summary, examples=drawn, rows=_rows(summary))
    write_json(out / "report.json", summary)
    write_text(out / "report.html", page)


def _rows(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    rows = [("exact answers", summary["exact"])]
    rows += [(f"of these, {kind}", found) for kind, found in summary["by_kind"].items()]
    rows += [("with the images of other rows", summary["with_other_images"])]
    rows += [("the best fixed answer to each question", summary["without_looking"])]
    if "few_shot" in summary:
        few = summary["few_shot"]
        rows += [("made-up names, no example", few["without"])]
        rows += [(f"made-up names, {few['examples']} examples", few["with"])]
    return rows
