"""Class labels to a context, with a row for "no label".

Shapes: B batch, K classes, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Feature, Numbers, Rng


class Labels(nn.Module):
    """A learned row per class as the context's vector (B, D); row K, that of no label, is its null context.

    Classifier-free guidance trains both from one network (Ho & Salimans 2022).
    """

    def __init__(self, classes: int, width: int) -> None:
        """Raises ValueError unless there is at least one class."""
        super().__init__()
        if classes < 1:
            raise ValueError(f"classes: expected at least 1, found {classes}")
        self.classes, self.width = classes, width
        self.table = nn.Embedding(classes + 1, width)
        nn.init.normal_(self.table.weight, std=0.02)

    @property
    def spec(self) -> ContextSpec:
        """What networks built on this encoder may rely on."""
        return ContextSpec(vector=self.width)

    @property
    def inputs(self) -> dict[str, Feature]:
        """The label, which may be absent."""
        return {"label": Feature("label", optional=True)}

    def fit(self, numbers: Numbers) -> None:
        """Nothing: labels are no numbers."""

    def forward(self, inputs: Mapping[str, Any], *, batch: int, rng: Rng | None = None) -> Context:
        """The context of `inputs["label"]` (B,) integers in 0 .. K - 1, or of no label where it is absent.

        Raises ValueError for labels of another shape, type or range.
        """
        null = self.table(torch.full((batch,), self.classes, device=self.table.weight.device))
        label = inputs.get("label")
        vector = null if label is None else self.table(self._checked(label, batch))
        return Context(batch, vector=vector, null=Context(batch, vector=null))

    def _checked(self, label: Tensor, batch: int) -> Tensor:
        if tuple(label.shape) != (batch,) or label.is_floating_point() or label.dtype == torch.bool:
            raise ValueError(f"label: expected ({batch},) integers, found {tuple(label.shape)} {label.dtype}")
        outside = label[(label < 0) | (label >= self.classes)]
        if len(outside):
            raise ValueError(f"label: expected 0 to {self.classes - 1}, found {int(outside[0])}")
        return label.to(self.table.weight.device, torch.int64)
