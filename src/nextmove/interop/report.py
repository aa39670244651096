"""The result of reading another project's files: a policy, and a report of how the files were read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nextmove.contracts import Batch, Chunk, Context, Rng
from nextmove.models.policy import Policy


@dataclass(frozen=True)
class Report:
    """How a foreign folder was understood; every tensor of its weights is in `used` or `ignored`."""

    family: str
    version: str
    """Releases that write such files, and what shows it."""
    used: tuple[str, ...] = ()
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Tensor or key -> why the policy does without it."""
    computed: tuple[str, ...] = ()
    """Fixed tables that the files lack and that were computed."""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.family} ({self.version}): {len(self.used)} tensors used"]
        lines += [f"  ignored {name}: {reason}" for name, reason in self.ignored.items()]
        lines += [f"  computed {name}" for name in self.computed]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


@dataclass(frozen=True)
class Loaded:
    """A policy made of our parts with another project's weights, in evaluation mode, and how it was read.

    Shapes: B batch, T observation steps, H horizon, A action width.
    """

    policy: Policy
    report: Report
    config: Any
    """The foreign configuration, checked."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Tensor names of the file -> names in `policy.state_dict()`."""

    def preprocess(self, obs: Batch) -> Context:
        """Raw observations (B, T, D) by name to the decoder's context."""
        return self.policy.context(obs)

    def predict(self, ctx: Context, *, rng: Rng | None = None, **draws: Any) -> Tensor:
        """The whole horizon (B, H, A) in the model's space.

        Draws given by name (`noise`, `step_noise`) replace those of `rng`, whose default is seeded with 0.
        """
        rng = torch.Generator().manual_seed(0) if rng is None else rng
        made: Tensor = self.policy.decoder.sample(ctx, shape=self.policy.shape, rng=rng, **draws)
        return made

    def executed(self, x: Tensor) -> Tensor:
        """The part of a horizon (B, H, ...) that is executed, from the action due now on."""
        first = self.policy.timing.first
        return x[:, first : first + self.policy.n_action_steps]

    def postprocess(self, x: Tensor) -> Tensor:
        """Actions (B, H, A) from the model's space to raw units."""
        raw: Tensor = self.policy.codec.decode(x, {})
        return raw

    def loss_at(self, batch: Batch, **draws: Any) -> dict[str, Tensor]:
        """The named terms of the loss on raw windows with every draw given (`t`, `noise`; ACT: `eps`)."""
        policy = self.policy
        x = policy.codec.encode(batch["action"], batch)
        weight = policy.codec.weight(batch.get("action_is_pad"))
        decoder: Any = policy.decoder
        terms: dict[str, Tensor] = decoder.loss_at(policy.context(batch), x, weight=weight, **draws)
        return terms

    def act(self, obs: Batch, *, rng: Rng) -> Chunk:
        """A plan in raw units whose first action is due now."""
        return self.policy.act(obs, rng=rng)
