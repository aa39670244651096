"""Flamingo reads examples: two made-up names in a prompt, for kinds of things that it was never trained on.

    python benchmarks/few_shot.py                                   # three quarters of an hour of one core
    python benchmarks/few_shot.py --minutes 0.2 --scenes 400 --out /tmp/few --name ""        # to try it

The language model is small and learns from text alone: lines in which two made-up names are given to two described
things, half of the time each ("red cube dab. blue ball wug. red cube dab."), then asked for, and as many in which words
and names are said three times in the same order, so that looking back for what stood behind a word pays at every word
(induction heads, Olsson et al. 2022). Frozen, it is what Flamingo's resampler and gated blocks learn to see around: the
image of a thing stands where its description stood. Half of its prompts tell true descriptions in place of names: a
name is found only where both an example and what is asked are seen, a description where one image is. The image tower
learns first, by CLIP, and is frozen too. A fourth of the kinds of things (colour and shape) and a fifth of the names
are never trained on, in no part; all prompts that are judged are of these. Look at the table's first line before the
rest: a language model that does not tell names in words cannot with images. What is done is kept in OUT and not done
again. The table goes to docs/data/NAME.json, from where `scripts/results.py write` takes it.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from kept_table import keep
from nextmove import store
from nextmove.contracts import Context, seeded, uniform
from nextmove.evaluation.answers_report import between, tries
from nextmove.evaluation.intervals import wilson
from nextmove.models.vision_language.shots import Prompt, answered, drawn, kept_names, named
from nextmove.models.vision_language.wording import Turn
from nextmove.sim.scene import COLOURS, PLACES, SHAPES, Thing

EXAMPLES, ASKED, LINES = 4, 8, 12_000
COLOUR_WORDS = (*COLOURS, "grey", "pink", "brown", "silver", "golden", "violet", "pale", "dark")
SHAPE_WORDS = (
    *SHAPES, "box", "cup", "ring", "cone", "disc", "tile", "plug", "key", "nut", "coin", "card", "wheel",
)  # fmt: skip
"""What the text speaks of: more than is ever seen."""
STEPS = {
    "language": (
        "gpt-modern {out}/names.txt --unit bpe --vocabulary 480 --length 60 --recipe.decoder.no-start "
        "--recipe.decoder.trunk.width 64 --recipe.decoder.trunk.layers 2 --recipe.decoder.trunk.heads.n-heads 2 "
        "--recipe.decoder.trunk.heads.n-kv-heads 2 --recipe.optim.batch 48 --recipe.optim.lr 4e-3 "
        "--recipe.optim.warmup 50 --recipe.optim.ema 0.99",
        12.0,
    ),
    "tower": (
        "clip {out}/things --side 64 --length 16 --recipe.optim.batch 96 --recipe.net.image.width 96 "
        "--recipe.net.image.layers 2 --recipe.net.image.stem 12 24 48 96 --recipe.net.image.pool mean "
        "--recipe.net.image.no-class-token --recipe.net.text.width 64 --recipe.net.text.layers 1 "
        "--recipe.optim.warmup 30 --recipe.optim.ema 0.99",
        4.0,
    ),
    "flamingo": (
        "flamingo {out}/things --from language={out}/language tower={out}/tower --kinds thing --recipe.trains bridge "
        "--recipe.wording.question '' --recipe.wording.end . --recipe.shots.renamed 0.5 "
        "--recipe.shots.asked 4 --recipe.optim.batch 160 --recipe.optim.lr 2e-3 --recipe.optim.warmup 30 "
        "--recipe.optim.ema 0.99 --recipe.resampler.latents 8 --recipe.resampler.layers 1",
        20.0,
    ),
}
"""System and options of each training, and its busy minutes of one thread."""


def held(colour: str, shape: str) -> bool:
    """Whether a kind of thing is never trained on; of words that no scene has, none is."""
    return colour in COLOURS and shape in SHAPES and Thing(colour, shape, PLACES[0]).kind_held_out


def prompts(tested: bool, count: int, seed: int) -> Iterator[str]:
    """Lines of two described things and their names, of kinds and names that are trained on or of those held out."""
    kinds = [f"{c} {s}" for c, s in product(COLOUR_WORDS, SHAPE_WORDS) if held(c, s) == tested]
    asked = 1 if tested else ASKED
    turns = [Turn("", kind) for kind in kinds] * (EXAMPLES // 2 + asked)
    groups, names = answered(turns, EXAMPLES, asked), kept_names(tested)
    for draws in uniform((count, drawn(EXAMPLES, asked)), seeded(seed, 11)).tolist():
        yield told(turns, named(turns, groups, EXAMPLES, asked, names, draws))


def repeats(count: int, seed: int) -> Iterator[str]:
    """Lines of four to six words, each with a name that is trained on, said three times in the same order."""
    words, names = (*COLOUR_WORDS, *SHAPE_WORDS), kept_names(False)
    for draws in uniform((count, 1 + len(words) + len(names)), seeded(seed, 12)):
        n = 4 + int(3 * draws[0])
        some, called = draws[1 : 1 + len(words)].argsort()[:n].tolist(), draws[1 + len(words) :].argsort()[:n].tolist()
        yield 3 * "".join(f" {words[i]} {names[j]}." for i, j in zip(some, called, strict=True))


def told(turns: Sequence[Turn], prompt: Prompt) -> str:
    """A prompt in words: each thing is described and then named."""
    return "".join(f" {turns[i].answer} {turn.answer}." for i, turn in zip(prompt.rows, prompt.turns, strict=True))


@torch.no_grad()
def read(model: Path, count: int) -> list[bool]:
    """Whether the language model finds the right name of held-out prompts likelier than the other, in words alone."""
    language: Any = store.load(model)
    right = []
    for line in prompts(True, count, 1):
        *_, last = words = line.split(" ")
        other = next(word for word in words[3:-3:3] if word != last)
        scores = [_score(language, " ".join([*words[:-1], name])) for name in (last, other)]
        right.append(scores[0] > scores[1])
    return right


def _score(language: Any, text: str) -> float:
    """Log-likelihood of a text."""
    return float(language.tokens.log_prob(Context.empty(1), language.text.encode(text)[None]).sum())


def made(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The report on Flamingo and the facts of each training, made unless that was done already."""
    out, nextmove = args.out, [sys.executable, "-m", "nextmove"]
    if not (out / "things" / "captions.jsonl").is_file():
        call = [*nextmove, "scenes", str(out / "things"), "--tasks", "aloha/thing", "--size", "64"]
        subprocess.run([*call, "--scenes", str(args.scenes), "--held-out", "0.2", "--workers", "1"], check=True)
    if not (out / "names.txt").is_file():
        pairs = zip(prompts(False, LINES, 0), repeats(LINES, 0), strict=True)
        (out / "names.txt").write_text("".join(f"{line}\n" for pair in pairs for line in pair), encoding="utf-8")
    facts = {}
    for name, (options, minutes) in STEPS.items():
        if not (out / name / "model").is_dir():
            budget = ["--minutes", f"{args.minutes or minutes:g}", "--clock", "busy", "--threads", "1"]
            call = [*nextmove, "train", *shlex.split(options.format(out=out)), *budget, "--out", str(out / name)]
            subprocess.run([*call, "--resume"], check=True)
        facts[name] = store.read_config(out / name / "model")["facts"]
    report = out / "flamingo" / "evaluation" / "report.json"
    if not report.is_file():
        judged = f"--rows 2000 --episodes {args.prompts} --shots {EXAMPLES} --length 8 --threads 1".split()
        subprocess.run([*nextmove, "evaluate", str(out / "flamingo"), *judged], check=True)
    return json.loads(report.read_text()), facts


def table(report: dict[str, Any], language: Sequence[bool]) -> list[list[str]]:
    """What is judged, how many were right, the share with its interval, and by how much examples are ahead of it."""
    heard = wilson(sum(language), len(language))
    found = [
        _row("the language model alone, things described in words", len(language), sum(language), heard.low, heard.high)
    ]
    for name, rate in tries(report):
        row = _row(name, rate["of"], rate["right"], rate.get("low"), rate.get("high"))
        found.append([*row[:-1], between(rate["gain"]) if "gain" in rate else ""])
    gates = report["gates"].values()
    return [
        *found,
        ["gates, mean and greatest |tanh|, from 0", f"{sum(gates) / len(gates):.3f}, {max(gates):.3f}", "", "", ""],
    ]


def _row(name: str, of: int, right: float, low: float | None, high: float | None) -> list[str]:
    interval = "" if low is None or high is None else f"{100 * low:.0f}–{100 * high:.0f} %"
    return [name, f"{right:g}/{of}", f"{100 * right / of:.0f} %", interval, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=0, help="of each training in place of its own")
    parser.add_argument("--scenes", type=int, default=5000)
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("runs/few-shot"))
    parser.add_argument("--name", default="few-shot", help="of the table in docs/data; empty keeps none")
    parser.add_argument("--remark", default="", help="what else the table's note says")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    report, facts = made(args)
    rows = table(report, read(args.out / "language" / "model", args.prompts))
    for row in rows:
        print(*(f"{cell:>24}" for cell in row))
    if args.name:
        _keep(args, rows, facts)


def _keep(args: argparse.Namespace, rows: list[list[str]], facts: dict[str, dict[str, Any]]) -> None:
    spent = ", ".join(f"{name} {own['steps']} steps in {own['minutes']:.1f}" for name, own in facts.items())
    keep(
        args.name,
        title="Flamingo reads its examples: made-up names for kinds of things never trained on",
        command=f"python benchmarks/few_shot.py --scenes {args.scenes}",
        note=(
            "Two names stand in a prompt, each in half of its four examples, in random order, and either is as likely "
            "to be asked for, so that copying is right half of the time. Without their images (a fair 0-shot) or with "
            "half of either name's images exchanged for the other's, the examples offer the names and explain neither. "
            "An answer counts where it is equal letter for letter. Gains are paired by prompt, in points, with 95 % "
            f"intervals. Kinds (12 of 48 of colour x shape) and names (154 of 770) of the judged prompts stand in no "
            "training: not the tower's, nor the language model's text, nor Flamingo's; beginnings and endings of the "
            "names do. Half of Flamingo's prompts tell true descriptions in place of names; a training with names "
            "alone, at half the rate, left the gates near 0, and was ended. One training seed, seed 0, "
            f"images of 64 px; busy minutes of one thread: {spent}. {args.remark}"
        ).strip(),
        columns=["judged", "right", "share", "95 % interval", "4 examples are ahead by"],
        rows=rows,
    )


if __name__ == "__main__":
    main()
