"""The difference between a policy's plans in another precision and in float32.

Shapes: B plans, H horizon, A action width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nextmove.contracts import Actor, Batch, Rows, seeded


@dataclass(frozen=True)
class Difference:
    """Of all actions of `plans` plans: in the robot's units, and as a share of the spread of their dimension."""

    largest: float
    rms: float
    largest_share: float
    rms_share: float
    plans: int

    def __str__(self) -> str:
        return (
            f"over {self.plans} plans actions differ from float32's by at most {self.largest:.3g} "
            f"({self.largest_share:.2%} of their spread), rms {self.rms:.3g} ({self.rms_share:.2%})"
        )


@torch.no_grad()
def difference(policy: Actor, reference: Actor, observations: Sequence[Batch]) -> Difference:
    """The plans of two actors for the same observations, each a batch of one or more histories, with the same noise.

    The spread of a dimension is the standard deviation of the reference's actions, over plans and steps; a dimension
    that has none counts in the robot's units only. Raises ValueError without observations.
    """
    if not observations:
        raise ValueError("observations: expected at least one, found none")
    plans: list[list[torch.Tensor]] = [[], []]
    for number, obs in enumerate(observations):
        rows = len(next(value for value in obs.values() if isinstance(value, torch.Tensor)))
        for found, actor in zip(plans, (policy, reference), strict=True):
            rng = Rows([seeded(0, number, row) for row in range(rows)])
            found.append(actor.act(obs, rng=rng).actions.double().cpu())
    mine, theirs = (torch.cat(found).flatten(0, 1) for found in plans)
    apart, spread = mine - theirs, theirs.std(0, correction=0)
    share = (apart / spread)[:, spread > 0]
    return Difference(
        largest=float(apart.abs().max()),
        rms=float(apart.square().mean().sqrt()),
        largest_share=float(share.abs().max()) if share.numel() else 0.0,
        rms_share=float(share.square().mean().sqrt()) if share.numel() else 0.0,
        plans=sum(map(len, plans[0])),
    )
