"""Judges a saved model of images and texts on held-out rows: what it finds, matches and says.

Shapes: R rows, T different texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextmove.config import ConfigError
from nextmove.data import DataError
from nextmove.data.pairs import Pairs
from nextmove.evaluation.intervals import Rate, wilson
from nextmove.evaluation.pairing import groups, heated, recalled, wrong_partner
from nextmove.evaluation.pairs_page import PairsResult, Shown, write_pairs
from nextmove.evaluation.progress import counted_bar
from nextmove.host.lock import hold
from nextmove.jobs import provenance
from nextmove.jobs.repeat import Call, at_least, repeatable, writable_dir
from nextmove.jobs.sighted import Sighted, in_batches, load_sighted
from nextmove.jobs.tasks.pairs import captions

SHOWN, BESIDE = 6, 6
"""Queries on the page, and images shown for each."""


@dataclass
class Judged:
    """Rates, what each says, and rows of pictures, as they are found."""

    rates: dict[str, Rate] = field(default_factory=dict)
    explained: dict[str, str] = field(default_factory=dict)
    grids: dict[str, list[tuple[str, list[Shown]]]] = field(default_factory=dict)

    def add(self, name: str, right: Any, says: str) -> None:
        """A share of rows that are right (R,), with its interval."""
        self.rates[name], self.explained[name] = wilson(int(np.sum(right)), len(right)), says


@repeatable
def judge_pairs(
    call: Call,
    model: str | Path,
    *,
    data: str | Path | None = None,
    ways: int = 64,
    rows: int = 512,
    beams: int = 3,
    seed: int = 0,
    threads: int = 2,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Judges a model of images and texts on the held-out rows of what it was trained on.

    Where it compares, how often an image finds its text among others and a text its image; where it judges pairs, how
    often it is right; where it writes, how many captions are word for word right. Each with its interval (Wilson).
    Writes report.html and report.json into OUT and returns report.json's content.

    Args:
        model: A run's folder, a saved clip, siglip or blip, or a folder of transformers with one.
        data: Folder of images with a captions file to judge on; default what it was trained on.
        ways: Images and texts that are compared with each other at a time, no image and no text twice.
        rows: Most rows that are judged.
        beams: Of captions.
        seed: Decides which rows stand beside which.
        threads: Threads of the arithmetic.
        out: Folder of the report; default MODEL/evaluation.

    Raises:
        FileNotFoundError: for a folder without a model.
        ConfigError, DataError: for a model or source that does not fit.
        InUseError: where another run writes into OUT.
    """
    at_least(1, rows=rows, beams=beams, threads=threads)
    at_least(2, ways=ways)
    at_least(0, seed=seed)
    torch.set_num_threads(threads)
    sighted = load_sighted(model)
    if not sighted.can("caption"):
        sighted.able("compares images and texts or writes captions", "embed_images")
    trained = sighted.model.facts.get("data")
    if data is None and trained is None:
        raise ConfigError(f"data: {model} does not say what it was trained on; expected --data, found none")
    out = writable_dir(Path(out) if out else Path(model) / "evaluation")
    with hold(out):
        held, choice = held_out(sighted, data or trained, rows, seed)
        found = Judged()
        if sighted.can("embed_images"):
            compare(found, sighted, held, ways, seed)
        if sighted.can("matches"):
            match(found, sighted, held, seed)
        if sighted.can("caption"):
            write(found, sighted, held, beams)
        look(found, sighted, held)
        facts = {**provenance.facts(sighted.model), "parameters": sum(p.numel() for p in sighted.model.parameters())}
        on = {"sentence": choice.sentence, "caution": choice.caution, "rows": len(held)}
        result = PairsResult(Path(model).name, facts, found.rates, found.explained, found.grids, on)
        written = write_pairs(result, out, commands=[call.command("ways rows seed", name="evaluate")])
    print(f"judged on {choice.sentence}. {choice.caution}".strip())
    for name, rate in found.rates.items():
        print(f"{name}: {rate}; {found.explained[name]}")
    print(f"open {out / 'report.html'}")
    return written


def held_out(sighted: Sighted, source: str | Path, most: int, seed: int) -> tuple[Pairs, provenance.Choice]:
    """Captions that the model was not trained on, at most so many, drawn by `seed`; raises DataError for none."""
    size = (sighted.model.spec.height, sighted.model.spec.width)
    pairs = Pairs.read(source, size=size, fit=sighted.fit, bar=counted_bar("images decoded"))  # type: ignore[arg-type]
    test = captions(pairs.split()[1])
    if not len(test):
        raise DataError(f"{source}: expected held-out captions to judge on, found none")
    choice = provenance.choose_among(sighted.model, test.ids, "image")
    known = np.flatnonzero(np.isin(test.ids, choice.episodes))
    order = np.random.Generator(np.random.PCG64(seed)).permutation(known)
    return test.take(np.sort(order[:most])), choice


@torch.no_grad()
def compare(found: Judged, sighted: Sighted, held: Pairs, ways: int, seed: int) -> None:
    """Recall at one in groups, both ways, and the best images of some texts."""
    texts, model = [row.text for row in held.rows], sighted.model
    image = torch.cat([model.embed_images(part) for part in in_batches(pixels(held))])
    text = torch.cat([model.embed_texts(list(part)) for part in in_batches(texts)])
    parts = groups(texts, held.index[:, 0].tolist(), ways, seed)
    hits = [recalled(model.compare(image[rows], text[rows]).cpu().numpy()) for rows in parts]
    among = f"of {len(parts[0])} images and texts, none twice"
    found.add("image finds its text", np.concatenate([hit[0] for hit in hits]), f"the best text for an image, {among}")
    found.add("text finds its image", np.concatenate([hit[1] for hit in hits]), f"the best image for a text, {among}")
    rows = parts[0]
    scores = model.compare(image[rows], text[rows]).cpu().numpy()
    shown = pixels(held)[rows]
    queries = _mixed(hits[0][1])
    found.grids["Texts and the images that they find"] = [
        (
            texts[rows[query]],
            [
                Shown(shown[i].numpy(), f"{scores[i, query]:.2f} · {texts[rows[i]]}", bool(i == query))
                for i in np.argsort(-scores[:, query])[:BESIDE]
            ],
        )
        for query in queries
    ]


def match(found: Judged, sighted: Sighted, held: Pairs, seed: int) -> None:
    """Whether right pairs are told from wrong ones, half of each."""
    texts = [row.text for row in held.rows]
    other = wrong_partner(texts, seed)
    shown = pixels(held)
    right = _matches(sighted, shown, texts) > 0.5
    wrong = _matches(sighted, shown, [texts[i] for i in other]) <= 0.5
    both = np.concatenate([right.numpy(), wrong.numpy()[other != np.arange(len(texts))]])
    found.add("pairs told apart", both, "right pairs called right and wrong ones wrong, half of each")


def write(found: Judged, sighted: Sighted, held: Pairs, beams: int) -> None:
    """Whether captions are one of the image's own, word for word."""
    own: dict[int, set[str]] = {}
    for place, row in zip(held.index[:, 0].tolist(), held.rows, strict=True):
        own.setdefault(place, set()).add(row.text)
    places = list(own)
    shown = torch.from_numpy(held.store.frames(np.array(places)))
    made = [text for part in in_batches(shown) for text in sighted.model.caption(part, beams=beams)]
    right = np.array([text in own[place] for text, place in zip(made, places, strict=True)])
    found.add("captions exact", right, "word for word one of the image's own captions")
    rows = {"right": np.flatnonzero(right)[: SHOWN * 2], "wrong": np.flatnonzero(~right)[: SHOWN * 2]}
    found.grids["Captions"] = [
        (
            f"{name}: {len(np.flatnonzero(right == (name == 'right')))} of {len(right)}",
            [Shown(shown[i].numpy(), _beside(made[i], own[places[i]]), name == "right") for i in chosen],
        )
        for name, chosen in rows.items()
        if len(chosen)
    ]


def look(found: Judged, sighted: Sighted, held: Pairs) -> None:
    """Which patches some images' vectors come from, or texts look at."""
    some = held.take(np.linspace(0, len(held) - 1, min(len(held), 2 * SHOWN)).astype(np.int64))
    shown, texts = pixels(some), [row.text for row in some.rows]
    weights = sighted.model.attention(shown, texts).cpu().numpy()
    found.grids["Where it looks"] = [
        (
            "bright: patches that the last layer attends to",
            [Shown(heated(x.numpy(), w), text) for x, w, text in zip(shown, weights, texts, strict=True)],
        )
    ]


def pixels(pairs: Pairs) -> Tensor:
    """The first image of each row, (R, height, width, 3) uint8."""
    return torch.from_numpy(pairs.store.frames(pairs.index[:, 0]))


def _matches(sighted: Sighted, shown: Tensor, texts: Sequence[str]) -> Tensor:
    parts = zip(in_batches(shown), in_batches(texts), strict=True)
    return torch.cat([sighted.model.matches(image, list(said)).cpu() for image, said in parts])


def _mixed(right: Any) -> list[int]:
    """Numbers of rows of which half are wrong, as far as there are wrong ones."""
    wrong, good = np.flatnonzero(~right).tolist(), np.flatnonzero(right).tolist()
    bad = wrong[: SHOWN // 2]
    return [*good[: SHOWN - len(bad)], *bad]


def _beside(made: str, own: set[str]) -> str:
    return made if made in own else f"{made} (it is: {min(own)})"
