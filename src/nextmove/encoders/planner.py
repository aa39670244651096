"""The next sub-task in words, written before actions are planned and read along with the instruction.

As the `Plan:` of RT-2 (Zitkovich et al. 2023, section 4.4) and the high-level step of pi0.5 (Physical Intelligence
2025): one model says what it will do next, then does it. Here a small language model of its own says it; one that reads
the whole observation says it itself (`encoders.spoken`). Shapes: B batch, n rows that are written, L ids of the words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.codecs.byte_level import byte_tokenizer
from nextmove.contracts import PLAN, TASK, Context, ContextSpec, Encoder, Feature, Reads, Rng
from nextmove.decoders.autoregressive import Autoregressive, AutoregressiveDecoder
from nextmove.decoders.sampling import Sampling
from nextmove.nn.gpt import Gpt

BETWEEN = " Plan: "
"""Between the instruction and the sub-task where both are read."""


def told(obs: Mapping[str, Any], plans: Sequence[str]) -> dict[str, Any]:
    """The observations with sub-tasks as `plan` and behind the instruction."""
    both = [f"{task}{BETWEEN}{plan}" for task, plan in zip(obs[TASK], plans, strict=True)]
    return {**obs, TASK: both, PLAN: list(plans)}


def labels(obs: Mapping[str, Any]) -> list[str]:
    """The sub-tasks of the data; raises ValueError naming the column where there are none."""
    if PLAN not in obs:
        raise ValueError(f"{PLAN}: expected the sub-task of every row to learn from, found {', '.join(sorted(obs))}")
    return list(obs[PLAN])


def kept(obs: Mapping[str, Any], write: Callable[[], Sequence[str]]) -> list[str]:
    """The sub-tasks that were given, and what `write` says where one is empty."""
    given = list(obs.get(PLAN, ()))
    if given and all(given):
        return given
    written = list(write())
    return [before or now for before, now in zip(given, written, strict=True)] if given else written


def check(share: float, every: int) -> None:
    """Raises ValueError for a share or a number of plans out of bounds."""
    if not 0 < share <= 1:
        raise ValueError(f"planner.share: expected a share above 0, at most 1, found {share}")
    if every < 1:
        raise ValueError(f"planner.every: expected at least 1, found {every}")


@dataclass(frozen=True)
class Planner:
    """By what network sub-tasks are written, byte by byte, from what the policy is shown."""

    network: Gpt = Gpt(width=64, layers=2, heads=4)
    length: int = 64
    """Most bytes of a sub-task, its end included."""
    share: float = 0.125
    """Share of a training batch whose sub-tasks are written; all rows are told those of the data."""
    every: int = 1
    """Plans of actions for which a sub-task is kept; 1: one is written before each."""

    def build(self, encoder: Encoder, decoder: nn.Module, shape: tuple[int, ...]) -> PlannerNetwork:
        """The part; raises ValueError where the policy reads no instruction, or for a share out of bounds."""
        inputs = encoder.inputs
        if TASK not in inputs:
            raise ValueError(
                f"planner: expected a policy that reads an instruction, found {', '.join(inputs)}; sub-tasks are read "
                "behind it"
            )
        check(self.share, self.every)
        return PlannerNetwork(self, encoder.spec)


class PlannerNetwork(nn.Module):
    """Observations by name -> those with the sub-task as `plan` and behind the instruction, and what is read then."""

    def __init__(self, config: Planner, context: ContextSpec) -> None:
        super().__init__()
        self.config, self.every, self.tokenizer = config, config.every, byte_tokenizer()
        self.stop = self.tokenizer.id_of("</s>")
        self.targets = {PLAN: Feature("text")}
        """What it is trained to write, which is read in training only."""
        decoder = Autoregressive(config.network, self.tokenizer.classes, sampling=Sampling(temperature=0.0))
        self.decoder: AutoregressiveDecoder = decoder.build(shape=(config.length,), context=context)

    @property
    def writer(self) -> nn.Module:
        """The network that writes sub-tasks."""
        return self.decoder

    def trained(
        self, obs: Mapping[str, Any], read: Reads, rng: Rng
    ) -> tuple[dict[str, Any], Context, dict[str, Tensor]]:
        """Observations told the data's sub-tasks, what is read of them, and the loss of writing some of these.

        Raises ValueError naming a sub-task that is too long.
        """
        ctx, rows = read(obs), labels(obs)
        n = max(1, round(self.config.share * len(rows)))
        ids, weight = self._ids(rows[:n])
        device = next(self.parameters()).device
        terms = self.decoder.loss(_first(ctx, n), ids.to(device), weight=weight.to(device), rng=rng)
        both = told(obs, rows)
        return both, read(both), {"plan": terms["nll"]}

    def forward(self, obs: Mapping[str, Any], read: Reads, rng: Rng) -> tuple[dict[str, Any], Context]:
        """Observations told the likeliest words of a sub-task, and what is read of them."""
        both = told(obs, kept(obs, lambda: self.written(read(obs), rng)))
        return both, read(both)

    @torch.no_grad()
    def written(self, ctx: Context, rng: Rng) -> list[str]:
        """The likeliest words of a sub-task in each row's context."""
        stop, length = self.stop, self.config.length
        ids = self.decoder.sample(ctx, shape=(length,), rng=rng, stop=(stop,), pad=stop).cpu()
        return [self.tokenizer.decode(row[row != stop]) for row in ids]

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


def _first(ctx: Context, n: int) -> Context:
    """The first n rows of a context of a vector or tokens."""
    tokens, vector = ctx.tokens, ctx.vector
    return Context(n, None if vector is None else vector[:n], None if tokens is None else tokens[:n])
