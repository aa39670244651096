"""Reflow: a flow trained anew on a trained flow's own pairs of noise and data, whose paths are straighter (Liu 2023).

A pair (noise, x) joins the two ends of one path of the teacher. Lines between such ends cross less than those between
noise and data drawn apart, so that the second flow needs fewer steps (Liu et al. 2023, sections 2.2 and 3.2).
Shapes: B batch, N pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from nextmove.contracts import Context, Rng
from nextmove.decoders.pairing import reflow_pairs


class Teacher(Protocol):
    """A trained generator (models.generator.Generator): its decoder, the shape of its x and its encoder."""

    decoder: Any
    shape: tuple[int, ...]

    def context(self, inputs: Mapping[str, Any], batch: int) -> Context:
        """The condition of the decoder."""
        ...


@dataclass(frozen=True)
class Pairs:
    """`noise` and `x` (N, ...) in the decoder's space that belong together, and the `label` (N,) they were made for."""

    noise: Tensor
    x: Tensor
    label: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: Sequence[int] | np.ndarray | Tensor) -> dict[str, Tensor]:
        """`x`, `noise` and, where there are labels, `label` of these pairs: what `DiffusionDecoder.loss` needs."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        out = {"x": self.x[chosen], "noise": self.noise[chosen]}
        return out if self.label is None else {**out, "label": self.label[chosen]}

    def take(self, chosen: slice) -> Pairs:
        """These pairs as a set of their own."""
        return Pairs(self.noise[chosen], self.x[chosen], None if self.label is None else self.label[chosen])


@torch.no_grad()
def simulate(
    teacher: Teacher, n: int, *, rng: Rng, steps: int = 50, batch: int = 256, label: Tensor | None = None
) -> Pairs:
    """n pairs made by the teacher's own sampler in `steps` steps, `batch` at a time; label: (n,), its condition.

    The sampler must be deterministic, and accurate (Heun, midpoint): errors of the pairs become the student's.
    """
    made = []
    for start in range(0, n, batch):
        count = min(batch, n - start)
        condition = {} if label is None else {"label": label[start : start + count]}
        ctx = teacher.context(condition, count)
        made.append(reflow_pairs(teacher.decoder, ctx, shape=teacher.shape, rng=rng, steps=steps))
    noise, x = (torch.cat(part) for part in zip(*made, strict=True))
    return Pairs(noise, x, label)
