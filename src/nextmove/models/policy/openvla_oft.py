"""OpenVLA-OFT: all actions of a chunk in one pass (Kim et al. 2025).

What changed over OpenVLA: placeholders stand where words of actions stood, everything sees everything, and a head reads
a whole chunk off the placeholders as numbers; several cameras and the robot's state are shown, and words may scale and
shift what the towers see (`VisionTower.film`).

How it is composed: `Reading` whose tokens are not read there (`read=False`) -> `Continued(whole, shifted)` with a
`ChunkHead`, in `Regression` by default (L1), in `Diffusion` or in `Flow` (`headed`).

Deviations: a CPU size over bytes by default; the flow head is ours. The gradient of the loss reaches all weights, where
the published model trains low-rank adapters. `published()` has the sizes of the 7B model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nextmove.contracts import Feature, Optim
from nextmove.decoders import Diffusion, Flow, Regression, Sampler
from nextmove.decoders.grids import Indices
from nextmove.decoders.paths import DiscreteVP
from nextmove.decoders.solvers import Ddim
from nextmove.encoders.reading import Reading
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import assemble
from nextmove.models.policy.openvla import BINS, BYTES, END, SPACE, fitted, large, small
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.sight import OWN
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.nn.chunk_head import ChunkHead
from nextmove.nn.continued import Continued
from nextmove.nn.projector import Projector

Head = Literal["l1", "diffusion", "flow"]


def reading(base: Reading, end: int = BYTES - 1, lead: int = BYTES + BINS) -> Reading:
    """The same shown whole and unread, with the robot's state as a token behind the images."""
    return replace(
        base, read=False, order="whole", state="token", states=(OWN,), state_scaling="quantiles", state_clip=True,
        state_map=Projector(2), state_place="images", told=(lead, end),
    )  # fmt: skip


def trunk(hidden: int = 256, end: int = BYTES - 1, lead: int = BYTES + BINS) -> Continued:
    """Placeholders between the id `lead` and the one that ends a text."""
    return Continued(lead=(lead,), end=(end,), whole=True, shifted=True, early=True, head=ChunkHead(hidden))


def steered(base: Reading) -> Reading:
    """The same with towers that the mean word scales and shifts (OFT+)."""
    return replace(base, towers=tuple(replace(tower, film=base.language.width) for tower in base.towers))


@dataclass(frozen=True)
class OpenVlaOft:
    """Images, the robot's state and an instruction to a chunk of actions in one pass."""

    timing: Timing = Timing(n_obs_steps=1, horizon=8, n_action_steps=8)
    encoder: Reading = field(default_factory=lambda: reading(small()))
    actions: ActionSpace = ActionSpace("quantiles", per_step=False, clip=True, space="absolute")
    decoder: Any = field(default_factory=lambda: Regression(trunk(), "l1"))
    optim: Optim = Optim(lr=5e-4, betas=(0.9, 0.98), weight_decay=0.01, warmup=100, batch=32, ema=0.999)

    @classmethod
    def published(cls, inputs: Mapping[str, Feature] | None = None) -> OpenVlaOft:
        """The 7B model as it was tuned for LIBERO."""
        optim = Optim(lr=5e-4, weight_decay=0.0, warmup=0, batch=64, ema=0.0)
        return cls(encoder=reading(large(), END, SPACE), decoder=Regression(trunk(4096, END, SPACE), "l1"), optim=optim)

    @property
    def heads(self) -> dict[str, Any]:
        """Its heads by name (`--decoder`): the median of answers, 50 steps of denoising, or 10 of a flow."""
        own = self.decoder.trunk
        denoising = Diffusion(own, DiscreteVP(50), sampler=Sampler(Ddim(), 50, Indices(), clip=1.0))
        return {"l1": Regression(own, "l1"), "diffusion": denoising, "flow": Flow(own)}

    def headed(self, head: Head) -> OpenVlaOft:
        """The same with another of its `heads`; raises ValueError for one that there is not."""
        if head not in (made := self.heads):
            raise ValueError(f"head: expected one of {', '.join(made)}, found {head!r}")
        return replace(self, decoder=made[head])

    def seeing(self, inputs: Mapping[str, Feature]) -> OpenVlaOft:
        """The same at a size that a CPU trains on, and without a state where the robot shows none."""
        shown = fitted(self.encoder, inputs)
        return replace(self, encoder=shown if OWN in inputs else replace(shown, state="none"))

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot; raises ValueError naming what it needs and the robot lacks."""
        return assemble(spec, self)
