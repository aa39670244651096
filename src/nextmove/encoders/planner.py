"""The next sub-task in words, written before actions are planned and read along with the instruction.

As the `Plan:` of RT-2 (Zitkovich et al. 2023, section 4.4) and the high-level step of pi0.5 (Physical Intelligence
2025): one model says what it will do next, then does it. Shapes: B batch, n rows that are written, L ids of the words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.codecs.byte_level import byte_tokenizer
from nextmove.contracts import PLAN, TASK, Context, ContextSpec, Feature, Rng
from nextmove.decoders.autoregressive import Autoregressive, AutoregressiveDecoder
from nextmove.decoders.sampling import Sampling
from nextmove.nn.gpt import Gpt

BETWEEN = " Plan: "
"""Between the instruction and the sub-task where both are read."""


@dataclass(frozen=True)
class Planner:
    """By what network sub-tasks are written, byte by byte, from what the policy is shown."""

    network: Gpt = Gpt(width=64, layers=2, heads=4)
    length: int = 64
    """Most bytes of a sub-task, its end included."""
    share: float = 0.125
    """Share of a training batch whose sub-tasks are written; all rows are told those of the data."""

    def build(self, context: ContextSpec, inputs: Mapping[str, Feature]) -> PlannerNetwork:
        """The part; raises ValueError where the policy reads no instruction, or for a share out of bounds."""
        if TASK not in inputs:
            raise ValueError(
                f"planner: expected a policy that reads an instruction, found {', '.join(inputs)}; sub-tasks are read "
                "behind it"
            )
        if not 0 < self.share <= 1:
            raise ValueError(f"planner.share: expected a share above 0, at most 1, found {self.share}")
        return PlannerNetwork(self, context)


class PlannerNetwork(nn.Module):
    """Contexts and observations by name -> the observations with the sub-task as `plan` and behind the instruction."""

    def __init__(self, config: Planner, context: ContextSpec) -> None:
        super().__init__()
        self.config, self.tokenizer = config, byte_tokenizer()
        self.stop = self.tokenizer.id_of("</s>")
        self.targets = {PLAN: Feature("text")}
        """What it is trained to write, which is read in training only."""
        decoder = Autoregressive(config.network, self.tokenizer.classes, sampling=Sampling(temperature=0.0))
        self.decoder: AutoregressiveDecoder = decoder.build(shape=(config.length,), context=context)

    def trained(self, ctx: Context, obs: Mapping[str, Any], rng: Rng) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Observations with the sub-tasks of the data, and the loss of writing some of them from the context.

        Raises ValueError naming a sub-task that is too long.
        """
        rows = obs[PLAN]
        n = max(1, round(self.config.share * len(rows)))
        ids, weight = self._ids(rows[:n])
        device = next(self.parameters()).device
        terms = self.decoder.loss(_first(ctx, n), ids.to(device), weight=weight.to(device), rng=rng)
        return self._told(obs, rows), {"plan": terms["nll"]}

    @torch.no_grad()
    def forward(self, ctx: Context, obs: Mapping[str, Any], rng: Rng) -> dict[str, Any]:
        """The observations with the likeliest words of a sub-task."""
        stop, length = self.stop, self.config.length
        written = self.decoder.sample(ctx, shape=(length,), rng=rng, stop=(stop,), pad=stop).cpu()
        return self._told(obs, [self.tokenizer.decode(row[row != stop]) for row in written])

    def _ids(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids (n, L) with the end behind them, and which of them count."""
        found = [self.tokenizer.encode(text) for text in texts]
        for text, one in zip(texts, found, strict=True):
            if len(one) >= self.config.length:
                raise ValueError(f"{PLAN}: expected fewer than {self.config.length} bytes, found {text!r}")
        longest = 1 + max(len(one) for one in found)
        ids, weight = torch.full((len(found), longest), self.stop), torch.zeros(len(found), longest)
        for row, one in enumerate(found):
            ids[row, : len(one)] = one
            weight[row, : len(one) + 1] = 1.0
        return ids, weight

    def _told(self, obs: Mapping[str, Any], plans: Sequence[str]) -> dict[str, Any]:
        told = [f"{task}{BETWEEN}{plan}" for task, plan in zip(obs[TASK], plans, strict=True)]
        return {**obs, TASK: told, PLAN: list(plans)}


def _first(ctx: Context, n: int) -> Context:
    """The first n rows of a context of a vector or tokens."""
    tokens, vector = ctx.tokens, ctx.vector
    return Context(n, None if vector is None else vector[:n], None if tokens is None else tokens[:n])
