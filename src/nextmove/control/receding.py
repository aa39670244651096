"""Receding horizon control: plan a chunk, execute its first actions, plan again from what is seen then.

Shapes: B rows (robots or simulators), T observation steps, H horizon, A action width.
The action due now is `chunk.actions[:, 0]` (Chi et al. 2023, Diffusion Policy, section 3, aligned to the present).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nextmove.contracts import PLAN, Actor, Batch, Feature, ObservationError, Rows

Observation = Mapping[str, Any]
Action = NDArray[np.float32]


def stack_observations(histories: Sequence[Sequence[Observation]]) -> Batch:
    """One batch of B histories of T observations: tensors (B, T, ...) by name; words as a list of the B latest.

    float64 becomes float32, other types stay; a plain number stands for a feature of shape (1,). Raises
    ObservationError where observations do not share their names and shapes, and for what is no number.
    """
    names = histories[0][-1].keys()
    for row, history in enumerate(histories):
        for observation in history:
            if observation.keys() != names:
                raise ObservationError(f"observation: expected {sorted(names)}, found {sorted(observation)}", row=row)
    batch: dict[str, Any] = {}
    for name in names:
        if isinstance(histories[0][-1][name], str):
            batch[name] = [history[-1][name] for history in histories]
            continue
        arrays = [[np.atleast_1d(np.asarray(seen[name])) for seen in history] for history in histories]
        shape = arrays[0][-1].shape
        for row, found in enumerate(arrays):
            for ago, one in enumerate(reversed(found)):
                if one.dtype.kind not in "bifu":
                    raise ObservationError(f"{name}: expected numbers, found {one.dtype}", row=row, ago=ago)
                if one.shape != shape:
                    raise ObservationError(f"{name}: expected shape {shape}, found {one.shape}", row=row, ago=ago)
        array = np.stack([np.stack(found) for found in arrays])
        batch[name] = torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array)
    return batch


def history(observations: Sequence[Observation]) -> Batch:
    """The batch (1, T, ...) of one robot's last T observations, oldest first: what `Actor.act` reads."""
    return stack_observations([observations])


def forget(actor: Actor) -> None:
    """An episode is over: an actor that remembers something of it, which has a method `forget`, does so no longer."""
    own = getattr(actor, "forget", None)
    if own is not None:
        own()


class _Row:
    """The recent observations of one robot, and its queue of actions."""

    def __init__(self, n_obs_steps: int) -> None:
        self.seen: deque[Observation] = deque(maxlen=n_obs_steps)
        self.queue: deque[Action] = deque()
        self.plan: Action | None = None
        self.rng: torch.Generator | None = None
        self.words = ""
        self.ticks = self.plans = 0

    def reset(self, rng: torch.Generator | None) -> None:
        self.seen.clear()
        self.queue.clear()
        self.plan, self.ticks = None, 0
        self.words, self.plans = "", 0
        self.rng = rng or self.rng

    @property
    def looks(self) -> bool:
        """Whether a plan will be made from the next observation: not while it has as many later ones to look at."""
        return len(self.queue) < (self.seen.maxlen or 1)

    def see(self, observation: Observation, lasting: bool) -> None:
        """Adds an observation to the history; the first one fills all of it.

        It is copied, since simulators write into their buffers again, unless the plan made at once is its only reader
        (`lasting` says whether later ones are).
        """
        self.ticks += 1
        if not self.looks:
            return
        steps = self.seen.maxlen or 1
        if self.queue or lasting:
            observation = {k: v if isinstance(v, str) else np.asarray(v).copy() for k, v in observation.items()}
        self.seen.extend([observation] * (1 if self.seen else steps))


class BatchedReceding:
    """Receding horizon control of `rows` robots with one network call for all those whose queue is empty.

    Every row draws from its own generator, so what it draws does not depend on the rows beside it.
    `n_action_steps` overrides how many actions of each chunk are executed (the actor's own number otherwise).
    Of an actor that states its `inputs` (features by name, as a policy does) nothing else is remembered, but its words
    where it states for how many plans they are kept (`plans_a_subtask`).
    """

    def __init__(self, actor: Actor, rows: int, *, n_action_steps: int | None = None) -> None:
        self.actor = actor
        self.n_action_steps = actor.n_action_steps if n_action_steps is None else n_action_steps
        if self.n_action_steps < 1:
            raise ValueError(f"n_action_steps: expected at least 1, found {self.n_action_steps}")
        self._rows = [_Row(actor.n_obs_steps) for _ in range(rows)]
        self._inputs: Mapping[str, Feature] | None = getattr(actor, "inputs", None)
        self._every: int = getattr(actor, "plans_a_subtask", 1)

    def reset(self, row: int, rng: torch.Generator | None = None) -> None:
        """Forgets what row `row` saw and planned; it draws from `rng` from now on (from its former one if absent).

        So does the actor (`forget`).
        """
        self._rows[row].reset(rng)
        forget(self.actor)

    def plan(self, row: int) -> Action | None:
        """The latest whole chunk (H, A) of row `row`, None before its first."""
        return self._rows[row].plan

    def looks(self, row: int) -> bool:
        """Whether row `row` reads its next observation; what it does not read, no camera need take."""
        return self._rows[row].looks

    def step(self, observations: Sequence[Observation | None]) -> list[Action | None]:
        """One action (A,) for every row; rows whose observation is None rest and get None."""
        if len(observations) != len(self._rows):
            raise ValueError(
                f"observations: expected one for each of {len(self._rows)} rows, found {len(observations)}"
            )
        pairs = list(zip(self._rows, observations, strict=True))
        for row, observation in pairs:
            if observation is not None:
                row.see(self._read(observation), lasting=self.n_action_steps < self.actor.n_obs_steps)
        to_replan = [row for row, observation in pairs if observation is not None and not row.queue]
        if to_replan:
            self._replan(to_replan)
        return [None if observation is None else row.queue.popleft() for row, observation in pairs]

    def _read(self, observation: Observation) -> Observation:
        """What the actor reads of it; all of it where something is absent, so that the error names what there is."""
        if self._inputs is None or any(n not in observation and not f.optional for n, f in self._inputs.items()):
            return observation
        return {name: observation[name] for name in self._inputs if name in observation}

    @torch.no_grad()
    def _replan(self, rows: Sequence[_Row]) -> None:
        generators = [row.rng for row in rows if row.rng is not None]
        if len(generators) != len(rows):
            raise ValueError("rng: expected a generator given to reset before the first step, found none")
        try:
            batch = stack_observations([list(row.seen) for row in rows])
            chunk = self.actor.act({**batch, **self._told(rows)}, rng=Rows(generators))
            actions = chunk.actions.float().cpu().numpy().copy()
        except ObservationError as problem:
            if problem.row < 0:
                raise
            row = rows[problem.row]
            where = f"row {self._rows.index(row)}, tick {max(0, row.ticks - 1 - problem.ago)}"
            raise ValueError(f"{problem.problem} (observation of {where})") from None
        n = self.n_action_steps
        if actions.ndim != 3 or actions.shape[0] != len(rows) or actions.shape[1] < n:
            raise ValueError(f"chunk.actions: expected ({len(rows)}, at least {n}, A), found {actions.shape}")
        if not np.isfinite(actions[:, :n]).all():
            raise ValueError("chunk.actions: expected finite numbers, found nan or inf; the actor has diverged")
        for row, plan, words in zip(rows, actions, chunk.words or [""] * len(rows), strict=True):
            row.plan, row.words, row.plans = plan, words, row.plans + 1
            row.queue.extend(plan[:n])

    def _told(self, rows: Sequence[_Row]) -> dict[str, list[str]]:
        """The sub-tasks that are kept of an actor that writes one for several plans, empty where it is written anew."""
        words = [row.words if row.plans % self._every else "" for row in rows]
        return {PLAN: words} if any(words) else {}


class Receding:
    """Receding horizon control of one robot: `reset(rng)` once an episode, then `step(observation)` once a tick.

    The first observation stands in for those before it; the queue holds `n_action_steps` of each chunk.
    """

    def __init__(self, actor: Actor, rng: torch.Generator | None = None, *, n_action_steps: int | None = None) -> None:
        self._one = BatchedReceding(actor, 1, n_action_steps=n_action_steps)
        self._one.reset(0, rng)

    @property
    def n_action_steps(self) -> int:
        """How many actions of each chunk are executed."""
        return self._one.n_action_steps

    @property
    def plan(self) -> Action | None:
        """The latest whole chunk (H, A), None before the first."""
        return self._one.plan(0)

    @property
    def looks(self) -> bool:
        """Whether the next observation is read; one that is not need not be taken."""
        return self._one.looks(0)

    def reset(self, rng: torch.Generator | None = None) -> None:
        """Starts an episode with nothing seen and nothing planned, drawing from `rng` (the former one if absent)."""
        self._one.reset(0, rng)

    def step(self, observation: Observation) -> Action:
        """The action (A,) due now, in the robot's units."""
        (action,) = self._one.step([observation])
        assert action is not None
        return action
