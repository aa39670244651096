"""Which noise belongs to which data: minibatch optimal transport, and a trained model's own pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from nextmove.contracts import Context, Rng, normal


class NoiseSampler(Protocol):
    """A decoder that can be started from given noise."""

    def sample(
        self, ctx: Context, *, shape: Sequence[int], rng: Rng, noise: Tensor | None, steps: int | None
    ) -> Tensor:
        """x of shape (B, *shape)."""
        ...


def optimal(noise: Tensor, x: Tensor) -> Tensor:
    """The rows of `noise` in the order that pairs them with those of x at the least total squared distance.

    Exact assignment in the batch (Pooladian et al. 2023; Tong et al. 2024). x keeps its order, and with it
    its conditions; a batch that mixes conditions biases the conditional model, because the pairing ignores them.
    """
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(x.detach().flatten(1).double(), noise.flatten(1).double()) ** 2
    _, columns = linear_sum_assignment(cost.cpu().numpy())
    return noise[torch.as_tensor(columns, device=noise.device)]


def reflow_pairs(
    decoder: NoiseSampler, ctx: Context, *, shape: Sequence[int], rng: Rng, steps: int | None = None
) -> tuple[Tensor, Tensor]:
    """Noise and what a trained deterministic sampler makes of it, (B, *shape) each (Liu et al. 2023).

    Train another linear-path flow with `loss_at(ctx, x, t=..., noise=noise)` on these pairs: its paths are straighter.
    Use many steps and an ODE solver.
    """
    noise = normal((ctx.batch, *shape), rng)
    x = decoder.sample(ctx, shape=shape, rng=rng, noise=noise, steps=steps)
    return noise.to(x), x
