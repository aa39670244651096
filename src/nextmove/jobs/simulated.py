"""Policies judged on a simulator: a try, rollouts on held-out seeds, latency, and their report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nextmove import control, evaluation, sim
from nextmove.config import ConfigError
from nextmove.contracts import seeded
from nextmove.evaluation.kept import Kept
from nextmove.evaluation.latency import TimedActor
from nextmove.jobs import provenance
from nextmove.jobs.robot import fits_simulator
from nextmove.models.policy import Policy

HELD_OUT = 100_000
"""First seed of evaluation; demonstrations use seeds from 0."""


def judge(
    make: Callable[[], Policy],
    policy: Policy | None = None,
    *,
    name: str,
    simulator: str,
    seeds: range,
    workers: int = 2,
    batched: bool = False,
    video: int = 0,
    run: str | Path | None = None,
    kept: Kept | None = None,
) -> evaluation.Entry:
    """One policy's entry of a report: rollouts on the seeds, then its latency alone; its training as `run` tells.

    policy: what `make` makes, where the caller has it already; kept: where finished rollouts are kept.
    """
    if not seeds:
        raise ConfigError("episodes: expected at least 1, found 0")
    policy = policy or make()
    _try(policy, simulator, seeds[0])
    results = evaluation.rollout(
        partial(sim.make, simulator), make, list(seeds), workers=workers, batched=batched, video=video, progress=True,
        kept=kept,
    )  # fmt: skip
    entry = evaluation.Entry(name, results, latency=timed(policy, simulator, seeds[0]), **provenance.told(policy, run))
    shown = provenance.demonstrated(policy, simulator, seeds)
    return replace(entry, facts={**entry.facts, provenance.SHOWN: shown})


def played(model: str | Path, simulator: str, batched: bool = False, how: Sequence[Any] = ()) -> dict[str, Any]:
    """What rollouts depend on besides their seed: the model's files, the simulator, how it is sampled and stepped."""
    return {**provenance.written(model), "simulator": simulator, "batched": batched, "how": list(how)}


def _try(policy: Policy, simulator: str, seed: int) -> None:
    """One step in the simulator, so that what does not fit together is found here, not in every process."""
    if unnamed := fits_simulator(policy, simulator):
        print(unnamed)
    env = sim.make(simulator)
    controller = control.suited(TimedActor(policy, env.fps))
    controller.reset(seeded(0, seed))
    env.step(controller.step(env.reset(seed=seed)[0]))


def timed(policy: Policy, simulator: str, seed: int) -> evaluation.Latency:
    """What a hundred plans of a policy take on one thread, made at the start of an episode."""
    obs, _ = sim.make(simulator).reset(seed=seed)
    return evaluation.latency(policy, control.history([obs] * policy.n_obs_steps), n=100)


def report(
    entries: list[evaluation.Entry], out: str | Path, *, simulator: str, title: str, commands: list[str]
) -> dict[str, Any]:
    """Writes report.html and report.json on policies judged on a simulator; returns the latter's content."""
    return evaluation.write_report(
        entries, out, title=title, task=sim.task(simulator), unit="px", commands=commands,
        caution=provenance.seeds_caution(entries),
    )  # fmt: skip


def solved(policy: Mapping[str, Any]) -> str:
    """The success of a report's policy in words."""
    success, shown = policy["success"], policy["facts"].get(provenance.SHOWN)
    what = f"seeds ({len(shown)} of them demonstrated)" if shown else "held-out seeds"
    return (
        f"{success['successes']} of {success['episodes']} {what} solved "
        f"({success['rate']:.0%}, 95 % interval {success['low']:.0%} to {success['high']:.0%})"
    )
