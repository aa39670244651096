"""Temporal ensembling: plan at every tick and execute the mean of all that was planned for now.

Zhao et al. 2023 (ACT), algorithm 2: the prediction made i ticks after the oldest has weight exp(-m i), so that with
m > 0 the oldest weighs most. Shapes: T ticks, B rows, H horizon, A action width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nextmove.contracts import Actor
from nextmove.control.receding import Action, BatchedReceding, Observation


class TemporalEnsemble:
    """The running means of overlapping plans; `step` takes the newest plan and gives the action due now.

    coefficient: m; 0 weighs all alike, below 0 the newest weighs most.
    """

    def __init__(self, coefficient: float = 0.01) -> None:
        self.coefficient = coefficient
        self.reset()

    def reset(self) -> None:
        """Forgets all plans."""
        self._mean: Tensor | None = None
        self._count = torch.empty(0, dtype=torch.long)

    def step(self, plan: Tensor) -> Tensor:
        """The newest plan (B, H, A), whose first action is due now -> what to do now (B, A)."""
        horizon = plan.shape[1]
        if self._mean is None or horizon == 1:
            self._mean, self._count = plan.clone(), torch.ones(horizon, dtype=torch.long)
        else:
            if self._mean.shape[1] != horizon - 1:
                raise ValueError(f"plan: expected {self._mean.shape[1] + 1} steps as before, found {horizon}")
            share = self._shares(horizon)[self._count].to(plan)[:, None]
            known = torch.lerp(self._mean, plan[:, :-1], share)
            self._mean = torch.cat([known, plan[:, -1:]], 1)
            self._count = torch.cat([self._count + 1, torch.ones(1, dtype=torch.long)])
        now = self._mean[:, 0]
        self._mean, self._count = self._mean[:, 1:], self._count[1:]
        return now

    def _shares(self, horizon: int) -> Tensor:
        """The share of the newest of k + 1 predictions in their mean, exp(-m k) over the sum of exp(-m i), i <= k."""
        return 1 / torch.exp(self.coefficient * torch.arange(horizon, dtype=torch.float64)).cumsum(0)


class BatchedEnsembling:
    """Control of `rows` robots by temporal ensembling, one network call a tick for all that are not at rest."""

    def __init__(self, actor: Actor, rows: int, *, coefficient: float = 0.01) -> None:
        self._plans = BatchedReceding(actor, rows, n_action_steps=1)
        self._ensembles = [TemporalEnsemble(coefficient) for _ in range(rows)]

    @property
    def n_action_steps(self) -> int:
        """Ticks between plans."""
        return 1

    def reset(self, row: int, rng: torch.Generator | None = None) -> None:
        """Forgets what row `row` saw and planned; it draws from `rng` from now on (from its former one if absent)."""
        self._plans.reset(row, rng)
        self._ensembles[row].reset()

    def plan(self, row: int) -> Action | None:
        """The latest whole chunk (H, A) of row `row`, None before its first."""
        return self._plans.plan(row)

    def looks(self, row: int) -> bool:
        """Whether row `row` reads its next observation: every one."""
        return self._plans.looks(row)

    def step(self, observations: Sequence[Observation | None]) -> list[Action | None]:
        """One action (A,) for every row; rows whose observation is None rest and get None."""
        made = self._plans.step(observations)
        return [None if action is None else self._mean(row) for row, action in enumerate(made)]

    def _mean(self, row: int) -> Action:
        plan = self._plans.plan(row)
        assert plan is not None
        action: Action = self._ensembles[row].step(torch.from_numpy(plan)[None])[0].numpy()
        return action


class Ensembling:
    """Control of one robot by temporal ensembling: `reset(rng)` once an episode, `step(observation)` once a tick."""

    def __init__(self, actor: Actor, rng: torch.Generator | None = None, *, coefficient: float = 0.01) -> None:
        self._one = BatchedEnsembling(actor, 1, coefficient=coefficient)
        self._one.reset(0, rng)

    @property
    def n_action_steps(self) -> int:
        """Ticks between plans."""
        return 1

    @property
    def plan(self) -> Action | None:
        """The latest whole chunk (H, A), None before the first."""
        return self._one.plan(0)

    def reset(self, rng: torch.Generator | None = None) -> None:
        """Starts an episode with nothing seen and nothing planned, drawing from `rng` (the former one if absent)."""
        self._one.reset(0, rng)

    def step(self, observation: Observation) -> Action:
        """The action (A,) due now, in the robot's units."""
        (action,) = self._one.step([observation])
        assert action is not None
        return action
