"""One-step policies on point clouds, Meta-World task after task: ten demonstrations, a training, held-out seeds.

    python benchmarks/metaworld_points.py --minutes 30                       # FlowPolicy on all twelve tasks
    python benchmarks/metaworld_points.py --system mp1 --minutes 30 --name metaworld-mp1
    python benchmarks/metaworld_points.py --minutes 3 --tasks drawer-open --out /tmp/one --name ""   # to try it
    python benchmarks/metaworld_points.py --steps 2500 --seed-of-episodes 200000 --episodes 100 --blind \\
        --name metaworld-points-steps                                        # one budget for all, on other seeds

Three tasks of each of Meta-World's four difficulties. What is done is kept in OUT and not done again: a recording and
a training go on where they were stopped, a judged task has OUT/TASK.json. The table goes to docs/data/NAME.json, from
where `scripts/results.py write` takes it, means by difficulty beside those published (of other tasks of the same
difficulty: 21 easy ones, 4 medium, 4 hard, 5 very hard). Busy minutes: other programs do not shorten a training.

A second table, OUT/latency.json and docs/data/NAME-latency.json, has the milliseconds of a plan by the one-step rule
and by ten steps of DDIM, around the same networks, in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kept_table import keep
from nextmove import data as sets
from nextmove import jobs, store
from nextmove.contracts import seeded
from nextmove.decoders import Diffusion
from nextmove.evaluation.intervals import wilson
from nextmove.host.files import write_json
from nextmove.jobs.fit import train_or_resume
from nextmove.jobs.simulated import HELD_OUT, judge
from nextmove.jobs.tasks.policy import spec_of, windows
from nextmove.models.model import with_sampling
from nextmove.models.policy import ActionSpace, Policy
from nextmove.systems import find
from turns import turns

TASKS = {
    "easy": ("button-press", "drawer-open", "dial-turn"),
    "medium": ("coffee-pull", "hammer", "sweep"),
    "hard": ("assembly", "hand-insert", "pick-place"),
    "very-hard": ("shelf-place", "disassemble", "stick-push"),
}
PUBLISHED = {"easy": 84.8, "medium": 58.2, "hard": 40.2, "very-hard": 52.2}
"""FlowPolicy's mean success, per cent (as MP1's Table 1 quotes it)."""
POINTS, DEMONSTRATIONS = 512, 10
COLUMNS = [
    "task", "difficulty", "solved", "%", "95 % interval", "FlowPolicy published, %", "still at the end", "steps",
    "minutes",
]  # fmt: skip
BLIND = " blind: points anywhere in the room in place of those seen."


@dataclass(frozen=True)
class Judged:
    """A task's outcome."""

    task: str
    difficulty: str
    solved: int
    """At any step."""
    at_end: int
    """Still at the last step."""
    episodes: int
    steps: int
    minutes: float
    blind: int | None = None
    """Solved with noise in place of the points, where that was judged."""

    @property
    def rate(self) -> float:
        return 100 * self.solved / self.episodes


def judged(task: str, difficulty: str, args: argparse.Namespace) -> Judged:
    """Records, trains and judges a task, each unless that was done already."""
    kept, run = args.out / f"{task}.json", args.out / "train" / task
    found = Judged(**json.loads(kept.read_text())) if kept.is_file() else None
    if found is None:
        print(f"metaworld/{task} ({difficulty})", flush=True)
        found = learned(task, difficulty, run, args)
        write_json(kept, vars(found))
    if args.blind and found.blind is None:
        print(f"metaworld/{task}, blind", flush=True)
        seeds = range(args.seed_of_episodes, args.seed_of_episodes + args.episodes)
        make = partial(jobs.load_policy, run, blind=True)
        entry = judge(make, name=f"{task}-blind", simulator=f"metaworld/{task}", seeds=seeds, workers=args.workers)
        found = replace(found, blind=sum(result.success for result in entry.results))
        write_json(kept, vars(found))
    return found


def learned(task: str, difficulty: str, run: Path, args: argparse.Namespace) -> Judged:
    """Records and trains, each unless that was done already, and judges."""
    demos, recipe = args.demos / task, recipe_of(args)
    if not (demos / "meta" / "info.json").is_file():
        jobs.record(
            f"metaworld/{task}", out=demos, episodes=DEMONSTRATIONS, points=POINTS, noise=args.noise,
            workers=args.workers,
        )  # fmt: skip
    budget = {"steps": args.steps} if args.steps else {"minutes": args.minutes}
    options = {**budget, "clock": "busy", "threads": args.threads, "seed": args.seed, "holdout": 0.0}
    train_or_resume(run, partial(jobs.train, args.system, demos, recipe=recipe, **options))
    report = jobs.evaluate(
        run, task=f"metaworld/{task}", episodes=args.episodes, seed=args.seed_of_episodes, workers=args.workers,
        video=0, out=run / "evaluation",
    )  # fmt: skip
    policy = report["policies"][run.name]
    rate, steps = policy["success"], policy["facts"]["steps"]
    still = (policy["success_at_end"] or rate)["successes"]
    return Judged(task, difficulty, rate["successes"], still, rate["episodes"], steps, policy["train_minutes"])


def recipe_of(args: argparse.Namespace) -> Any:
    """The system's recipe in the size asked for."""
    kind = find(args.system).load()
    return kind.published() if args.size == "published" else kind()


def table(found: list[Judged], blind: bool = False) -> list[list[Any]]:
    """A row for each task, and one for each difficulty that was judged; with `blind` what was solved so stands last."""
    rows: list[list[Any]] = []
    for difficulty, published in PUBLISHED.items():
        own = [one for one in found if one.difficulty == difficulty]
        for one in own:
            sure = wilson(one.solved, one.episodes)
            interval = f"{100 * sure.low:.0f} to {100 * sure.high:.0f}"
            solved = f"{one.solved}/{one.episodes}"
            still = f"{one.at_end}/{one.episodes}"
            row = [one.task, difficulty, solved, f"{one.rate:.0f}", interval, "", still, one.steps, one.minutes]
            rows.append([*row, *([f"{one.blind}/{one.episodes}"] if blind else [])])
        if own:
            mean = statistics.mean(one.rate for one in own)
            solved, tried = sum(one.solved for one in own), sum(one.episodes for one in own)
            still = f"{sum(one.at_end for one in own)}/{tried}"
            means = [f"mean of {len(own)}", difficulty, f"{solved}/{tried}", f"{mean:.1f}", "", f"{published}"]
            unseen = [f"{sum(one.blind or 0 for one in own)}/{tried}"] if blind else []
            rows.append([*means, still, "", "", *unseen])
    return rows


def planners(args: argparse.Namespace, data: Path) -> dict[str, Policy]:
    """The one-step policy and ten steps of DDIM around the same networks, with statistics and without training."""
    dataset, recipe = sets.open_dataset(data), recipe_of(args)
    # Noise predictions of a network that learnt nothing may be clipped: the time is the same.
    other = replace(recipe, decoder=Diffusion(trunk=recipe.decoder.trunk), actions=ActionSpace("min_max"))
    found = {}
    for name, made in (("one step", recipe), ("ten steps of DDIM", other)):
        policy: Policy = store.create(args.system, spec_of(dataset), made)
        policy.fit([windows(dataset, policy, None).batch(range(0, len(dataset), 8))])
        found[name] = policy.eval()
    with_sampling(found["ten steps of DDIM"], "ddim", 10)
    return found


def latencies(args: argparse.Namespace, data: Path) -> list[list[Any]]:
    """Milliseconds of a plan, medians of rounds in which the sides took turns."""
    sides = planners(args, data)
    obs = windows(sets.open_dataset(data), sides["one step"], None).batch([40])
    obs = {name: value for name, value in obs.items() if name.startswith("observation.")}
    torch.set_num_threads(args.threads)

    def plans(policy: Policy) -> float:
        begun = time.perf_counter()
        for i in range(args.calls):
            policy.act(obs, rng=seeded(i))
        return 1000 * (time.perf_counter() - begun) / args.calls

    found = turns({name: partial(plans, policy) for name, policy in sides.items()}, args.rounds)
    medians = {name: statistics.median(values) for name, values in found.items()}
    slow = medians["ten steps of DDIM"]
    return [[name, f"{ms:.2f}", f"{ms / slow:.2f}"] for name, ms in medians.items()]


def command(args: argparse.Namespace) -> str:
    """What makes the tables again."""
    budget = f"--steps {args.steps}" if args.steps else f"--minutes {args.minutes:g}"
    seeds = "" if args.seed_of_episodes == HELD_OUT else f" --seed-of-episodes {args.seed_of_episodes}"
    fewer = f" --tasks {' '.join(args.tasks)}" if len(args.tasks) < sum(map(len, TASKS.values())) else ""
    return (
        f"python benchmarks/metaworld_points.py --system {args.system} {budget} --episodes {args.episodes}{seeds} "
        f"--threads {args.threads}{' --blind' if args.blind else ''}{fewer}"
        f"{' --size published' if args.size == 'published' else ''}{' --latency-only' if args.latency_only else ''}"
    )


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", default="flow-policy-3d", choices=("flow-policy-3d", "mp1", "ofp"))
    parser.add_argument("--size", default="own", choices=("own", "published"))
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--steps", type=int, default=0, help="the budget in steps instead")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed-of-episodes", type=int, default=HELD_OUT, help="the first")
    parser.add_argument("--blind", action="store_true", help="judge once more with noise in place of the points")
    parser.add_argument("--noise", type=float, help="on the demonstrations' actions; the task's own if not given")
    every = [task for tasks in TASKS.values() for task in tasks]
    parser.add_argument("--tasks", nargs="*", default=every, choices=every)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calls", type=int, default=50, help="plans of a round of the latency table")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--demos", type=Path, default=Path("runs/metaworld-points/demos"))
    parser.add_argument("--out", type=Path, help="runs/metaworld-points/SYSTEM if not given")
    parser.add_argument("--name", default="metaworld-points", help="of the tables in docs/data; empty keeps none")
    parser.add_argument("--remark", default="", help="a sentence for the note, such as why one task was trained longer")
    parser.add_argument("--latency-only", action="store_true", help="of what is recorded already")
    args = parser.parse_args()
    args.out = args.out or Path("runs/metaworld-points") / args.system
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def main() -> None:
    args = options()
    chosen = [(task, level) for level, tasks in TASKS.items() for task in tasks if task in args.tasks]
    if not args.latency_only:
        rows = table([judged(task, level, args) for task, level in chosen], args.blind)
        for row in rows:
            print(*(f"{cell!s:>14}" for cell in row))
        if args.name:
            title = f"{args.system} on Meta-World's point clouds, {DEMONSTRATIONS} demonstrations a task"
            title += f", {args.steps} steps each" if args.steps else ""
            note = (
                f"{POINTS} points from one depth camera and the hand's own state; {args.episodes} held-out seeds "
                f"a task, success at any step, one training seed, busy minutes of {args.threads} threads. {args.remark}"
                "Published means: of 21 easy, 4 medium, 4 hard and 5 very hard tasks, three training seeds, the best "
                "five evaluations of 3000 epochs (FlowPolicy, as MP1's Table 1 quotes it)."
            ) + (BLIND if args.blind else "")
            columns = [*COLUMNS, *(["solved blind"] if args.blind else [])]
            played = [f"metaworld/{task}" for task, _ in chosen]
            keep(args.name, title=title, command=command(args), note=note, columns=columns, rows=rows, simulated=played)
    rows = latencies(args, args.demos / chosen[0][0])
    write_json(args.out / "latency.json", rows)
    for row in rows:
        print(*(f"{cell!s:>18}" for cell in row))
    if args.name:
        title = f"Milliseconds of a plan of {args.system} in one step and in ten steps of DDIM"
        title += " at its published size" if args.size == "published" else ""
        note = f"The same networks of {args.size} size, untrained; {args.threads} threads, batch 1, medians of rounds."
        columns = ["plans by", "ms", "of ten steps"]
        keep(f"{args.name}-latency", title=title, command=command(args), note=note, columns=columns, rows=rows)


if __name__ == "__main__":
    main()
