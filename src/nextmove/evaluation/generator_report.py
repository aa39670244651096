"""One page on a generator of text or images: likelihood, sample quality, speed, samples, training."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nextmove.evaluation import pages, plots
from nextmove.evaluation.entry import unfinished
from nextmove.evaluation.episode import plain
from nextmove.evaluation.machine import machine, versions
from nextmove.host.files import write_bytes, write_json, write_text


@dataclass(frozen=True)
class GeneratorResult:
    """The results of judging one generator.

    likelihood: figures with their unit in the name (`nats_per_image`, `bits_per_dim`, ...). quality: as
    `quality.judge_samples`. speed: `seconds_per_image` and the like. images: PNG files by caption. texts: samples.
    judged_on: `sentence`, what of the source it was judged on, and `caution`, whether it may have been trained on it.
    """

    name: str
    facts: Mapping[str, Any]
    likelihood: Mapping[str, float] = field(default_factory=dict)
    quality: Mapping[str, Any] = field(default_factory=dict)
    speed: Mapping[str, float] = field(default_factory=dict)
    images: Mapping[str, bytes] = field(default_factory=dict)
    texts: Sequence[str] = ()
    curve: Mapping[str, Any] | None = None
    judged_on: Mapping[str, Any] = field(default_factory=lambda: {"sentence": "", "caution": ""})


def write_generator(judged: GeneratorResult, out: Path, *, title: str, commands: Sequence[str] = ()) -> dict[str, Any]:
    """Writes `report.html` and `report.json` into `out`, each whole or not at all; returns the latter's content."""
    from markupsafe import Markup

    summary = plain({
        "title": title, "created": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "commands": list(commands),
        "machine": machine(), "versions": versions(), "name": judged.name, "facts": dict(judged.facts),
        "likelihood": dict(judged.likelihood), "quality": dict(judged.quality), "speed": dict(judged.speed),
        "texts": list(judged.texts), "judged_on": dict(judged.judged_on),
        "caution": f"{judged.name} is not finished: {reason}." if (reason := unfinished(judged.facts)) else "",
    })  # fmt: skip
    curve = judged.curve
    drawn = plots.training_plot({judged.name: curve}, [judged.name]) if curve and curve["step"] else ""
    images = {caption: base64.b64encode(png).decode() for caption, png in judged.images.items()}
    page = pages.page(
        "generator", {"show": show}, s=summary, images=images, training=Markup(drawn), rows=table_rows(summary)
    )
    write_json(Path(out) / "report.json", summary, indent=1, allow_nan=False)
    write_text(Path(out) / "report.html", page)
    for caption, png in judged.images.items():
        write_bytes(Path(out) / f"{caption.split(',')[0].replace(' ', '-')}.png", png)
    return dict(summary)


EXPLAINED = {
    "samples": "images drawn and compared with as many held-out ones",
    "against_test": "1-nearest-neighbour accuracy against held-out images: 0.5: indistinguishable",
    "against_train": "the same against training images: well below 0.5 means copies",
    "sliced_w2": "sliced 2-Wasserstein distance to held-out images, values in [-1, 1]",
    "energy": "energy distance to held-out images",
    "nearest_train": "median distance to the nearest training image, beside that of held-out images",
    "class_share": "share of each class among the samples, by a support vector machine",
    "seconds_per_image": "drawn in batches, on the machine named below",
    "network_calls": "one after another, for an image or a batch of them",
    "tokens_per_second": "one text, token by token",
}


def table_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value and explanation of every figure."""
    found = [(k.replace("_", " "), show(v, 4), "on the held-out part") for k, v in summary["likelihood"].items()]
    for key, value in summary["quality"].items():
        if key == "against_test" or key == "against_train":
            parts = f"{show(value['accuracy'])} (real {show(value['real'])}, generated {show(value['generated'])})"
        elif isinstance(value, dict):
            parts = ", ".join(f"{k} {show(v)}" for k, v in value.items())
        elif isinstance(value, list):
            parts = " ".join(f"{100 * v:.0f}" for v in value) + " %"
        else:
            parts = show(value)
        found.append((key.replace("_", " "), parts, EXPLAINED.get(key, "")))
    return found + [(k.replace("_", " "), show(v), EXPLAINED.get(k, "")) for k, v in summary["speed"].items()]


def show(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits, whole numbers as they are; one that is none is n/a."""
    if value is None:
        return "n/a"
    return f"{value:.{digits}g}" if isinstance(value, float) and value != int(value) else f"{value:g}"
