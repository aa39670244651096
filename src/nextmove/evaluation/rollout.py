"""Rollouts in simulators: one result for every task and seed, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from nextmove.contracts import Actor, seeded
from nextmove.control import Receding, suited
from nextmove.evaluation.batched import Batched
from nextmove.evaluation.episode import Array, Env, EpisodeResult, Trace
from nextmove.evaluation.kept import Kept
from nextmove.evaluation.keys import Key, episodes
from nextmove.evaluation.latency import TimedActor, torch_threads
from nextmove.evaluation.progress import progress_bar
from nextmove.evaluation.replay import with_videos
from nextmove.evaluation.worlds import Makers, Worlds, look
from nextmove.host.workers import Failure, run_tasks


class Controller(Protocol):
    """What turns one robot's observations into actions; `control.Receding` is one."""

    def reset(self, rng: torch.Generator) -> None:
        """Starts an episode that draws from `rng`."""
        ...

    def step(self, observation: Any) -> Array:
        """The action (A,) due now."""
        ...


class RolloutError(RuntimeError):
    """Episodes failed; `failures` says why by task and seed, `results` holds those that did not."""

    def __init__(self, failures: dict[Key, str], results: list[EpisodeResult]) -> None:
        self.failures, self.results = failures, results
        reasons: dict[str, list[Key]] = {}
        for key, reason in failures.items():
            reasons.setdefault(reason, []).append(key)
        lines = [f"{episodes(found)}: {reason}" for reason, found in reasons.items()]
        super().__init__("\n".join([f"{len(failures)} of {len(failures) + len(results)} episodes failed", *lines]))


@dataclass(frozen=True)
class _Exact:
    """Builds what plays one episode after the other."""

    makers: Makers
    make_policy: Callable[[], Actor]
    controller: Callable[[Actor], Controller]
    policy_seed: int
    max_steps: int | None

    def __call__(self) -> Callable[[Key], EpisodeResult]:
        worlds = Worlds(self.makers)
        actor = TimedActor(self.make_policy(), worlds(next(iter(self.makers))).fps)
        controller = self.controller(actor)

        def play(key: Key) -> EpisodeResult:
            env = worlds(key[0])
            actor.drain()
            actor.fps = env.fps
            observation, _ = env.reset(seed=key[1])
            controller.reset(seeded(self.policy_seed, key[1]))
            trace, over = Trace(env, key[1], key[0]), False
            while not over and len(trace.rewards) < (self.max_steps or env.max_steps):
                action = controller.step(observation)
                if actor.words:
                    trace.say(actor.words[0])
                look(env, getattr(controller, "looks", True) and not actor.blind)
                observation, reward, terminated, truncated, info = env.step(action)
                trace.add(action, reward, info)
                over = terminated or truncated
            return trace.result("exact", actor.drain())

        return play


def rollout(
    make_env: Callable[[], Env] | Makers,
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
    """One episode for every task and seed: all seeds of the first task in the order of `seeds`, then of the next.

    The environment starts from the seed, the policy's noise from (policy_seed, seed). Two modes, named in every result:
    exact: each episode alone at batch 1 on one thread; the same for any number of workers.
    batched: one process, `envs` environments, one network call per replan; same noise, but rounding may differ.

    Args:
        make_env: Makes the environment; of several tasks by their names. A process holds one at a time in exact mode.
        make_policy: Called once per process; both picklable (functools.partial of a module's function).
        workers: Processes of the exact mode; 0 runs it here.
        video: How many episodes of each task get a video, about half of them failures, by replaying their actions.
        controller: What stands between policy and robot in exact mode; as the policy asks for if not given.
        max_steps, n_action_steps: Overrule the environment's and the policy's own numbers.
        kept: Where finished episodes are kept, which are not played again; in batched mode only where all of a task are
            there, for the rounding of one depends on those beside it.

    Raises RolloutError once all have run if some failed, SetupError if environment or policy could not be built.
    """
    makers = make_env if isinstance(make_env, Mapping) else {"": make_env}
    seeds = _checked(seeds, controller is suited, batched or n_action_steps is not None)
    keys = [(task, seed) for task in makers for seed in seeds]
    known = kept.known(keys) if kept else {}
    if batched:
        whole = {task for task in makers if all((task, seed) in known for seed in seeds)}
        known = {key: result for key, result in known.items() if key[0] in whole}
    left = [key for key in keys if key not in known]
    with _bar(progress, len(keys)) as show:
        for result in known.values():
            show(result)

        def done(result: Any) -> None:
            show(result)
            if kept and isinstance(result, EpisodeResult):
                kept.add(result)

        if batched:
            outcome = Batched(makers, make_policy, envs, policy_seed, max_steps, n_action_steps)(left, done)
        else:
            choose = controller if n_action_steps is None else _Shortened(n_action_steps)
            exact = _Exact(makers, make_policy, choose, policy_seed, max_steps)
            with torch_threads(1):
                outcome = run_tasks(exact, left, workers=workers, done=done) if left else []
    played = dict(zip(left, outcome, strict=True))
    results = _raise_failures(keys, [known[key] if key in known else played[key] for key in keys])
    return with_videos(makers, results, video, workers=workers) if video else results


def _checked(seeds: Sequence[int], usual: bool, needs_usual: bool) -> list[int]:
    seeds = [int(seed) for seed in seeds]
    if len(set(seeds)) != len(seeds):
        raise ValueError("seeds: expected every seed once, since a repeated episode is no further evidence")
    if needs_usual and not usual:
        raise ValueError("controller: expected control.suited in batched mode or with n_action_steps")
    return seeds


def _raise_failures(keys: Sequence[Key], outcome: Sequence[EpisodeResult | Failure]) -> list[EpisodeResult]:
    failures = {k: r.reason for k, r in zip(keys, outcome, strict=True) if isinstance(r, Failure)}
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
    """Called with every finished episode; if shown, a bar with the successes so far."""
    with progress_bar(show, "0 successes", count) as move:
        won = 0

        def done(result: Any) -> None:
            nonlocal won
            won += isinstance(result, EpisodeResult) and result.success
            move(1, f"{won} successes")

        yield done
