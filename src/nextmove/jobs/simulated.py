"""Policies judged on the tasks of a simulator: a try, rollouts on held-out seeds, latency, and their report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nextmove import control, evaluation, sim
from nextmove.config import ConfigError
from nextmove.contracts import TASK, seeded
from nextmove.evaluation.kept import Kept
from nextmove.evaluation.latency import TimedActor
from nextmove.evaluation.summary import at_end
from nextmove.jobs import provenance
from nextmove.jobs.robot import fits_task, sensors
from nextmove.jobs.simulators import JUDGED, demonstrations_caution, loudly, simulators_caution
from nextmove.models.policy import Policy
from nextmove.sim.shuffled import Shuffled
from nextmove.sim.versions import installed

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
    shuffled: bool = False,
) -> evaluation.Entry:
    """One policy's entry of a report: rollouts on all seeds of a task or suite, its latency alone, its training.

    policy: what `make` makes, where the caller has it already; kept: where finished rollouts are kept; shuffled: every
    task is given the instruction of another.
    """
    if not seeds:
        raise ConfigError("episodes: expected at least 1, found 0")
    tasks = several(simulator, batched)
    policy = policy or make()
    told = exchanged(policy, tasks, name) if shuffled else {}
    for remark in dict.fromkeys(fits_task(policy, task) for task in tasks):
        print(remark, end="\n" if remark else "")
    simulator_now = installed(tasks, cameras=any(any(sensors(policy, task).values()) for task in tasks))
    loudly(demonstrations_caution(name, policy.facts, simulator_now))
    for task in tasks:
        _try(policy, task, seeds[0])
    results = evaluation.rollout(
        {task.name: partial(sim.make, task, **sensors(policy, task), **told.get(task.name, {})) for task in tasks},
        make, list(seeds),
        workers=workers, batched=batched, video=video, progress=True, kept=kept,
    )  # fmt: skip
    entry = evaluation.Entry(
        name, results, latency=timed(policy, simulator, seeds[0]), **provenance.training_record(policy, run)
    )
    facts = {**entry.facts, provenance.SHOWN: provenance.demonstrated(policy, simulator, seeds), JUDGED: simulator_now}
    return replace(entry, facts=facts | ({"instruction": "that of another task of the suite"} if shuffled else {}))


def exchanged(policy: Policy, tasks: Sequence[sim.Task], name: str) -> dict[str, dict[str, Any]]:
    """By task the setting of `sim.make` by which it is given another's instruction.

    Raises ConfigError for a policy that reads none, SimulatorError where tasks have no others.
    """
    if TASK not in policy.inputs:
        raise ConfigError(f"shuffled: {name} reads no instruction, only {', '.join(policy.inputs)}; leave it out")
    return {task.name: {"told": Shuffled.of(task, tasks)} for task in tasks}


def several(simulator: str, batched: bool) -> tuple[sim.Task, ...]:
    """The tasks of this name; raises ConfigError where they cannot be stepped side by side in one process."""
    tasks = sim.find(simulator)
    for task in tasks:
        if batched and task.one_per_process:
            raise ConfigError(
                f"batched: a process can hold only one environment of {task.name} ({task.simulator}), and batched "
                "steps many in one; --no-batched runs each in a process of its own"
            )
    return tasks


def played(model: str | Path, simulator: str, batched: bool = False, how: Sequence[Any] = ()) -> dict[str, Any]:
    """What rollouts depend on besides task and seed: the model's files, the suite, how it is sampled and stepped."""
    tasks = sim.find(simulator)
    what: dict[str, Any] = {"simulator": simulator} | (
        {"tasks": [task.name for task in tasks]} if len(tasks) > 1 else {}
    )
    what["versions"] = installed(tasks, cameras=True)
    return {**provenance.written(model), **what, "batched": batched, "how": list(how)}


def _try(policy: Policy, task: sim.Task, seed: int) -> None:
    """One step of the task, so that what does not fit together is found here, not in every process."""
    with closing(sim.make(task, **sensors(policy, task))) as env:
        controller = control.suited(TimedActor(policy, env.fps))
        controller.reset(seeded(0, seed))
        env.step(controller.step(env.reset(seed=seed)[0]))


def timed(policy: Policy, simulator: str, seed: int) -> evaluation.Latency:
    """What a hundred plans of a policy take on one thread, made at the start of an episode of the first task."""
    task = sim.find(simulator)[0]
    with closing(sim.make(task, **sensors(policy, task))) as env:
        obs, _ = env.reset(seed=seed)
    return evaluation.latency(policy, control.history([obs] * policy.n_obs_steps), n=100)


def report(
    entries: list[evaluation.Entry],
    out: str | Path,
    *,
    simulator: str,
    title: str,
    commands: list[str],
    notes: str = "",
) -> dict[str, Any]:
    """Writes report.html and report.json on policies judged on a task or suite; returns the latter's content."""
    tasks = sim.find(simulator)
    alone = tasks[0].instruction if len(tasks) == 1 else f"{len(tasks)} tasks of {simulator}."
    return evaluation.write_report(
        entries, out, title=title, task=alone, tasks={task.name: task.instruction for task in tasks},
        unit=" or ".join(dict.fromkeys(task.unit for task in tasks)), commands=commands, notes=notes,
        caution=f"{provenance.seeds_caution(entries)} {simulators_caution(entries, simulator)}".strip(),
        versions=installed(tasks, cameras=False)["packages"],
    )  # fmt: skip


def solved(policy: Mapping[str, Any]) -> str:
    """The success of a report's policy as text."""
    success, shown = policy["success"], provenance.shown_seeds(policy["facts"])
    tasks = f" of {len(policy['tasks'])} tasks" if len(policy["tasks"]) > 1 else ""
    what = f"seeds{tasks} ({len(shown)} of them demonstrated)" if shown else f"held-out seeds{tasks}"
    held = at_end(policy)
    return (
        f"{success['successes']} of {success['episodes']} {what} solved "
        f"({success['rate']:.0%}, 95 % interval {success['low']:.0%} to {success['high']:.0%})"
        f"{held and f'; {held}'}"
    )
