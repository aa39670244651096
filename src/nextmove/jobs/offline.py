"""A policy's plans beside demonstrations: which episodes, which windows of them, and what is known to the baselines."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nextmove import data as sets
from nextmove import evaluation
from nextmove.codecs.scaled import constant
from nextmove.data.order import check_order
from nextmove.data.stats import check_finite
from nextmove.jobs.provenance import Choice, choose
from nextmove.jobs.robot import fits_data
from nextmove.models.policy import Policy

STATE = "observation.state"
PAST = 2
"""Actions before the plan that the baselines may know."""
BATCH = 256


def offline(policy: Policy, data: Path | str, *, windows: int = 2048) -> tuple[evaluation.Offline, str, Choice]:
    """Errors of a policy and of the baselines on a data set, in words what they were measured on, and the episodes.

    windows: how many, evenly out of all frames of the episodes; 0 for all.
    """
    dataset = sets.open_dataset(data)
    unnamed = fits_data(policy, dataset)
    choice = choose(policy, dataset)
    chosen = dataset.select(choice.episodes)
    features, state = list(policy.encoder.features), held_state(dataset)
    check_order(chosen)
    check_finite(chosen, [*features, "action"])
    judged = sets.Windows(
        chosen,
        observations=list(dict.fromkeys([*features, *([state] if state else [])])),
        obs_offsets=policy.timing.obs_offsets,
        action_offsets=range(-max(PAST, policy.timing.first), policy.horizon - policy.timing.first),
    )
    picks = np.linspace(0, len(judged) - 1, min(len(judged), windows or len(judged))).astype(np.int64)
    batches = [judged.batch(part) for part in np.array_split(picks, max(1, len(picks) // BATCH))]
    found = evaluation.offline(
        policy, batches, now=max(PAST, policy.timing.first), latency_calls=100, state=state,
        spread=spread(chosen),
    )  # fmt: skip
    what = f"{len(picks)} windows out of {choice.sentence}."
    return found, f"Plans beside what was demonstrated in {data}: {what} {unnamed}".strip(), choice


def spread(dataset: sets.Dataset) -> np.ndarray:
    """(A,) standard deviation of the actions of the selected episodes; 0 where they never move."""
    actions = dataset.column("action")[dataset.rows].reshape(len(dataset), -1).astype(np.float64)
    return np.where(constant(actions.min(0), actions.max(0)), 0.0, actions.std(0))


def held_state(dataset: sets.Dataset) -> str | None:
    """The feature that holds the robot where an action would put it: the state, where it has the action's width."""
    features = dataset.layout.features
    state = features.get(STATE)
    same = state is not None and state.is_number and state.shape == features["action"].shape
    return STATE if same else None
