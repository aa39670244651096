"""The error of a runtime's precision: plans beside those in float32, for observations that it is judged on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nextmove import control, sim
from nextmove import data as sets
from nextmove.contracts import Batch, Chunk, Known, Rng, seeded
from nextmove.evaluation.entry import Entry
from nextmove.evaluation.latency import TimedActor
from nextmove.jobs.left_out import remaining
from nextmove.jobs.robot import read_features, sensors
from nextmove.models.policy import Policy
from nextmove.runtime import LEAST, Precision, Ranges, calibrate, difference
from nextmove.runtime.unchanged import Unchanged

PLANS = 32
CALIBRATED = 8
"""Observations that ranges are found on."""
SEEDS = 4
"""Episodes that observations are taken from."""


@dataclass(frozen=True)
class Float32:
    """The float32 reference: `make` gives the policy as torch computes it."""

    precision: Precision
    make: Callable[[], Policy]
    least_weights: int = LEAST
    """Of a product that w8a8 rounds."""
    unchanged: float | None = None
    """Levels up to which the tokens of a picture are kept."""

    def beside(self, entry: Entry, policy: Policy, shown: Callable[[Policy], list[Batch]]) -> Entry:
        """The entry of a report with how far the policy's plans are from float32's among its facts, also printed.

        So are those of a policy that keeps the tokens of pictures, with how many it kept.
        """
        if self.precision == "float32" and self.unchanged is None:
            return entry
        before = _kept(policy)
        observations = shown(policy)
        kept, asked = (now - then for now, then in zip(_kept(policy), before, strict=True))
        policy.forget()
        reference = self.make()
        # What does not see is compared with what does not either, from the same noise.
        reference.blind = policy.blind
        apart = difference(policy, reference, observations)
        looked = f"; {kept} of {asked} pictures kept their tokens" if asked else ""
        found = f"{self._what()}: {apart}{looked}"
        print(found)
        return replace(entry, facts={**entry.facts, "precision": found})

    def _what(self) -> str:
        w8a8, levels = f"w8a8 (products of at least {self.least_weights} weights)", self.unchanged
        named = [w8a8 if self.precision == "w8a8" else self.precision]
        return ", ".join(named if levels is None else [*named, f"unchanged up to {levels:g} levels"])


def _kept(policy: Policy) -> tuple[int, int]:
    """How many pictures kept their tokens since the policy was loaded, and of how many."""
    found = [one for one in policy.networks().values() if isinstance(one, Unchanged)]
    return sum(one.kept for one in found), sum(one.asked for one in found)


def of_task(policy: Policy, task: str, seed: int) -> list[Batch]:
    """What the policy sees in the first episodes of a task, of a suite its first, from `seed` on, as it acts."""
    first, shown = sim.find(task)[0], _Shown(policy)
    with closing(sim.make(first, **sensors(policy, first))) as env:
        for episode in range(seed, seed + SEEDS):
            controller = control.suited(TimedActor(shown, env.fps))
            controller.reset(seeded(0, episode))
            obs, enough = env.reset(seed=episode)[0], len(shown.seen) + PLANS // SEEDS
            while len(shown.seen) < enough:
                obs, _, terminated, truncated, _ = env.step(controller.step(obs))
                if terminated or truncated:
                    break
    return shown.seen


def of_data(policy: Policy, data: str | Path, leave_out: Sequence[int] = ()) -> list[Batch]:
    """Observations evenly out of all frames of a data set, but for those of the episodes left out."""
    dataset = sets.open_dataset(data)
    dataset = dataset.select(remaining(dataset, leave_out))
    timing = policy.timing
    windows = sets.Windows(
        dataset, observations=read_features(policy, dataset), obs_offsets=timing.obs_offsets,
        action_offsets=timing.action_offsets,
    )  # fmt: skip
    picks = np.linspace(0, len(windows) - 1, min(len(windows), PLANS)).astype(np.int64)
    return [windows.batch(picks[i : i + 1]) for i in range(len(picks))]


def ranges(
    policy: Policy, task: str, data: str | Path | None, leave_out: Sequence[int] = (), least_weights: int = LEAST
) -> Ranges:
    """What `runtime.calibrate` finds on a quarter of what the policy sees, in a simulator's seeds from 0 on."""
    shown = of_task(policy, task, 0) if data is None else of_data(policy, data, leave_out)
    return calibrate(policy, shown[:: len(shown) // CALIBRATED or 1], least_weights)


class _Shown:
    """The same actor, remembering what it was shown."""

    def __init__(self, actor: Policy) -> None:
        self.actor, self.seen = actor, list[Batch]()
        self.n_obs_steps, self.n_action_steps, self.horizon = actor.n_obs_steps, actor.n_action_steps, actor.horizon
        self.ensemble = actor.ensemble

    def act(self, obs: Batch, *, rng: Rng, known: Known | None = None) -> Chunk:
        """The actor's plan."""
        self.seen.append(obs)
        return self.actor.act(obs, rng=rng, known=known)

    def forget(self) -> None:
        """An episode is over for the actor too."""
        self.actor.forget()
