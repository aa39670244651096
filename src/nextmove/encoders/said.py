"""Free words that a language model says behind a prefix it has read: how they are learnt, and the likeliest ones.

Shapes: B batch, n ids that are given, L ids of the longest row.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nextmove.contracts import Context, Memory
from nextmove.nn.gpt import GptNet


def learnt(
    language: GptNet, memory: Memory, given: Sequence[int], rows: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor, Memory]:
    """The cross entropy (B, L) of the ids of each row over the whole vocabulary, which of them count, and the memory.

    given: at least one id in front of each row, not counted. The memory goes on behind the last ids.
    """
    n, longest = len(given), max(map(len, rows))
    ids = torch.zeros(len(rows), n + longest, dtype=torch.long)
    heard = torch.zeros_like(ids, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : n + len(row)] = torch.tensor([*given, *row])
        heard[i, : n + len(row)] = True
    device = language.embedding.weight.device
    ids, heard = ids.to(device), heard.to(device)
    valid = None if bool(heard.all()) else heard
    h, memory = language.read_embedded(language.embed(ids), Context.empty(len(rows)), memory, valid=valid)
    logits = language.logits(h[:, n - 1 : -1]).flatten(0, 1).float()
    error = F.cross_entropy(logits, ids[:, n:].flatten(), reduction="none").view(len(rows), longest)
    return error, heard[:, n:].to(error), memory


@torch.no_grad()
def likeliest(
    language: GptNet,
    memory: Memory,
    given: Sequence[int],
    *,
    end: int,
    most: int,
    classes: int,
    silent: Collection[int] = (),
) -> tuple[list[list[int]], Memory]:
    """The likeliest ids of each row up to `end`, at most `most`, and the memory up to the last of them, `end` not read.

    classes: ids from here on are never said, nor are those that are `silent`.
    """
    batch, device = len(memory.count), language.embedding.weight.device
    never = torch.tensor([i for i in silent if i < classes], dtype=torch.long, device=device)
    x, valid = torch.tensor([list(given)], device=device).expand(batch, -1), None
    going, rows = torch.ones(batch, dtype=torch.bool, device=device), [list[int]() for _ in range(batch)]
    for i in range(most + 1):
        h, memory = language.read_embedded(language.embed(x), Context.empty(batch), memory, valid=valid)
        if i == most:
            break
        logits = language.logits(h[:, -1:])[..., :classes]
        x = logits.index_fill(-1, never, -torch.inf).argmax(-1)
        going = going & (x[:, 0] != end)
        for row, word, on in zip(rows, x[:, 0].tolist(), going.tolist(), strict=True):
            row += [word] * on
        if not bool(going.any()):
            break
        valid = None if bool(going.all()) else going[:, None]
    return rows, memory


def read(language: GptNet, memory: Memory, ids: Sequence[int]) -> Memory:
    """The memory with the same ids read behind each row."""
    x = torch.tensor([list(ids)], device=language.embedding.weight.device).expand(len(memory.count), -1)
    return language.read_embedded(language.embed(x), Context.empty(len(x)), memory, answer=False)[1]
