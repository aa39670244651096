"""Policies in simulators: one result per seed, in the order of the seeds, whatever ran it."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from nextmove.contracts import Actor, seeded
from nextmove.control import Receding, suited
from nextmove.evaluation.batched import Batched
from nextmove.evaluation.episode import Array, Env, EpisodeResult, Trace
from nextmove.evaluation.kept import Kept
from nextmove.evaluation.latency import TimedActor, torch_threads
from nextmove.evaluation.progress import progress_bar
from nextmove.evaluation.video import mp4
from nextmove.host.workers import Failure, run_tasks


def ranges(seeds: Sequence[int]) -> str:
    """1, 2, 3, 7 as 1–3, 7."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1][1:] = [seed]
        else:
            parts.append([seed])
    return ", ".join("–".join(map(str, part)) for part in parts)


class Controller(Protocol):
    """What turns one robot's observations into actions; `control.Receding` is one."""

    def reset(self, rng: torch.Generator) -> None:
        """Starts an episode that draws from `rng`."""
        ...

    def step(self, observation: Any) -> Array:
        """The action (A,) due now."""
        ...


class RolloutError(RuntimeError):
    """Episodes failed; `failures` says why by seed, `results` holds those that did not."""

    def __init__(self, failures: dict[int, str], results: list[EpisodeResult]) -> None:
        self.failures, self.results = failures, results
        seeds: dict[str, list[int]] = {}
        for seed, reason in failures.items():
            seeds.setdefault(reason, []).append(seed)
        told = [f"{'seed' if len(found) == 1 else 'seeds'} {ranges(found)}: {r}" for r, found in seeds.items()]
        super().__init__("\n".join([f"{len(failures)} of {len(failures) + len(results)} episodes failed", *told]))


@dataclass(frozen=True)
class _Exact:
    """Builds what plays one seed after the other."""

    make_env: Callable[[], Env]
    make_policy: Callable[[], Actor]
    controller: Callable[[Actor], Controller]
    policy_seed: int
    max_steps: int | None

    def __call__(self) -> Callable[[int], EpisodeResult]:
        env = self.make_env()
        actor = TimedActor(self.make_policy(), env.fps)
        controller = self.controller(actor)

        def play(seed: int) -> EpisodeResult:
            actor.drain()
            observation, _ = env.reset(seed=seed)
            controller.reset(seeded(self.policy_seed, seed))
            trace, over = Trace(seed, env.fps), False
            while not over and len(trace.rewards) < (self.max_steps or env.max_steps):
                action = controller.step(observation)
                observation, reward, terminated, truncated, info = env.step(action)
                trace.add(action, reward, info)
                over = terminated or truncated
            return trace.result("exact", actor.drain())

        return play


def rollout(
    make_env: Callable[[], Env],
    make_policy: Callable[[], Actor],
    seeds: Sequence[int],
    *,
    workers: int = 2,
    batched: bool = False,
    envs: int = 16,
    max_steps: int | None = None,
    video: int = 0,
    progress: bool = False,
    policy_seed: int = 0,
    controller: Callable[[Actor], Controller] = suited,
    n_action_steps: int | None = None,
    kept: Kept | None = None,
) -> list[EpisodeResult]:
    """One episode for every seed, in the order of `seeds`.

    The environment starts from the seed, the policy's noise from (policy_seed, seed). Two modes, told in every result:
    exact: each episode alone at batch 1 on one thread; the same for any number of workers.
    batched: one process, `envs` environments, one network call per replan; same noise, but rounding may differ.

    Args:
        make_env, make_policy: Called once per process; picklable (functools.partial of a module's function).
        workers: Processes of the exact mode; 0 runs it here.
        video: How many episodes to film, about half of them failures, by replaying their actions.
        controller: What stands between policy and robot in exact mode; as the policy asks for if not given.
        max_steps, n_action_steps: Overrule the environment's and the policy's own numbers.
        kept: Where finished episodes are kept, which are not played again; in batched mode only where all are there,
            for the rounding of one depends on those beside it.

    Raises RolloutError once all have run if some failed, SetupError if environment or policy could not be built.
    """
    seeds = _checked(seeds, controller is suited, batched or n_action_steps is not None)
    known = kept.known(seeds) if kept else {}
    if batched and len(known) < len(seeds):
        known = {}
    left = [seed for seed in seeds if seed not in known]
    with _bar(progress, len(seeds)) as show:
        for result in known.values():
            show(result)

        def done(result: Any) -> None:
            show(result)
            if kept and isinstance(result, EpisodeResult):
                kept.add(result)

        if batched:
            outcome = Batched(make_env, make_policy, envs, policy_seed, max_steps, n_action_steps)(left, done)
        else:
            choose = controller if n_action_steps is None else _Shortened(n_action_steps)
            exact = _Exact(make_env, make_policy, choose, policy_seed, max_steps)
            with torch_threads(1):
                outcome = run_tasks(exact, left, workers=workers, done=done) if left else []
    played = dict(zip(left, outcome, strict=True))
    results = _settled(seeds, [known[seed] if seed in known else played[seed] for seed in seeds])
    return film(make_env, results, video, workers=workers) if video else results


def _checked(seeds: Sequence[int], usual: bool, needs_usual: bool) -> list[int]:
    seeds = [int(seed) for seed in seeds]
    if len(set(seeds)) != len(seeds):
        raise ValueError("seeds: expected every seed once, since a repeated episode is no further evidence")
    if needs_usual and not usual:
        raise ValueError("controller: expected control.suited in batched mode or with n_action_steps")
    return seeds


def _settled(seeds: Sequence[int], outcome: Sequence[EpisodeResult | Failure]) -> list[EpisodeResult]:
    failures = {s: r.reason for s, r in zip(seeds, outcome, strict=True) if isinstance(r, Failure)}
    results = [r for r in outcome if isinstance(r, EpisodeResult)]
    if failures:
        raise RolloutError(failures, results)
    return results


@dataclass(frozen=True)
class _Shortened:
    """Receding horizon control with another number of executed actions than the policy asks for."""

    n_action_steps: int

    def __call__(self, actor: Actor) -> Controller:
        return Receding(actor, n_action_steps=self.n_action_steps)


@contextmanager
def _bar(show: bool, count: int) -> Iterator[Callable[[Any], None]]:
    """What hears of every finished episode; if shown, a bar with the successes so far."""
    with progress_bar(show, "0 successes", count) as move:
        won = 0

        def done(result: Any) -> None:
            nonlocal won
            won += isinstance(result, EpisodeResult) and result.success
            move(1, f"{won} successes")

        yield done


@dataclass(frozen=True)
class Replay:
    """What a replay showed: frames (n + 1, height, width, 3) uint8 and whether every reward was earned again."""

    frames: list[Array]
    exact: bool


def replay(env: Env, episode: EpisodeResult) -> Replay:
    """The recorded actions played again from the same seed, filmed from the first moment to the last."""
    env.reset(seed=episode.seed)
    frames, rewards = [env.render()], []
    for action in episode.actions:
        rewards.append(float(env.step(action)[1]))
        frames.append(env.render())
    return Replay(
        frames, np.allclose(rewards, episode.rewards, rtol=1e-6, atol=1e-6 * np.abs(episode.rewards).max(initial=0))
    )


@dataclass(frozen=True)
class _Camera:
    make_env: Callable[[], Env]
    size: int

    def __call__(self) -> Callable[[EpisodeResult], EpisodeResult]:
        env = self.make_env()

        def shoot(episode: EpisodeResult) -> EpisodeResult:
            shown = replay(env, episode)
            picture = mp4(shown.frames, fps=episode.fps, size=self.size)
            return dataclasses.replace(episode, video=picture, video_exact=shown.exact)

        return shoot


def pick(results: Sequence[EpisodeResult], count: int) -> list[EpisodeResult]:
    """`count` episodes worth seeing: failures first, half of them if there are enough, then successes."""
    lost = [r for r in results if not r.success]
    won = [r for r in results if r.success]
    failures = min(len(lost), max(math.ceil(count / 2), count - len(won)))
    return lost[:failures] + won[: count - failures]


def film(
    make_env: Callable[[], Env], results: Sequence[EpisodeResult], count: int, *, workers: int = 0, size: int = 256
) -> list[EpisodeResult]:
    """The same results, `count` of them with a video of `size` pixels a side.

    A replay that fails costs its film and a warning, never a result.
    """
    chosen = pick(results, count)
    filmed = {}
    for episode, outcome in zip(chosen, run_tasks(_Camera(make_env, size), chosen, workers=workers), strict=True):
        if isinstance(outcome, Failure):
            warnings.warn(f"seed {episode.seed} could not be filmed: {outcome.reason}", RuntimeWarning, stacklevel=2)
        else:
            filmed[episode.seed] = outcome
    return [filmed.get(r.seed, r) for r in results]
