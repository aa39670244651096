"""Observations under other names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from nextmove.contracts import Context, ContextSpec, Feature, Numbers, Rng
from nextmove.encoders import ObservationEncoder


class Renamed(nn.Module):
    """An encoder whose inputs are called differently outside; `names` maps outer to inner names, others pass."""

    def __init__(self, encoder: ObservationEncoder, names: Mapping[str, str]) -> None:
        super().__init__()
        self.encoder, self.names = encoder, dict(names)

    @property
    def spec(self) -> ContextSpec:
        """What networks built on the encoder may rely on."""
        return self.encoder.spec

    @property
    def inputs(self) -> dict[str, Feature]:
        """What it reads, by outer names."""
        outer = {inner: name for name, inner in self.names.items()}
        return {outer.get(name, name): feature for name, feature in self.encoder.inputs.items()}

    def fit(self, numbers: Numbers) -> None:
        """Raises ValueError: the statistics are a checkpoint's own."""
        self.encoder.fit(numbers)

    def forward(self, inputs: Mapping[str, Any], *, batch: int, rng: Rng | None = None) -> Context:
        """The context of the renamed observations."""
        inner = {self.names.get(name, name): value for name, value in inputs.items()}
        context: Context = self.encoder(inner, batch=batch, rng=rng)
        return context
