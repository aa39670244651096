"""Demonstrations to a saved policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nextmove import data, store, training
from nextmove.contracts import TASK, Feature
from nextmove.data.order import check_order
from nextmove.data.stats import check_finite
from nextmove.data.suspects import suspects
from nextmove.jobs import provenance
from nextmove.jobs.fit import Task, fit, held_batches
from nextmove.jobs.repeat import at_least, place, share
from nextmove.jobs.robot import inputs_of, known_by, number_features
from nextmove.jobs.scales import Columns
from nextmove.models.policy import Policy, PolicySpec
from nextmove.training.distributed import alone

FINDINGS = 12
"""Lines about the data at the start of a training."""


def spec_of(dataset: data.Dataset) -> PolicySpec:
    """The robot of a data set: its states, cameras, point clouds and instruction, its action and rate.

    Raises ValueError for a data set without an `action` of one axis or without an observed feature.
    """
    observed = {n: column for n, column in dataset.layout.features.items() if n.startswith("observation.")}
    inputs = inputs_of(observed)
    action = dataset.layout.features.get("action")
    if action is None:
        raise ValueError(f"{dataset.root}: expected a feature 'action', found {sorted(dataset.features)}")
    if not action.is_number or len(action.shape) != 1:
        found = f"{action.dtype} of shape {list(action.shape)}"
        raise ValueError(f"{dataset.root}: action: expected numbers of one axis, as shape [7], found {found}")
    if not inputs:
        raise ValueError(f"{dataset.root}: expected a feature 'observation.*', found {sorted(dataset.features)}")
    if dataset.tasks:
        inputs[TASK] = Feature("text")
    return PolicySpec(inputs, action.shape[0], float(dataset.fps), action.names)


def unused(dataset: data.Dataset, policy: Policy) -> list[str]:
    """Observed features of a data set that the policy does not look at."""
    observed = [name for name in dataset.layout.features if name.startswith("observation.")]
    return [name for name in observed if name not in policy.inputs]


def windows(dataset: data.Dataset, policy: Policy, episodes: np.ndarray | None) -> data.Windows:
    """The windows a policy is trained or judged on."""
    return data.Windows(
        dataset,
        observations=policy.features,
        obs_offsets=policy.timing.obs_offsets,
        action_offsets=policy.timing.action_offsets,
        episodes=episodes,
    )


def train(
    system: str,
    data_dir: str | Path,
    *,
    out: str | Path | None = None,
    minutes: float = 0.0,
    clock: Literal["wall", "busy"] = "wall",
    steps: int = 0,
    episodes: int = 0,
    holdout: float = 0.05,
    leave_out: tuple[int, ...] = (),
    seed: int = 0,
    workers: int = 0,
    threads: int = 2,
    accumulate: int = 1,
    bf16: Literal["auto", "on", "off"] = "auto",
    device: str = "cpu",
    save_every: int = 0,
    validate_every: int = 0,
    log_every: int = 50,
    resume: bool = False,
    recipe: Any = None,
) -> Policy:
    """Trains a policy on a LeRobot-format data set and saves it as OUT/model; returns it with its averaged weights.

    Exactly one of `minutes` and `steps` is the budget. OUT also holds train.jsonl, TensorBoard events and the
    checkpoints that `resume` goes on from.

    Args:
        system: Name of a built system (`nextmove systems`).
        data_dir: Folder of the data set, LeRobot v3.0 or v2.1.
        out: Folder for the run; default runs/SYSTEM.
        minutes: Budget in minutes of training.
        clock: Minutes on the wall, or busy ones: processor time, from which other programs take nothing.
        steps: Budget in optimiser steps.
        episodes: Use only the first so many episodes; 0 means all.
        holdout: Share of episodes kept for the validation loss.
        leave_out: Numbers of episodes that are neither trained on nor validated with, so that they can be judged on.
        seed: Decides initial weights, order, noise and dropout.
        workers: Processes that load data; 0 loads in the training process, which is fastest for states.
        threads: Threads of the arithmetic.
        accumulate: Gradient steps summed into one optimiser step.
        bf16: Mixed precision; auto switches it on where this machine multiplies faster in it, which is measured.
        device: cpu or cuda.
        save_every: Steps between checkpoints; 0: every 20 seconds, less often where writing one takes long.
        validate_every: Steps between validations; 0: ten times a run.
        log_every: Steps that a line of train.jsonl and TensorBoard is the mean of.
        resume: Go on from the run's last checkpoint; where there is none, begin.
        recipe: Sizes and settings of the system.

    Raises:
        ConfigError, DataError, CheckpointError: for an option, a data set or a checkpoint that does not fit, and other
            ValueErrors for numbers out of bounds; the message names field or file.
        FileExistsError: where OUT holds a run and `resume` is off.
        InUseError: where another run writes into OUT.
        DivergedError: where the loss is not finite any more; the last checkpoint stays.
        OSError: for a disk that is full, naming the file.
        StoppedError: a KeyboardInterrupt, when SIGINT or SIGTERM asked it to stop; it says what is kept.
    """
    config = training.TrainConfig(
        steps=steps, minutes=minutes, clock=clock, seed=seed, threads=threads, bf16=bf16, accumulate=accumulate,
        save_every=save_every, validate_every=validate_every, log_every=log_every, resume=resume, device=device,
    )  # fmt: skip
    at_least(0, workers=workers)
    share(holdout=holdout)
    out = place(Path(out) if out else Path("runs") / system)
    with alone(out):
        return _train(system, data_dir, out, config, episodes, holdout, leave_out, workers, recipe)


def _train(
    system: str,
    data_dir: Path | str,
    out: Path,
    config: training.TrainConfig,
    episodes: int,
    holdout: float,
    leave_out: tuple[int, ...],
    workers: int,
    recipe: Any,
) -> Policy:
    import torch

    dataset = data.open_dataset(data_dir)
    spec = spec_of(dataset)
    torch.manual_seed(config.seed)
    policy = store.create(system, spec, recipe)
    if left := unused(dataset, policy):
        print(f"not used: {', '.join(left)} (recipe.encoder.parts says what the policy looks at)")
    check_order(dataset)
    chosen, held = split(dataset, episodes, holdout, config.seed, leave_out)
    print(kept_back(held, len(chosen), holdout))
    look(dataset.select(np.concatenate([chosen, held])), [*number_features(policy), "action"])
    seen = windows(dataset, policy, chosen)
    policy.fit(Columns(seen))
    judged = held_batches(windows(dataset, policy, held), policy.card["recipe"].optim.batch, 1024) if len(held) else []
    facts: dict[str, Any] = {"data": str(data_dir), "episodes": len(chosen), "windows": len(seen)}
    facts["held_episodes"] = held.tolist()
    facts["content"] = provenance.content(dataset, known_by(policy), chosen, held)
    task = Task(policy, seen, judged, facts)
    trained: Policy = fit(task, out, config, workers=workers)
    return trained


def look(dataset: data.Dataset, names: Sequence[str]) -> None:
    """Says what the doctor finds in the features that are used; raises DataError where training would mean nothing."""
    check_finite(dataset, names)
    found = sorted(suspects(dataset, names), key=lambda finding: finding.level)
    for finding in found[:FINDINGS]:
        print(finding)
    if len(found) > FINDINGS:
        print(f"and {len(found) - FINDINGS} more; `nextmove inspect {dataset.root}` lists all")
    broken = next((finding for finding in found if finding.level == "error"), None)
    if broken:
        raise data.DataError(
            f"{dataset.root}: {broken}; mend the episode or leave it out (--leave-out {broken.episode})"
        )


def split(
    dataset: data.Dataset, episodes: int, holdout: float, seed: int, leave_out: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Episode numbers for training and for the validation loss, out of the first `episodes` (0: all) not left out.

    Of two or more episodes at least one is kept for the validation loss, unless `holdout` is 0.
    """
    for number in leave_out:
        if not 0 <= number < dataset.num_episodes:
            raise ValueError(f"leave_out: expected episodes 0 to {dataset.num_episodes - 1}, found {number}")
    rest = np.setdiff1d(np.arange(dataset.num_episodes), np.array(leave_out, np.int64))
    if episodes < 0 or episodes > len(rest) or not len(rest):
        raise ValueError(f"episodes: expected 0 to {len(rest)}, found {episodes}")
    count = episodes or len(rest)
    order = np.random.default_rng([seed, 1]).permutation(count)
    held = max(round(count * holdout), int(holdout > 0 and count > 1))
    if held >= count:
        raise ValueError(f"holdout: expected to leave an episode for training, found {holdout} of {count}")
    kept = count - held
    return rest[np.sort(order[:kept])], rest[np.sort(order[kept:])]


def kept_back(held: np.ndarray, left: int, holdout: float) -> str:
    """What is said of the episodes that training does not see."""
    if len(held):
        some = ", ".join(map(str, held[:8])) + ", ..." * (len(held) > 8)
        return f"validation loss: {len(held)} of {len(held) + left} episodes are kept for it ({some})"
    why = "holdout is 0" if not holdout else "one episode cannot be divided; train on two or more to have one"
    return f"validation loss: none, {why}"
