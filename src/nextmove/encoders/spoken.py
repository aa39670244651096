"""The next sub-task in the words of the very language model that reads the observation, before actions are planned.

As one answer (RT-2, Zitkovich et al. 2023, section 4.4), whose actions go on behind the words:

    [prefix] lead Plan: go to the puck </s> Action: lead id id id

or asked for by a prompt of its own and read behind the instruction (the high-level step of pi0.5, Physical Intelligence
2025), in a prefix that is read anew with the same tokens of the pictures:

    [pictures, "Task: push it, State: 9 7;"] Plan: go to the puck </s>
    [pictures, "Task: push it Plan: go to the puck, State: 9 7;"]  -> flow head

No part is added: a policy that plans has the weights of one that does not. Shapes: B batch, n rows that are written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from nextmove.contracts import PLAN, TASK, Context, Feature, Memory, Reads, Rng
from nextmove.encoders import said
from nextmove.encoders.planner import check, kept, labels, told
from nextmove.nn.continued import ContinuedNet

if TYPE_CHECKING:
    from nextmove.encoders.reading import ReadingEncoder

OPENING, BEHIND = "Plan: ", "Action:"
"""What a sub-task begins with, and in one answer what stands between its end and the actions."""


@dataclass(frozen=True)
class Spoken:
    """Where a language model's sub-task stands, how it is asked for, and how long it may be."""

    place: Literal["answer", "prompt"] = "answer"
    """In front of the actions, in one answer with them (RT-2), or behind the instruction in a prompt (pi0.5)."""
    asks: str = ""
    """Template of the prompt that asks for it, where it stands in a prompt; none: that of the actions."""
    length: int = 64
    """Most ids of a sub-task, its end included."""
    end: int = 258
    """The id behind it."""
    share: float = 0.25
    """Share of a training batch whose sub-tasks are written, where it stands in a prompt; in an answer all are."""
    every: int = 1
    """Plans of actions for which a sub-task is kept; 1: one is written before each."""

    def __post_init__(self) -> None:
        check(self.share, self.every)
        if self.place == "answer" and self.asks:
            raise ValueError(
                f"planner.asks: expected '' where the sub-task is a part of the answer, found {self.asks!r}; "
                "planner.place prompt has a prompt of its own"
            )

    def build(self, encoder: ReadingEncoder, decoder: nn.Module, shape: tuple[int, ...]) -> SpokenPlanner:
        """What plans for a policy of these parts; raises ValueError where they do not suit it."""
        return SpokenPlanner(self, encoder, decoder, shape)


class SpokenPlanner:
    """Observations by name -> those with the sub-task as `plan`, and the context that has read it."""

    def __init__(self, config: Spoken, encoder: ReadingEncoder, decoder: nn.Module, shape: tuple[int, ...]) -> None:
        # No module, so the encoder's weights stay the encoder's.
        self.config, self.every, self.encoder = config, config.every, encoder
        self.targets = {PLAN: Feature("text")}
        """What it is trained to write, which is read in training only."""
        reading = encoder.config
        if not reading.read or reading.ahead:
            raise ValueError("planner: expected a prefix that is read alone (encoder.read, no encoder.ahead)")
        nets = [part for part in decoder.modules() if isinstance(part, ContinuedNet)]
        self.silent = {i for net in nets if net.table is not None for i in net.table.tolist()}
        """Words of actions, which are none of a sub-task's."""
        self.lead: tuple[int, ...] = ()
        self.count = self.behind = 0
        self.asking = replace(reading.prompt, template=config.asks) if config.asks else reading.prompt
        if config.place == "answer":
            net: Any = getattr(decoder, "net", None)
            if net not in nets:
                raise ValueError(
                    "planner.place: expected 'prompt' where the decoder does not go on in the language model, found "
                    "'answer'"
                )
            # Of ids that end by themselves a row's mean is taken, and so of its sub-task's.
            self.lead, self.behind = net.config.lead, shape[0]
            self.count = 0 if decoder.config.ends else shape[0]  # type: ignore[union-attr]

    @property
    def writer(self) -> nn.Module:
        """The network that writes sub-tasks."""
        return self.encoder.language

    def trained(
        self, obs: Mapping[str, Any], read: Reads, rng: Rng
    ) -> tuple[dict[str, Any], Context, dict[str, Tensor]]:
        """Observations told the data's sub-tasks, the context that has read them, and the loss of writing them.

        In one answer each id counts as an id of the action does; in a prompt, and where actions end by themselves, the
        term is the mean over rows of a row's mean. Raises ValueError naming a sub-task that is too long.
        """
        plans = labels(obs)
        if self.config.place == "answer":
            ctx = read(obs)
            loss, memory = self._learnt(ctx, self.lead, [self._answer(text) for text in plans])
            return {**obs, PLAN: plans}, ctx.replace(memory=memory), {PLAN: loss}
        n, seen = max(1, round(self.config.share * len(plans))), self._seen(obs)
        some = {name: value[:n] for name, value in obs.items() if name in self.encoder.inputs}
        shown = [(x[:n], None if own is None else own[:n]) for x, own in seen]
        asked = self.encoder.context_of(some, shown, self.asking)
        rows = [[*self._words(text), self.config.end] for text in plans[:n]]
        both = told(obs, plans)
        return both, self.encoder.context_of(both, seen), {PLAN: self._learnt(asked, self._ids(OPENING), rows)[0]}

    def __call__(self, obs: Mapping[str, Any], read: Reads, rng: Rng) -> tuple[dict[str, Any], Context]:
        """Observations with the likeliest words of a sub-task, or those given, and the context that has read them."""
        if self.config.place == "prompt":
            seen = self._seen(obs)
            both = told(obs, kept(obs, lambda: self._texts(self._asked(obs, seen))))
            return both, self.encoder.context_of(both, seen)
        ctx = read(obs)
        with torch.no_grad():
            if any(obs.get(PLAN, ())):
                plans = kept(obs, lambda: self._texts(self._likeliest(ctx, [*self.lead, *self._ids(OPENING)])[0]))
                _, memory = self._learnt(ctx, self.lead, [self._answer(text) for text in plans])
            else:
                rows, memory = self._likeliest(ctx, [*self.lead, *self._ids(OPENING)])
                plans = self._texts(rows)
                memory = said.read(self.encoder.language, memory, [self.config.end, *self._ids(BEHIND)])
        return {**obs, PLAN: plans}, ctx.replace(memory=memory)

    def _learnt(self, ctx: Context, given: Sequence[int], rows: Sequence[Sequence[int]]) -> tuple[Tensor, Memory]:
        """The loss of rows of ids behind a context, and the memory that has read them."""
        error, weight, memory = said.learnt(self.encoder.language, self._room(ctx), given, rows)
        return ((error * weight).sum(1) / (self.count or weight.sum(1))).mean(), memory

    def _asked(self, obs: Mapping[str, Any], seen: Sequence[tuple[Tensor, Tensor | None]]) -> list[list[int]]:
        """What is said to the prompt of its own."""
        return self._likeliest(self.encoder.context_of(obs, seen, self.asking), self._ids(OPENING))[0]

    def _likeliest(self, ctx: Context, given: Sequence[int]) -> tuple[list[list[int]], Memory]:
        """The likeliest ids behind a context, and the memory up to the last of them."""
        classes, config = self.encoder.tokenizer.classes, self.config
        return said.likeliest(
            self.encoder.language, self._room(ctx), given, end=config.end, most=config.length - 1, classes=classes,
            silent=self.silent,
        )  # fmt: skip

    def _room(self, ctx: Context) -> Memory:
        """The memory with a place behind it for a sub-task and the action, into which each is written: copied once."""
        assert ctx.memory is not None
        around = len(self._ids(OPENING)) + len(self._ids(BEHIND)) + 2 * len(self.lead)
        return ctx.memory.room(around + self.config.length + self.behind)

    def _seen(self, obs: Mapping[str, Any]) -> list[tuple[Tensor, Tensor | None]]:
        """The tokens of the pictures, which both prompts show."""
        return self.encoder.looked(self.encoder.pictures(obs, len(obs[TASK])))

    def _answer(self, text: str) -> list[int]:
        """The ids of a row's answer up to the actions."""
        return [*self._ids(OPENING), *self._words(text), self.config.end, *self._ids(BEHIND)]

    def _words(self, text: str) -> list[int]:
        """A sub-task's ids; raises ValueError for too many."""
        ids, most = self._ids(text), self.config.length
        if len(ids) >= most:
            raise ValueError(f"{PLAN}: expected fewer than {most} ids, found {len(ids)} in {text!r}")
        return ids

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self.encoder.tokenizer.encode(text).tolist()
        return found

    def _texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The words of ids; bytes that are none are left out, so that they are read again as no more ids."""
        texts = [self.encoder.tokenizer.decode(torch.tensor(row, dtype=torch.long)) for row in rows]
        return [text.replace("\ufffd", "") for text in texts]
