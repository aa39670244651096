"""Beam search against all texts, written out; where texts may end, and by what score they are compared."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from nextmove.contracts import Context, seeded
from nextmove.decoders.autoregressive import Autoregressive, AutoregressiveDecoder
from nextmove.decoders.beams import beam_search

CLASSES, NEW = 5, 3


class Pairwise(nn.Module):
    """Logits from the last id and the row's own vector; its state counts what it has read."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(2 * torch.randn(CLASSES, CLASSES, generator=seeded(0)))

    def forward(self, ids: Tensor, ctx: Context, state: State | None = None) -> tuple[Tensor, State]:
        """ids (B, L) -> logits (B, L, K)."""
        assert ctx.vector is not None
        state = State(ids if state is None else torch.cat([state.read, ids], 1))
        bonus = 0.1 * state.read.sum(1)[:, None, None] * torch.arange(CLASSES)
        return self.table[ids] + ctx.vector[:, None] + bonus.cos(), state


class State:
    """All ids so far (B, L)."""

    def __init__(self, read: Tensor) -> None:
        self.read = read

    def map(self, function: object) -> State:
        """Other rows."""
        return State(function(self.read))  # type: ignore[operator]


DECODER = AutoregressiveDecoder(Autoregressive(trunk=None, classes=CLASSES, start=False), Pairwise())
CONTEXT = Context(2, vector=torch.randn(2, CLASSES, generator=seeded(1)))
PROMPT = torch.tensor([[1, 2], [0, 3]])


def score(row: int, text: tuple[int, ...]) -> float:
    """log p of new ids behind a row's prompt."""
    ids = torch.cat([PROMPT[row], torch.tensor(text)])[None]
    total, ctx = 0.0, CONTEXT.map(lambda x: x[row : row + 1])
    with torch.no_grad():
        for i in range(len(text)):
            logits = DECODER.net(ids[:, : 2 + i], ctx)[0][0, -1]
            total += float(logits.log_softmax(-1)[text[i]])
    return total


def test_a_beam_as_wide_as_all_texts_finds_the_best() -> None:
    found = beam_search(DECODER, CONTEXT, PROMPT, new=NEW, width=CLASSES**2)
    for row in (0, 1):
        best = max(itertools.product(range(CLASSES), repeat=NEW), key=lambda text: score(row, text))
        assert tuple(found[row, 2:].tolist()) == best


def test_one_beam_takes_the_likeliest_id_each_time() -> None:
    found = beam_search(DECODER, CONTEXT, PROMPT, new=NEW, width=1)
    ids = PROMPT
    with torch.no_grad():
        for _ in range(NEW):
            ids = torch.cat([ids, DECODER.net(ids, CONTEXT)[0][:, -1:].argmax(-1)], 1)
    assert torch.equal(found, ids)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_texts_that_end_are_compared_by_score_over_length(penalty: float) -> None:
    end = 4
    found = beam_search(
        DECODER, CONTEXT, PROMPT, new=NEW, width=CLASSES**2, stop=(end,), length_penalty=penalty, pad=-1
    )
    texts = [
        text
        for n in range(1, NEW + 1)
        for text in itertools.product(range(CLASSES), repeat=n)
        if end not in text[:-1] and (n == NEW or text[-1] == end)
    ]
    for row in (0, 1):
        best = max(texts, key=lambda text: score(row, text) / len(text) ** penalty)
        made = [i for i in found[row, 2:].tolist() if i != -1]
        assert tuple(made) == best
    assert found.shape[1] <= 2 + NEW


def test_no_text_ends_before_its_least_length() -> None:
    with torch.no_grad():
        DECODER.net.table[:, 4] += 20
    try:
        short = beam_search(DECODER, CONTEXT, PROMPT, new=NEW, width=3, stop=(4,))
        long = beam_search(DECODER, CONTEXT, PROMPT, new=NEW, width=3, stop=(4,), least=2)
    finally:
        with torch.no_grad():
            DECODER.net.table[:, 4] -= 20
    assert short.shape[1] == 3
    assert long.shape[1] == 5
    assert bool((long[:, 2:4] != 4).all())
    with pytest.raises(ValueError, match="width, new: expected at least 1, found 0 and 3"):
        beam_search(DECODER, CONTEXT, PROMPT, new=3, width=0)
