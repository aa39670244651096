"""Videos of episodes, made by playing their recorded actions again."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nextmove.evaluation.captions import with_lines
from nextmove.evaluation.episode import Array, Env, EpisodeResult
from nextmove.evaluation.keys import episodes
from nextmove.evaluation.video import mp4
from nextmove.evaluation.worlds import Makers, Worlds, look
from nextmove.host.workers import Failure, run_tasks


@dataclass(frozen=True)
class Replay:
    """Frames (n + 1, height, width, 3) uint8 of a replay, and whether every reward was the same."""

    frames: list[Array]
    exact: bool


def replay(env: Env, episode: EpisodeResult) -> Replay:
    """The recorded actions played again from the same seed, rendered from the first moment to the last."""
    env.reset(seed=episode.seed)
    look(env, False)
    frames, rewards = [env.render()], []
    for action in episode.actions:
        rewards.append(float(env.step(action)[1]))
        frames.append(env.render())
    return Replay(
        frames, np.allclose(rewards, episode.rewards, rtol=1e-6, atol=1e-6 * np.abs(episode.rewards).max(initial=0))
    )


@dataclass(frozen=True)
class _Camera:
    makers: Makers
    size: int

    def __call__(self) -> Callable[[EpisodeResult], EpisodeResult]:
        worlds = Worlds(self.makers)

        def shoot(episode: EpisodeResult) -> EpisodeResult:
            shown = replay(worlds(episode.task), episode)
            told = len(self.makers) > 1 or episode.words
            frames = with_lines(shown.frames, episode) if told else shown.frames
            video = mp4(frames, fps=episode.fps, size=self.size)
            return dataclasses.replace(episode, video=video, video_exact=shown.exact)

        return shoot


def pick(results: Sequence[EpisodeResult], count: int) -> list[EpisodeResult]:
    """`count` episodes to show: failures first, half of them if there are enough, then successes."""
    lost = [r for r in results if not r.success]
    won = [r for r in results if r.success]
    failures = min(len(lost), max(math.ceil(count / 2), count - len(won)))
    return lost[:failures] + won[: count - failures]


def with_videos(
    makers: Makers, results: Sequence[EpisodeResult], count: int, *, workers: int = 0, size: int = 256
) -> list[EpisodeResult]:
    """The same results, `count` of each task with a video of `size` pixels a side.

    A replay that fails costs its video and a warning, never a result.
    """
    chosen = [one for task in makers for one in pick([r for r in results if r.task == task], count)]
    made = {}
    for episode, outcome in zip(chosen, run_tasks(_Camera(makers, size), chosen, workers=workers), strict=True):
        if isinstance(outcome, Failure):
            problem = f"{episodes([episode.key])}: no video: {outcome.reason}"
            warnings.warn(problem, RuntimeWarning, stacklevel=2)
        else:
            made[episode.key] = outcome
    return [made.get(r.key, r) for r in results]
