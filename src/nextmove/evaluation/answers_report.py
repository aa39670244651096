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

TRIED = {
    "with": "{} examples",
    "without": "{} examples without their images",
    "exchanged": "{} examples, half of their images exchanged",
    "copying_one": "one of {} examples copied",
    "copying_commonest": "the commonest of {} examples copied",
}
"""What is tried with made-up names -> its words; {}: the number of examples."""


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
    page = pages.page("answers", s=summary, examples=drawn, rows=figures(summary), between=between)
    write_json(out / "report.json", summary)
    write_text(out / "report.html", page)


def figures(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What was counted, in words, with the share; `gain` in it is what examples gain over it, paired."""
    rows = [("exact answers on held-out rows", summary["exact"])]
    rows += [(f"of these, {kind}", found) for kind, found in summary["by_kind"].items()]
    rows += [("with the images of other rows", summary["with_other_images"])]
    rows += [("the best fixed answer to each question", summary["without_looking"])]
    return rows + [(f"made-up names, {words}", found) for words, found in tries(summary)]


def tries(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What was tried with made-up names, in words, with the share and the gain of examples; [] where nothing was."""
    if "few_shot" not in summary:
        return []
    few = summary["few_shot"]
    gain = {name: {"gain": found} for name, found in few["gain"].items()}
    return [(words.format(few["examples"]), few[name] | gain.get(name, {})) for name, words in TRIED.items()]


def told(found: Mapping[str, Any]) -> str:
    """A share in words, with its interval where it was drawn, and what examples gain over it."""
    words = f"{found['right']:g}/{found['of']}, {100 * found['share']:.1f} %"
    if "low" in found:
        words += f" ({100 * found['low']:.0f} to {100 * found['high']:.0f})"
    return words + (f"; examples gain {between(found['gain'])}" if "gain" in found else "")


def between(gain: Mapping[str, float]) -> str:
    """A difference of shares with its interval, in points."""
    return f"{100 * gain['mean']:+.1f} ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
