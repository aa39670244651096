"""Several questions about the same images in one row: what they begin with, the images above all, is read once.

Each question is a branch that does not see the others (`nn.mask.branch_mask`), so that losses and gradients are those
of rows of their own. Shapes: B rows, G groups of rows, L ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Row = tuple[list[int], list[bool]]
"""Ids and which of them are answers."""


class Joined(NamedTuple):
    """Rows of several branches."""

    ids: Tensor
    """(G, L) padded behind."""
    counts: Tensor
    """(G, L) bool, which of them are answers."""
    branch: Tensor
    """(G, L), 0 for the common beginning, then 1, 2 ..."""


def sharing(rows: Sequence[Row], image_ids: Tensor, place: int) -> list[list[int]]:
    """Numbers of the rows that show the same images (B, T) and begin with them, in order of appearance.

    place: the id that stands for images.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, shown in enumerate(image_ids.tolist()):
        groups.setdefault(tuple(shown), []).append(i)
    found: list[list[int]] = []
    for group in groups.values():
        common = _common([rows[i] for i in group])
        begins = all(place not in rows[i][0][common:] for i in group)
        found += [group] if begins else [[i] for i in group]
    return found


def joined(rows: Sequence[Row], groups: Sequence[Sequence[int]]) -> Joined:
    """The rows of each group as branches of one."""
    made = [_joined([rows[i] for i in group]) for group in groups]
    longest = max(len(ids) for ids, _, _ in made)
    ids = torch.zeros(len(made), longest, dtype=torch.long)
    counts, branch = torch.zeros_like(ids, dtype=torch.bool), torch.full_like(ids, -1)
    # Padding is a branch of its own.
    for i, (own, answers, numbers) in enumerate(made):
        ids[i, : len(own)], counts[i, : len(own)] = torch.tensor(own), torch.tensor(answers)
        branch[i, : len(own)] = torch.tensor(numbers)
    return Joined(ids, counts, branch)


def _joined(rows: Sequence[Row]) -> tuple[list[int], list[bool], list[int]]:
    common = _common(rows)
    ids, counts = list(rows[0][0][:common]), list(rows[0][1][:common])
    branch = [0] * common
    for number, (own, answers) in enumerate(rows, 1):
        ids += own[common:]
        counts += answers[common:]
        branch += [number] * (len(own) - common)
    return ids, counts, branch


def _common(rows: Sequence[Row]) -> int:
    """How many ids all rows begin with; what the first id of an answer is foretold from belongs to one row alone."""
    most = min(max((counts.index(True) if any(counts) else len(ids)) - 1, 0) for ids, counts in rows)
    first = rows[0][0]
    return next((i for i in range(most) if any(ids[i] != first[i] for ids, _ in rows)), most)
