"""Matching: does this text describe this image? Learned on the pairs of a batch that are most easily mistaken.

Shapes: B rows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nextmove.contracts import Rng, uniform
from nextmove.decoders.sampling import draw

FLOOR = 1e-4
"""What is added to every weight, so that none is 0."""


def negative_weights(similarity: Tensor, same: Tensor | None = None) -> Tensor:
    """How likely each column is the negative (B, B) of a row: softmax of the similarities plus 1e-4, 0 for own pairs.

    same: (B, B) bool, the pairs that belong together; by default the diagonal. (Li et al. 2021, section 3.2.)
    """
    own = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device) if same is None else same
    return (similarity.detach().float().softmax(1) + FLOOR).masked_fill(own, 0.0)


def negatives(similarity: Tensor, rng: Rng, same: Tensor | None = None) -> Tensor:
    """For each row, the number (B,) of a column drawn by `negative_weights`.

    A row all of whose columns belong to it has none, and gets its own: see `has_negative`.
    """
    weights = negative_weights(similarity, same)
    drawn = draw(weights.log().clamp_min(-1e9), uniform((len(weights),), rng).to(weights.device))
    return torch.where(weights.sum(1) > 0, drawn, torch.arange(len(weights), device=weights.device))


def matching_pairs(texts: Tensor, images: Tensor, rng: Rng | None, same: Tensor | None = None) -> tuple[Tensor, ...]:
    """Numbers (3 B,) of images and of texts, and which pairs count (3 B,): the B right ones, then every text with
    another image, then every image with another text.

    texts, images: similarities (B, B) from images to texts and from texts to images; rng: draws the others, None = the
    likeliest. A row to which everything belongs has no other, and its pair does not count.
    """
    own = torch.arange(len(texts), device=texts.device)
    other_image, other_text = (
        negatives(sim, rng, same) if rng is not None else negative_weights(sim, same).argmax(1)
        for sim in (images, texts)
    )
    everywhere = torch.ones_like(own, dtype=torch.bool)
    counted = torch.cat([everywhere, other_image != own, other_text != own])
    return torch.cat([own, other_image, own]), torch.cat([own, own, other_text]), counted


def matching_loss(logits: Tensor, rows: int, counted: Tensor | None = None) -> Tensor:
    """Mean () cross-entropy of logits (3 B, 2) whose first `rows` = B pairs match and whose others do not.

    Class 1 is a match; counted: (3 B,) bool, the pairs that are averaged over.
    """
    match = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    match[:rows] = 1
    if counted is None:
        return F.cross_entropy(logits, match)
    error = F.cross_entropy(logits, match, reduction="none")
    return (error * counted).sum() / counted.sum()
