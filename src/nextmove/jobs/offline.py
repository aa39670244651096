"""A policy's plans beside demonstrations: which episodes, which windows of them, and what is known to the baselines."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nextmove import data as sets
from nextmove import evaluation
from nextmove.codecs.scaled import constant
from nextmove.data.stats import check_finite
from nextmove.jobs.robot import fits_data
from nextmove.models.policy import Policy

STATE = "observation.state"
PAST = 2
"""Actions before the plan that the baselines may know."""
BATCH = 256


def offline(policy: Policy, data: Path | str, *, windows: int = 2048) -> tuple[evaluation.Offline, str]:
    """Errors of a policy and of the baselines on a data set, and in words what they were measured on.

    windows: how many, evenly out of all frames of the episodes; 0 for all.
    """
    dataset = sets.open_dataset(data)
    unnamed = fits_data(policy, dataset)
    chosen, whose = episodes(policy, dataset, data)
    features, state = list(policy.encoder.features), held_state(dataset)
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
    return (
        found,
        f"Plans beside what was demonstrated in {data}: {len(picks)} windows out of {whose}. {unnamed}".strip(),
    )


def episodes(policy: Policy, dataset: sets.Dataset, data: Path | str) -> tuple[sets.Dataset, str]:
    """The episodes to judge a policy on, and in words: those kept from its training, if it was trained on this set."""
    facts = getattr(policy, "facts", {})
    kept = facts.get("held_episodes", []) if _same(data, facts.get("data")) else None
    if kept is None:
        return dataset, "all its episodes"
    if not kept:
        return dataset, "all its episodes, which the policy was trained on"
    return dataset.select(kept), f"the {len(kept)} episodes kept from training"


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


def _same(data: Path | str, known: str | None) -> bool:
    """Whether a folder is the one the policy was trained on."""
    return known is not None and Path(known).resolve() == Path(data).resolve()
