"""Observations under other names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Rng
from nextmove.encoders import Observation


class Renamed(nn.Module):
    """An encoder whose inputs are called differently outside; `names` maps outer to inner names, others pass."""

    def __init__(self, encoder: Observation, names: Mapping[str, str]) -> None:
        super().__init__()
        self.encoder, self.names = encoder, dict(names)

    @property
    def spec(self) -> ContextSpec:
        """What networks built on the encoder may rely on."""
        return self.encoder.spec

    @property
    def features(self) -> dict[str, int]:
        """Widths of the features read, by their outer names."""
        outer = {inner: name for name, inner in self.names.items()}
        return {outer.get(name, name): width for name, width in self.encoder.features.items()}

    def forward(self, obs: Mapping[str, Tensor], rng: Rng | None = None) -> Context:
        """The context of the renamed observations."""
        told: Context = self.encoder({self.names.get(name, name): value for name, value in obs.items()}, rng)
        return told
