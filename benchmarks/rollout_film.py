"""A film of a policy at work on the tasks of a suite, side by side, with what it is told and what it writes.

    python benchmarks/rollout_film.py RUN metaworld/mt10 docs/pictures/language.webp [--tasks reach drawer-open]

Every task is shown on the first held-out seed that it solves (`--seeds` are tried), else on the first one; a film that
is over stays at its last frame. The file is an animated WebP.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from nextmove import jobs, sim
from nextmove.evaluation import rollout
from nextmove.evaluation.captions import with_lines
from nextmove.evaluation.episode import EpisodeResult
from nextmove.evaluation.replay import replay
from nextmove.jobs.robot import sensors
from nextmove.jobs.simulated import HELD_OUT

AFTER = 10
"""Steps that are shown after success."""


def played(run: str, task: sim.Task, seeds: int) -> EpisodeResult:
    """The first solved episode of a task."""
    shown = sensors(jobs.load_policy(run), task)
    for seed in range(HELD_OUT, HELD_OUT + seeds):
        (found,) = rollout(
            {task.name: partial(sim.make, task, **shown)}, partial(jobs.load_policy, run), [seed], workers=0
        )
        if found.success or seed == HELD_OUT:
            best = found
        if found.success:
            break
    return best


def frames(task: sim.Task, episode: EpisodeResult, size: int, every: int) -> list[np.ndarray]:
    """Every so many frames of an episode with its lines, until a moment after success."""
    last = min(episode.steps, (episode.first_success or episode.steps) + AFTER)
    env = sim.make(task)
    shown = replay(env, episode).frames[: last + 1]
    env.close()
    small = [np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.LANCZOS)) for one in shown]
    return with_lines(small, episode)[::every]


def tiled(films: list[list[np.ndarray]], columns: int) -> list[Image.Image]:
    """One picture a moment, rows of films."""
    longest, blank = max(map(len, films)), np.full_like(films[0][0], 255)
    whole = [film + [film[-1]] * (longest - len(film)) for film in films]
    while len(whole) % columns:
        whole.append([blank] * longest)
    rows = [whole[i : i + columns] for i in range(0, len(whole), columns)]
    return [
        Image.fromarray(np.concatenate([np.concatenate([film[k] for film in row], 1) for row in rows]))
        for k in range(longest)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("suite")
    parser.add_argument("out", type=Path)
    parser.add_argument("--tasks", nargs="*", help="last parts of names; all if not given")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--size", type=int, default=208)
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--every", type=int, default=4, help="steps of a frame")
    args = parser.parse_args()
    tasks = [t for t in sim.find(args.suite) if not args.tasks or t.name.rpartition("/")[2] in args.tasks]
    films = [frames(task, played(args.run, task, args.seeds), args.size, args.every) for task in tasks]
    first, *others = tiled(films, min(args.columns, len(films)))
    pause = round(1000 * args.every / tasks[0].fps)
    first.save(args.out, save_all=True, append_images=others, duration=max(20, pause), loop=0, quality=70, method=4)


if __name__ == "__main__":
    main()
