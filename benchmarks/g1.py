"""State policies on demonstrations of a real robot, judged offline beside doing nothing; what is done is kept.

    python benchmarks/g1.py FOLDER                          # 10 busy minutes each, one after the other
    python benchmarks/g1.py FOLDER --minutes 0.33 --lines bc act --out /tmp/g1 --keep ""   # to try it

FOLDER is a LeRobot data set of the Unitree G1 (github.com/YifanTian07/G1-policy-train, commit d1d3bb45; its tables
suffice, no camera is read). All lines are trained on the same episodes and judged on the same windows of held-out
ones. First each policy in absolute actions; then the two that miss least at the sixteenth step in the
settings of VARIANTS. OUT/report.html shows all beside each other; the table goes to docs/data/NAME.json, from where
`scripts/results.py write` takes it.

What a demonstrator commands is not what the joints do: the command leads, and lies beside them where a hand grips. The
state alone doesn't tell it, so two variants also see the last command, as a feature of the data (OUT/data).
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nextmove import data as sets
from nextmove import evaluation, jobs
from nextmove.evaluation.baselines import REPEAT
from nextmove.evaluation.beside import POLICY, Beside, verdict
from nextmove.evaluation.machine import machine, versions
from nextmove.jobs.fit import train_or_resume
from nextmove.jobs.offline import offline
from nextmove.systems import find

POLICIES = ("bc", "bc-16", "lstm-gmm", "act", "diffusion-policy", "flow-policy")
LAST = "observation.last_action"
VARIANTS: dict[str, dict[str, Any]] = {
    "absolute": {"space": "absolute"},
    "relative to the state": {"space": "relative"},
    "absolute, last action seen": {"space": "absolute"},
    "relative to the last action": {"space": "relative", "reference": LAST},
}
WINDOWS = 1024
HOLDOUT = 0.1
STEPS = (1, 5, 10, 16)
BEYOND = 5
"""Steps of the horizon at which whoever repeats the last action is hard to beat, and needs not be."""
COLUMNS = [
    "plans of", "actions", "error / spread", *(f"at step {step}" for step in STEPS),
    f"steps beyond {BEYOND} better than repeating", "verdict", "optimiser steps", "minutes",
]  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A policy in one setting."""

    policy: str
    variant: str

    @property
    def name(self) -> str:
        """Also of its folder."""
        return f"{self.policy}-{self.variant.replace(', ', '-').replace(' ', '-')}"

    @property
    def system(self) -> str:
        """Without what is set here."""
        return self.policy.removesuffix("-16")

    @property
    def sees_last(self) -> bool:
        """Whether the last action is among its observations."""
        return "last" in self.variant

    def recipe(self) -> Any:
        """The system's own, with the line's settings."""
        recipe = find(self.system).load()()
        if self.policy.endswith("-16"):
            recipe = replace(recipe, timing=replace(recipe.timing, horizon=16, n_action_steps=8))
        return replace(recipe, actions=replace(recipe.actions, **VARIANTS[self.variant]))


def judged(line: Line, data: Path, args: argparse.Namespace) -> evaluation.Entry:
    """A line's entry, trained and judged unless that was done already."""
    run, path = args.out / "train" / line.name, args.out / "judged" / f"{line.name}.json"
    if path.is_file():
        return evaluation.read_entry(path)
    print(line.name, flush=True)
    data = with_last_action(data, args.out / "data") if line.sees_last else data
    options = {"minutes": args.minutes, "clock": "busy", "threads": args.threads, "seed": args.seed}
    train_or_resume(run, partial(jobs.train, line.system, data, recipe=line.recipe(), holdout=HOLDOUT, **options))
    policy = jobs.load_policy(run)
    found, _, choice = offline(policy, data, windows=WINDOWS)
    print(choice.sentence, choice.caution)
    facts = {**policy.facts, "policy": line.policy, "variant": line.variant, "machine": machine()}
    facts["parameters"] = sum(p.numel() for p in policy.parameters())
    entry = evaluation.Entry(line.name, offline=found, facts=facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(evaluation.entry_json(entry)))
    scratch.replace(path)
    return entry


def with_last_action(data: Path, out: Path) -> Path:
    """The same episodes, of states and actions alone, with the action of the step before as an observed feature.

    At an episode's first step, where there is none, the state stands for it.
    """
    if (out / "meta" / "info.json").is_file():
        return out
    shutil.rmtree(out, ignore_errors=True)  # of a writer that was stopped
    given = sets.open_dataset(data)
    names = ("observation.state", "action")
    features = {n: {k: given.features[n][k] for k in ("dtype", "shape", "names")} for n in names}
    writer = sets.DatasetWriter(out, {LAST: features["action"], **features}, round(given.fps))
    columns = given.columns([*names, "task_index"])
    for start, stop in zip(given.episode_from, given.episode_to, strict=True):
        own = {name: columns[name][start:stop] for name in names}
        last = np.concatenate([own["observation.state"][:1], own["action"][:-1]])
        writer.add_episode({LAST: last, **own}, given.tasks[int(columns["task_index"][start])])
    writer.finalize()
    return out


def best(entries: dict[Line, evaluation.Entry], count: int) -> list[str]:
    """The policies that miss least at the last of STEPS, of those that plan that far (or nearly)."""
    far = {}
    for line, entry in entries.items():
        errors = beside(entry).step_errors()
        if len(errors) >= STEPS[-1] - 1:
            far[line.policy] = float(errors[min(STEPS[-1], len(errors)) - 1])
    return sorted(far, key=lambda policy: far[policy])[:count]


def beside(entry: evaluation.Entry) -> Beside:
    """What every entry here has."""
    assert entry.offline is not None
    assert entry.offline.beside is not None
    return entry.offline.beside


def row(entry: evaluation.Entry) -> list[Any]:
    """A line of the table."""
    found, facts = beside(entry), entry.facts
    wins = (found.step_errors() < found.step_errors(REPEAT))[BEYOND:]
    return [
        facts["policy"], facts["variant"], *figures(found, POLICY),
        f"{np.sum(wins)} of {len(wins)}" if len(wins) else "plans no further",
        verdict(found).split(":")[0], facts["steps"], facts["minutes"],
    ]  # fmt: skip


def figures(found: Beside, who: str) -> list[str]:
    """Mean error over the spread and that at STEPS."""
    errors = found.step_errors(who)
    at = [f"{errors[step - 1]:.4f}" if step <= len(errors) else "" for step in STEPS]
    return [f"{found.mean(who):.4f}", *at]


def keep(entries: list[evaluation.Entry], args: argparse.Namespace) -> None:
    """Writes the table for `scripts/results.py`."""
    far = max((beside(entry) for entry in entries), key=lambda found: found.count.shape[1])
    rows = [[name, "", *figures(far, name), "", "", "", ""] for name in far.baselines]
    rows += [row(entry) for entry in sorted(entries, key=lambda entry: beside(entry).mean())]
    content = {
        "title": "A real robot's demonstrations beside doing nothing",
        "command": f"python benchmarks/g1.py FOLDER --minutes {args.minutes:g}",
        "note": (
            "Unitree G1 with Inspire hands, 26 joints at 30 Hz (github.com/YifanTian07/G1-policy-train, commit "
            f"d1d3bb45): state policies, {WINDOWS} windows evenly out of {len(far.episodes)} held-out episodes. Errors "
            "are mean absolute differences from the demonstrated action over the spread of each joint's actions; step "
            "1 is due now. Busy minutes. Nobody drove the robot with these policies: a low error doesn't make one "
            "succeed, and one that sees its last action may learn to copy it (de Haan et al. 2019)."
        ),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "versions": versions(),
        "columns": COLUMNS,
        "rows": rows,
    }
    path = Path(__file__).parent.parent / "docs" / "data" / f"{args.keep}.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lines", nargs="*", default=POLICIES, choices=POLICIES)
    parser.add_argument("--best", type=int, default=2, help="policies that are trained in the other settings too")
    others = list(VARIANTS)[1:]
    parser.add_argument(
        "--variants", nargs="*", default=others, choices=others, help="settings of these, beside absolute"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/g1"))
    parser.add_argument("--keep", default="g1", help="name of the table in docs/data; empty keeps none")
    args = parser.parse_args()
    entries = {line: judged(line, args.data, args) for line in (Line(policy, "absolute") for policy in args.lines)}
    further = [Line(policy, variant) for policy in best(entries, args.best) for variant in args.variants]
    entries |= {line: judged(line, args.data, args) for line in further}
    found = list(entries.values())
    written = evaluation.write_report(
        found, args.out, title="A real robot's demonstrations beside doing nothing", unit="rad",
        task=f"State policies, trained {args.minutes:g} minutes each and judged on the same held-out episodes.",
        commands=[f"python benchmarks/g1.py FOLDER --minutes {args.minutes:g}"],
    )  # fmt: skip
    print(f"{written['verdict']} Open {args.out / 'report.html'}")
    if args.keep:
        keep(found, args)


if __name__ == "__main__":
    main()
