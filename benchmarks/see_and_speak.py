"""CLIP, SigLIP, BLIP, LLaVA and Flamingo learn on scenes, and are judged on combinations that they have never seen.

    python benchmarks/see_and_speak.py                                  # all, about three hours of one core
    python benchmarks/see_and_speak.py --only clip --minutes 1 --scenes 500 --out /tmp/see --name ""      # to try it

Scenes of ALOHA's, Meta-World's and PushT's tables say what lies where in which colour; 15 % of the combinations of
colour, thing and place are never trained on (`nextmove scenes`). CLIP learns first; BLIP begins with its image tower,
LLaVA and Flamingo with BLIP's, whose patches have learned to be read. The language model of the last two is the real
SmolLM2-135M-Instruct, frozen: LLaVA learns to write captions through it first, then to answer with low-rank adapters on
it, its tower at a tenth of the rate; Flamingo has gated layers between its own. What is done is kept in OUT and not
done again. The table goes to docs/data/NAME.json, from where `scripts/results.py write` takes it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kept_table import keep
from nextmove import store

TASKS = ("aloha/table", "metaworld/table", "pusht/table")
QUESTIONS = "colour count done gripper there what where which"
READS = "--recipe.tower.layer -1 --recipe.trains tower bridge --validate-every 400"
SHOWN = f"{READS} --recipe.projector.shuffle 2 --recipe.optim.scales tower 0.1"
BEGUN = "--from language=smollm2 tower={blip}"
PARTS = ("tower", "reader", "image_project", "text_project", "match", "decoder")
"""Of BLIP, all that it goes on with."""
DISTILLED = "--recipe.contrast.momentum 0.98 --recipe.contrast.queue 512"
PAIRS = "--length 40"


@dataclass(frozen=True)
class Run:
    """A model, its busy minutes of one thread, and how it is trained and judged; {NAME}: a folder of `OTHERS`."""

    system: str
    minutes: float
    options: str
    judged: str = ""
    begins: str = ""
    """What it begins with, for the table."""


RUNS = {
    "clip": Run("clip", 16, PAIRS),
    "clip, batches of 32": Run("clip", 12, f"{PAIRS} --recipe.optim.batch 32"),
    "siglip, batches of 32": Run("siglip", 12, f"{PAIRS} --recipe.optim.batch 32"),
    "blip": Run(
        "blip",
        20,
        f"{PAIRS} --from tower={{clip}} {DISTILLED} --recipe.contrast.ramp 1000",
        begins="clip's tower",
    ),
    "blip, longer": Run(
        "blip",
        20,
        f"{PAIRS} --from {' '.join(f'{part}={{blip}}' for part in PARTS)} {DISTILLED} --recipe.contrast.ramp 100",
        begins="blip",
    ),
    "llava, captions": Run(
        "llava",
        12,
        f"{SHOWN} {BEGUN} --kinds caption --recipe.optim.batch 16",
        "--rows 100",
        "blip's tower, SmolLM2-135M",
    ),
    "llava": Run(
        "llava",
        26,
        f"{SHOWN} --from language=smollm2 tower={{captions}} bridge={{captions}} --recipe.adapters 16 "
        f"--recipe.optim.batch 28 --kinds {QUESTIONS} --together 4",
        "--rows 800",
        "tower and projector of llava, captions; SmolLM2-135M",
    ),
    "flamingo": Run(
        "flamingo",
        12,
        f"{READS} {BEGUN} --recipe.optim.batch 20 --recipe.every 6",
        "--rows 400 --episodes 0",
        "blip's tower, SmolLM2-135M",
    ),
}
OTHERS = {"clip": "clip", "blip": "blip", "captions": "llava, captions"}
"""Runs that others begin with, by what `options` call them."""


def folder(name: str, out: Path) -> Path:
    """Of a run."""
    return out / name.replace(", ", "-").replace(" ", "-")


def made(name: str, args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The report of a run and its facts, trained and judged unless that was done already."""
    run, out = RUNS[name], folder(name, args.out)
    report, nextmove = out / "evaluation" / "report.json", [sys.executable, "-m", "nextmove"]
    if not (out / "model").is_dir():
        others = {short: folder(other, args.out) for short, other in OTHERS.items()}
        options = [option.format(**others) for option in run.options.split()]
        budget = ["--minutes", f"{args.minutes or run.minutes:g}", "--clock", "busy", "--threads", "1"]
        call = [*nextmove, "train", run.system, str(args.data), *options, *budget, "--bf16", "on", "--out", str(out)]
        subprocess.run([*call, "--resume"], check=True)
    if not report.is_file():
        subprocess.run([*nextmove, "evaluate", str(out), *run.judged.split(), "--threads", "1"], check=True)
    return json.loads(report.read_text()), store.read_config(out / "model")["facts"]


def figures(report: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """What is judged, how many were right, the share, and the interval."""
    for name, rate in report.get("rates", {}).items():
        yield name, *counted(rate["successes"], rate["episodes"], rate)
    words = {
        "exact": "answers exact",
        "with_other_images": "with other images",
        "without_looking": "best without looking",
    }
    found = {words[name]: report[name] for name in words if name in report}
    found |= {f"answers to {kind}": rate for kind, rate in report.get("by_kind", {}).items()}
    for name, rate in found.items():
        yield name, *counted(rate["right"], rate["of"], rate)
    if gates := report.get("gates", {}).values():
        yield "gates |tanh| at the end, from 0", f"{min(gates):.4f} to {max(gates):.4f}", "", ""


def counted(right: float, of: int, rate: dict[str, Any]) -> tuple[str, str, str]:
    """Of all, in percent, and the interval where there is one."""
    interval = f"{100 * rate['low']:.0f}–{100 * rate['high']:.0f} %" if "low" in rate else ""
    return f"{right:g}/{of}", f"{100 * right / of:.0f} %", interval


def table(found: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> list[list[Any]]:
    """A row for each figure of each model."""
    return [
        [name, RUNS[name].begins, f"{facts['minutes']:.0f}", facts["steps"], *figure]
        for name, (report, facts) in found.items()
        for figure in figures(report)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--minutes", type=float, default=0, help="of each in place of its own")
    parser.add_argument("--scenes", type=int, default=12_000)
    parser.add_argument("--data", type=Path, help="scenes that were made before; OUT/scenes if not given")
    parser.add_argument("--out", type=Path, default=Path("runs/see-and-speak"))
    parser.add_argument("--name", default="see-and-speak", help="of the table in docs/data; empty keeps none")
    parser.add_argument("--remark", default="", help="what else the table's note says")
    args = parser.parse_args()
    args.data = args.data or args.out / "scenes"
    if not (args.data / "captions.jsonl").is_file():
        call = [sys.executable, "-m", "nextmove", "scenes", str(args.data), "--tasks", *TASKS]
        subprocess.run([*call, "--scenes", str(args.scenes)], check=True)
    found = {name: made(name, args) for name in args.only}
    rows = table(found)
    for row in rows:
        print(*(f"{cell!s:>22}" for cell in row))
    if not args.name:
        return
    only = "" if args.only == list(RUNS) else f" --only {' '.join(repr(n) if ' ' in n else n for n in args.only)}"
    keep(
        args.name,
        title="Models that see and speak, on combinations never trained on",
        command=f"python benchmarks/see_and_speak.py{only} --scenes {args.scenes}",
        note=(
            f"{args.scenes} scenes of {', '.join(TASKS)} at 128 px, of which 15 % of the combinations of colour, thing "
            "and place are held out, and judged on; busy minutes of one thread, bf16, one training seed. The language "
            "model is real (SmolLM2-135M-Instruct, frozen), towers and all that joins them are trained here. An image "
            "finds its text among 64, none of them twice. Captions and answers count where they are equal word for "
            "word. With other images: the same questions, each with another row's image. Best without looking: the "
            "commonest answer to each question. Whether Flamingo reads examples is judged elsewhere (few-shot). "
            f"{args.remark}"
        ).strip(),
        columns=["model", "begins with", "minutes", "steps", "judged", "right", "share", "95 % interval"],
        rows=rows,
    )


if __name__ == "__main__":
    main()
