"""Policies with and without the camera on demonstrations of a real robot, judged offline beside doing nothing.

    python benchmarks/unitree_g1.py FOLDER                                # 20 busy minutes each, one after the other
    python benchmarks/unitree_g1.py FOLDER --steps 1000 --name g1-camera-steps  # as many steps for all, on any machine
    python benchmarks/unitree_g1.py FOLDER --minutes 0.2 --policies act --out /tmp/g1 --name ""    # to try it

FOLDER is the LeRobot data set of the Unitree G1 (github.com/YifanTian07/G1-policy-train, commit d1d3bb45) with its
videos; episodes without one are left out for all policies. OUT/data holds the same episodes with the camera at 96 x 128
and with the last command as a feature; it is written once. All lines are trained on the same episodes and judged on the
same windows of the held-out ones; a line that sees is judged a second time with noise in place of its images.
`diffusion-policy x0` predicts the actions in place of the noise; both are sampled in ten steps of DDIM. What is done is
kept in OUT/judged and not done again; a training goes on where it was stopped. OUT/report.html shows all beside each
other, plans beside the video; the table goes to docs/data/NAME.json, from where `scripts/results.py write` takes it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import g1
from nextmove import data as sets
from nextmove import evaluation, jobs
from nextmove.contracts import Feature
from nextmove.encoders import Observation, State
from nextmove.evaluation.machine import machine, versions
from nextmove.host.files import write_json
from nextmove.jobs.fit import train_or_resume
from nextmove.jobs.offline import offline
from nextmove.models.policy.sight import SMALL
from nextmove.systems import find

CAMERA, STATE, LAST = "observation.images.cam_high", "observation.state", g1.LAST
SIZE, CROP = (96, 128), (84, 112)
X0 = "diffusion-policy x0"
POLICIES = ("act", "diffusion-policy", X0, "flow-policy")
SEEN = ("state", "state and camera")
ACTIONS = {
    "relative to the state": {"space": "relative", "reference": STATE},
    "relative to the last action": {"space": "relative", "reference": LAST},
    "absolute": {"space": "absolute"},
}
HELD = 10
"""Episodes that are judged on."""
AT_ONCE = 32
"""Frames that are decoded at once."""


@dataclass(frozen=True)
class Line:
    """A policy in one setting."""

    policy: str
    seen: str
    actions: str

    @property
    def name(self) -> str:
        """Also of its folder."""
        return f"{self.policy} {self.seen} {self.actions}".replace(" ", "-")

    @property
    def system(self) -> str:
        """Without what is set here."""
        return self.policy.removesuffix(" x0")

    @property
    def sees(self) -> bool:
        """Whether the camera is among its observations."""
        return "camera" in self.seen

    def recipe(self) -> Any:
        """The system's own, looking at what the line says: where the last action is the start, it is seen too."""
        camera = replace(SMALL, crop=CROP)
        own = find(self.system).load()()
        if self.policy == X0:
            own = replace(own, decoder=replace(own.decoder, target="x0"))
        states = (STATE, LAST) if self.actions == "relative to the last action" else (STATE,)
        parts: tuple[Any, ...] = (State(states, view="plain"),)
        if self.sees:
            own = own.seeing({STATE: Feature("state", (26,)), CAMERA: Feature("image", (*SIZE, 3))})
            parts = (*parts, camera)
        encoder = Observation(parts, tokens=own.encoder.tokens)
        return replace(own, encoder=encoder, actions=replace(own.actions, **ACTIONS[self.actions]))


def prepared(given: Path, out: Path) -> Path:
    """The episodes with a video: state, last action, action, and the camera at SIZE."""
    if (out / "meta" / "info.json").is_file():
        return out
    whole = sets.open_dataset(given)
    filmed = [int(path.stem.split("_")[-1]) for path in given.glob(f"videos/*/{CAMERA}/*.mp4")]
    print(f"preparing {len(filmed)} of {whole.num_episodes} episodes, those with a video", flush=True)
    features = {name: {k: whole.features[name][k] for k in ("dtype", "shape", "names")} for name in (STATE, "action")}
    image = {"dtype": "video", "shape": [*SIZE, 3], "names": ["height", "width", "channels"]}
    writer = sets.DatasetWriter(out, {LAST: features["action"], CAMERA: image, **features}, round(whole.fps))
    columns, video = whole.columns([STATE, "action", "task_index"]), whole.video(CAMERA)
    for episode in sorted(filmed):
        start, stop = int(whole.episode_from[episode]), int(whole.episode_to[episode])
        own = {name: columns[name][start:stop] for name in (STATE, "action")}
        # At the first step, where there is none, the state stands for the last action.
        last = np.concatenate([own[STATE][:1], own["action"][:-1]])
        frames = np.stack(list(_small(video, start, stop)))
        writer.add_episode({LAST: last, CAMERA: frames, **own}, whole.tasks[int(columns["task_index"][start])])
    writer.finalize()
    return out


def _small(video: Any, start: int, stop: int) -> Iterator[np.ndarray]:
    for first in range(start, stop, AT_ONCE):
        for frame in video.frames(np.arange(first, min(first + AT_ONCE, stop))):
            yield np.asarray(Image.fromarray(frame).resize(SIZE[::-1], Image.Resampling.BOX))


def judged(line: Line, data: Path, args: argparse.Namespace) -> list[evaluation.Entry]:
    """A line's entry, and that without its sight, trained and judged unless that was done already."""
    ways = {"": False, "-blind": True} if line.sees else {"": False}
    paths = {way: args.out / "judged" / f"{line.name}{way}.json" for way in ways}
    if all(path.is_file() for path in paths.values()):
        return [evaluation.read_entry(path) for path in paths.values()]
    print(line.name, flush=True)
    run = args.out / "train" / line.name
    budget = {"steps": args.steps} if args.steps else {"minutes": args.minutes}
    options = {**budget, "clock": "busy", "threads": args.threads, "seed": args.seed}
    episodes = sets.open_dataset(data).num_episodes
    share = min(HELD, episodes // 3) / episodes
    train_or_resume(run, partial(jobs.train, line.system, data, recipe=line.recipe(), holdout=share, **options))
    sampler, steps = ("ddim", 10) if line.system == "diffusion-policy" else (None, 0)
    entries = []
    for way, blind in ways.items():
        policy = jobs.load_policy(run, sampler=sampler, steps=steps, blind=blind)
        found, _, choice = offline(policy, data, windows=g1.WINDOWS)
        print(choice.sentence, choice.caution)
        seen = f"{line.seen}, blind" if blind else line.seen
        facts = {**policy.facts, "policy": line.policy, "variant": f"{seen}, {line.actions}", "machine": machine()}
        facts["parameters"] = sum(p.numel() for p in policy.parameters())
        entry = evaluation.Entry(f"{line.name}{way}", offline=found, facts=facts)
        paths[way].parent.mkdir(parents=True, exist_ok=True)
        write_json(paths[way], evaluation.entry_json(entry))
        entries.append(entry)
    return entries


def command(args: argparse.Namespace) -> str:
    """What makes the table again."""
    chosen = ""
    for name, whole in (("policies", POLICIES), ("seen", SEEN), ("actions", list(ACTIONS)[:2])):
        own = [repr(one) if " " in one else one for one in getattr(args, name)]
        chosen += f" --{name} {' '.join(own)}" if len(own) < len(whole) else ""
    budget = f"--steps {args.steps}" if args.steps else f"--minutes {args.minutes:g}"
    return f"python benchmarks/unitree_g1.py FOLDER {budget} --threads {args.threads}{chosen}"


def keep(entries: list[evaluation.Entry], args: argparse.Namespace) -> None:
    """Writes the table for `scripts/results.py`."""
    far = max((g1.beside(entry) for entry in entries), key=lambda found: found.count.shape[1])
    rows = [[name, "", *g1.figures(far, name), "", "", "", ""] for name in far.baselines]
    rows += [g1.row(entry) for entry in sorted(entries, key=lambda entry: g1.beside(entry).mean())]
    diffusion = any("diffusion" in policy for policy in args.policies)
    content = {
        "title": "A real robot's demonstrations with and without its camera, beside doing nothing"
        + (f", {args.steps} steps each" if args.steps else ""),
        "command": command(args),
        "note": (
            "Unitree G1 with Inspire hands, 26 joints at 30 Hz, one camera read at 96 x 128 "
            "(github.com/YifanTian07/G1-policy-train, commit d1d3bb45, the 93 episodes whose video can be had): "
            f"{g1.WINDOWS} windows evenly out of {len(far.episodes)} held-out episodes. Errors are mean absolute "
            "differences from the demonstrated action over the spread of each joint's actions; step 1 is due now. "
            "blind: the same policy, noise in place of every image. "
            + ("Diffusion Policy by ten steps of DDIM, x0: it predicts the actions in place of the noise. " * diffusion)
            + "Busy minutes, one training seed. Nobody drove the robot with these policies: a low error doesn't make "
            "one succeed, and one that sees its last action may learn to copy it (de Haan et al. 2019). "
            + args.remark
            + "![The page](pictures/g1-camera.webp)" * (args.name == "g1-camera")
        ),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "versions": versions(),
        "columns": g1.COLUMNS,
        "rows": rows,
    }
    write_json(Path(__file__).parent.parent / "docs" / "data" / f"{args.name}.json", content, indent=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--steps", type=int, default=0, help="the budget in steps instead")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policies", nargs="*", default=POLICIES, choices=POLICIES)
    parser.add_argument("--seen", nargs="*", default=SEEN, choices=SEEN)
    parser.add_argument("--actions", nargs="*", default=list(ACTIONS)[:2], choices=list(ACTIONS))
    parser.add_argument("--remark", default="", help="a sentence for the note")
    parser.add_argument("--out", type=Path, default=Path("runs/unitree-g1"))
    parser.add_argument("--name", default="g1-camera", help="of the table in docs/data; empty keeps none")
    args = parser.parse_args()
    data = prepared(args.data, args.out / "data")
    lines = [Line(*found) for found in ((p, s, a) for a in args.actions for p in args.policies for s in args.seen)]
    entries = [entry for line in lines for entry in judged(line, data, args)]
    budget = f"{args.steps} steps" if args.steps else f"{args.minutes:g} minutes"
    written = evaluation.write_report(
        entries, args.out, title="A real robot's demonstrations with and without its camera", unit="rad",
        task=f"Trained {budget} each and judged on the same held-out episodes.",
        commands=[command(args)],
    )  # fmt: skip
    print(f"{written['verdict']} Open {args.out / 'report.html'}")
    if args.name:
        keep(entries, args)


if __name__ == "__main__":
    main()
