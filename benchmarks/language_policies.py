"""One language-conditioned policy on ten tasks from one small camera, and the same with each action head.

    python benchmarks/language_policies.py                              # the whole table, on Meta-World
    python benchmarks/language_policies.py libero/object --heads flow --name language-libero-object
    python benchmarks/language_policies.py --heads flow --minutes 8     # the main policy alone, judged three ways
    python benchmarks/language_policies.py --minutes 1 --estimator-minutes 1 --episodes 1 --out /tmp/try --name ""

A robot sees with one camera, feels its hand, and is told what to do. A residual network learns once where
things are (`--parts estimated-state`: the simulator tells in training, the camera alone at run time); then every head
learns on the same demonstrations, for as many busy minutes, beside the same network: `bins` (RT-2, OpenVLA) and `fast`
write action tokens, `diffusion` and `flow` denoise the chunk, `l1` names it in one call (OpenVLA-OFT); `flow-plan` is
`flow` that writes its next sub-task in words first. With `--network transformer` all are one transformer of equal size
over one prefix: tokens see what is before them, chunks all of themselves, noisy with their time or as queries. The
first head is also judged with noise for its camera and with another task's instruction. Where the scene tells the task,
as on Meta-World, a share of the rows is told what does not fit, and teaches to stay (`--unfitting`); where one of
several things is named, as in LIBERO, the estimator reads too.

What is done is kept in OUT and not done again: recording and trainings go on where they were stopped, a judged head has
OUT/HEAD.json. The tables go to docs/data/NAME.json and NAME-tasks.json, from where `scripts/results.py write` takes
them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kept_table import keep
from nextmove import data as sets
from nextmove import jobs, store
from nextmove.contracts import seeded
from nextmove.data import identity
from nextmove.decoders.autoregressive import AutoregressiveDecoder
from nextmove.encoders import Camera, Instruction, Observation, State, StateEstimator
from nextmove.encoders.planner import Planner
from nextmove.host.files import write_json
from nextmove.jobs.fit import train_or_resume
from nextmove.jobs.judge import counted
from nextmove.jobs.tasks.policy import windows
from nextmove.models.policy import ActionSpace, Policy, Timing
from nextmove.models.policy.action_tokens import ActionTokens
from nextmove.models.policy.bc import BC
from nextmove.models.policy.flow_policy import FlowPolicy
from nextmove.models.policy.suited import suited
from nextmove.nn import Gpt, Mlp
from nextmove.nn.small_resnet import SmallResNet
from nextmove.parts import DECODERS
from turns import turns


@dataclass(frozen=True)
class Suite:
    """What differs between suites."""

    title: str
    camera: str
    told: str
    """What the robot feels, for the note."""
    numbers: tuple[str, ...]
    """What is estimated: where the thing and where the goal is. What tells tasks apart beside it is left to words."""
    named: bool
    """Whether the instruction names one of several things, so that what is estimated depends on it."""
    unfitting: float
    """Share of the rows that are told another task's instruction and teach to stay: where the scene tells the task."""


SUITES = {
    "metaworld/mt10": Suite(
        "Ten Meta-World tasks",
        "corner2=96x96",
        "the hand's place and opening",
        ("object1_x", "object1_y", "object1_z", "goal_x", "goal_y", "goal_z"),
        named=False,
        unfitting=0.15,
    ),
    "libero/object": Suite(
        "LIBERO-object, ten tasks",
        "agentview=128x128",
        "the hand's pose, fingers and joints",
        (
            *(f"target_{axis}" for axis in ["x", "y", "z", "xx", "xy", "xz", "yx", "yy", "yz"]),
            "goal_x",
            "goal_y",
            "goal_z",
        ),
        named=True,
        unfitting=0.0,
    ),
}
EYE = Camera(backbone=SmallResNet((16, 32, 64)), keypoints=64)
TIMING = Timing(n_obs_steps=1, horizon=16, n_action_steps=8)
TRANSFORMER = Gpt(width=128, layers=4, heads=4)
"""What writes tokens; with `--network transformer` also what denoises chunks and names them in one call."""
BATCHES = replace(ActionTokens().optim, batch=64)
OPTIM = replace(BATCHES, scales=(("estimator", 0.0),))
"""Of all heads around the one transformer, beside the estimator as it was found."""
ROUNDS = 21
RUNS = {"threads": 1, "clock": "busy", "bf16": "auto", "holdout": 0.02}


def looking(suite: Suite, share: float, planner: Planner | None = None) -> Observation:
    """What every head looks at; share: of a batch whose images are looked at."""
    words = Instruction(length=96 + (planner.length if planner else 0))
    sees = StateEstimator(numbers=suite.numbers, camera=EYE, words=Instruction() if suite.named else None, share=share)
    return Observation((State(), words), estimator=sees, planner=planner)


def estimating(suite: Suite) -> Any:
    """The recipe beside which the estimator learns: all images of small batches."""
    own = BC()
    return replace(
        own, encoder=looking(suite, 1.0), timing=replace(own.timing, n_obs_steps=1), optim=replace(own.optim, batch=32)
    )


def denoising(rule: str, suite: Suite, one: bool, *, planner: Planner | None = None, **settings: Any) -> Any:
    """A rule of `DECODERS` around the residual MLP, or around the `one` transformer that writes tokens too."""
    own = FlowPolicy(encoder=looking(suite, 1 / 4 if one else 1 / 16, planner), timing=TIMING)
    if one:
        own = replace(own, optim=OPTIM)
    return suited(replace(own, decoder=DECODERS[rule](trunk=TRANSFORMER if one else Mlp(), **settings)))


def tokens(suite: Suite, one: bool, actions: ActionSpace | None = None) -> Any:
    """Action tokens, one after another: bins, or those of another action space."""
    own = ActionTokens(encoder=looking(suite, 1 / 4), timing=TIMING)
    own = replace(own, decoder=replace(own.decoder, trunk=TRANSFORMER), optim=OPTIM if one else BATCHES)
    return own if actions is None else replace(own, actions=actions, decoder=replace(own.decoder, classes=0))


FAST = ActionSpace("quantiles", per_step=False, fast=512)


HEADS: dict[str, tuple[str, Callable[[Suite, bool], Any], dict[str, Any]]] = {
    "flow": ("flow-policy", partial(denoising, "flow"), {}),
    "diffusion": ("flow-policy", partial(denoising, "diffusion"), {"sampler": "ddim", "steps": 10}),
    "flow-plan": ("flow-policy", partial(denoising, "flow", planner=Planner()), {}),
    "l1": ("flow-policy", partial(denoising, "regression", loss="l1"), {}),
    "bins": ("action-tokens", tokens, {}),
    "fast": ("action-tokens", partial(tokens, actions=FAST), {}),
}
"""By head: the system, its recipe, and how it is sampled."""


def demonstrations(args: argparse.Namespace) -> Path:
    """The data set, recorded where it is not there."""
    folder: Path = args.demos or args.out / "demos"
    if not (folder / "meta" / "info.json").is_file():
        camera = SUITES[args.suite].camera
        jobs.record(args.suite, out=folder, episodes=args.demonstrations, cameras=(camera,), workers=args.workers)
    return folder


def judged(head: str, demos: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Trains and judges a head, each unless that was done already."""
    kept = args.out / f"{head}.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text()))
    system, make, sampled = HEADS[head]
    recipe = make(SUITES[args.suite], args.network == "transformer")
    run, estimator = args.out / head, args.out / "estimator"
    options = {**RUNS, "minutes": args.minutes, "seed": args.seed, "start": (f"estimator={estimator}",)}
    options |= {"unfitting": SUITES[args.suite].unfitting}
    if "flow-plan" in args.heads and "plan" not in sets.open_dataset(demos).features:
        jobs.label(demos)
    train_or_resume(
        run,
        partial(jobs.train, system, demos, recipe=recipe, **options),
    )
    whole = head == args.heads[0] and not args.plain
    report = jobs.evaluate(
        run, task=args.suite, episodes=args.episodes, workers=args.workers, video=0, blind=whole, shuffled=whole,
        out=run / "evaluation", **sampled,
    )  # fmt: skip
    found = {"policies": report["policies"], "calls": calls(run, demos, sampled), "minutes": args.minutes}
    write_json(kept, found)
    return found


def calls(run: Path, demos: Path, sampled: dict[str, Any]) -> float:
    """How often a plan calls the network that generates; of tokens how many are written, the end included."""
    policy: Policy = jobs.load_policy(run, **sampled)
    seen = windows(sets.open_dataset(demos), policy, None)
    obs = seen.batch(range(0, len(seen), max(1, len(seen) // 32)))
    if isinstance(policy.decoder, AutoregressiveDecoder):
        written: list[Tensor] = []
        decode = policy.codec.decode

        def kept(x: Tensor, obs: Any) -> Tensor:
            written.append(x)
            return decode(x, obs)

        policy.codec.decode = kept  # type: ignore[method-assign]
        policy.act(obs, rng=seeded(0))
        over = (written[0] == policy.decoder.config.classes - 1) | (written[0] < 0)
        ends = policy.decoder.config.ends
        return float((~over).sum(1).float().mean()) + 1 if ends else written[0].shape[1]
    with counted(policy) as made:
        policy.act(obs, rng=seeded(0))
    return made[0]


def rate(success: dict[str, Any]) -> str:
    """Solved of tried with the interval."""
    return (
        f"**{success['successes']}/{success['episodes']}** ({100 * success['low']:.0f}–{100 * success['high']:.0f} %)"
    )


def timed(heads: list[str], demos: Path, args: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of a plan by each head on one thread, medians of rounds in which the heads take turns."""
    torch.set_num_threads(1)

    def planning(head: str) -> Callable[[], float]:
        policy: Policy = jobs.load_policy(args.out / head, **HEADS[head][2])
        obs = windows(sets.open_dataset(demos), policy, None).batch([40])
        obs = {name: obs[name] for name in policy.inputs}

        def plan() -> float:
            begun = time.perf_counter()
            policy.act(obs, rng=seeded(0))
            return 1000 * (time.perf_counter() - begun)

        return plan

    found = turns({head: planning(head) for head in heads}, ROUNDS, warm=3)
    return {head: statistics.median(values) for head, values in found.items()}


def heads_table(found: dict[str, dict[str, Any]], ms: dict[str, float]) -> list[list[Any]]:
    """A row for each head; its success blind and told otherwise where that was judged of the first."""
    rows = []
    also = len(next(iter(found.values()))["policies"]) - 1
    for head, one in found.items():
        own, *others = one["policies"].values()
        row = [head, rate(own["success"]), *([rate(other["success"]) for other in others] or [""] * also)]
        row += [f"{ms[head]:.1f}", f"{one['calls']:g}", own["facts"]["steps"]]
        row += [round(own["parameters"] / 1e6, 2)]
        rows.append(row)
    return rows


def tasks_table(found: dict[str, dict[str, Any]]) -> list[list[Any]]:
    """A row for each task: solved seeds by each head, then by the first one blind and with another's instruction."""
    columns = [policy["tasks"] for one in found.values() for policy in [next(iter(one["policies"].values()))]]
    columns += [policy["tasks"] for policy in list(next(iter(found.values()))["policies"].values())[1:]]
    return [[f"`{task}`", *(column[task]["success"]["successes"] for column in columns)] for task in columns[0]]


def command(args: argparse.Namespace) -> str:
    """What makes the tables again."""
    heads = "" if args.heads == list(HEADS) else f"--heads {' '.join(args.heads)} --name {args.name} "
    suite = "" if args.suite == next(iter(SUITES)) else f"{args.suite} "
    heads += "--plain " if args.plain else ""
    heads += f"--network {args.network} " if args.network != "own" else ""
    return (
        f"python benchmarks/language_policies.py {suite}{heads}--demonstrations {args.demonstrations} "
        f"--minutes {args.minutes:g} --estimator-minutes {args.estimator_minutes:g} --episodes {args.episodes}"
    )


def noted(args: argparse.Namespace, episodes: int) -> str:
    """What the table says of how its policies were trained and judged."""
    suite = SUITES[args.suite]
    px, asked = suite.camera.partition("=")[2].replace("x", " x "), ", asked for by name," if suite.named else ""
    others = listens = plans = ""
    if not args.plain:
        others = (
            "blind: noise for images; shuffled: the instruction of another task, an order of its own for every seed. "
        )
    if suite.unfitting:
        share = f"{100 * suite.unfitting:.0f} %"
        listens = f"So that it listens, {share} of the rows were told another task's in training and taught to stay. "
    if args.network == "transformer":
        plans = (
            f" All heads are one transformer, {TRANSFORMER.layers} layers of {TRANSFORMER.width}, behind one token of "
            "what is observed, with one optimiser and batch; the estimator stays as it was found."
        )
    if "flow-plan" in args.heads:
        plans += " flow-plan writes a sub-task before, byte by byte."
    return (
        f"One model for all ten tasks of {args.suite}, {episodes} demonstrations with the noise of recordings, one "
        f"camera of {px} px, {suite.told}, and the instruction; {args.episodes} held-out seeds a task, "
        "success at any step, one training seed. Not end to end: with --parts estimated-state a small residual network "
        f"learns {args.estimator_minutes:g} busy minutes of one thread where thing and goal are{asked} which the "
        f"simulator tells in training; then each head learns {args.minutes:g} busy minutes more. {others}{listens}"
        f"ms: of a plan on one thread, medians of {ROUNDS} rounds in turns. calls: of the network that generates."
        f"{plans} {args.remark}"
    ).strip()


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", nargs="?", default=next(iter(SUITES)), choices=list(SUITES))
    parser.add_argument("--heads", nargs="+", default=list(HEADS), choices=list(HEADS))
    parser.add_argument("--network", choices=["own", "transformer"], default="own", help="each head's, or one for all")
    parser.add_argument("--minutes", type=float, default=8, help="of a head")
    parser.add_argument("--estimator-minutes", type=float, default=12, help="once, before")
    parser.add_argument("--demonstrations", type=int, default=50, help="of each task")
    parser.add_argument("--episodes", type=int, default=20, help="held-out seeds of each task")
    parser.add_argument("--plain", action="store_true", help="judge no head blind or told otherwise")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--demos", type=Path, help="a recorded set; OUT/demos if not given")
    parser.add_argument("--out", type=Path, default=Path("runs/language-policies"))
    parser.add_argument("--remark", default="", help="what else the table's note says")
    parser.add_argument("--name", default="language-policies", help="of the tables in docs/data; empty keeps none")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def main() -> None:
    args = options()
    demos = demonstrations(args)
    how = {**RUNS, "minutes": args.estimator_minutes, "seed": args.seed}
    train_or_resume(
        args.out / "estimator", partial(jobs.train, "bc", demos, recipe=estimating(SUITES[args.suite]), **how)
    )
    found = {head: judged(head, demos, args) for head in args.heads}
    rows = heads_table(found, timed(args.heads, demos, args))
    for row in rows:
        print(*(f"{cell!s:>24}" for cell in row))
    if not args.name:
        return
    content = store.read_config(args.out / args.heads[0] / "model")["facts"]["content"]
    episodes = len(identity.from_hex(content["trained"]))
    suite, note = SUITES[args.suite], noted(args, episodes)
    first = args.heads[0]
    others = [f"{first} blind", f"{first} shuffled"] if len(found[first]["policies"]) > 1 else []
    columns = ["head", "success", *others]
    columns += ["ms per chunk", "calls per chunk", "steps", "M parameters"]
    heads = ", by action head" if len(found) > 1 else ""
    heads += " on one transformer" if args.network == "transformer" else ""
    told, title = command(args), f"{suite.title} by instruction from one camera{heads}"
    made: dict[str, Any] = {"command": told, "simulated": [args.suite]}
    keep(args.name, title=title, note=note, columns=columns, rows=rows, **made)
    columns = ["task", *args.heads, *others]
    title = f"{suite.title} by instruction{heads}: solved of {args.episodes} seeds"
    note, rows = "The policies of the table before.", tasks_table(found)
    keep(f"{args.name}-tasks", title=title, note=note, columns=columns, rows=rows, **made)


if __name__ == "__main__":
    main()
