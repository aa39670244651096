"""Beam search: the likeliest texts, by keeping the best few beginnings.

Shapes: B rows, P ids of the prompts, W beams of a row, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nextmove.contracts import Context
from nextmove.decoders.autoregressive import AutoregressiveDecoder


class _Finished:
    """The best texts of one row that have ended."""

    def __init__(self, width: int) -> None:
        self.width, self.found = width, list[tuple[float, Tensor]]()

    def add(self, score: float, ids: Tensor) -> None:
        """Keeps the best `width`, the earlier one where two are equal."""
        self.found = sorted([*self.found, (score, ids)], key=lambda one: -one[0])[: self.width]

    def settled(self, best: float) -> bool:
        """Whether no text that is still to end can be among the best, given the largest score it may get."""
        return len(self.found) == self.width and self.found[-1][0] >= best


@torch.inference_mode()
def beam_search(
    decoder: AutoregressiveDecoder,
    ctx: Context,
    prompt: Tensor,
    *,
    new: int,
    width: int = 3,
    stop: Sequence[int] = (),
    length_penalty: float = 1.0,
    least: int = 0,
    pad: int = 0,
) -> Tensor:
    """ids (B, P + n), n at most `new`, of the best text that begins with each prompt (B, P); `pad` behind its end.

    Of a text of n new ids the score is its log-probability / n ** length_penalty; an id of `stop` ends one, and is
    taken only from the `width` likeliest continuations. least: new ids before which none ends. The rules of Hugging
    Face transformers (`early_stopping` off).
    """
    rows, length = prompt.shape
    if width < 1 or new < 1:
        raise ValueError(f"width, new: expected at least 1, found {width} and {new}")
    finished = [_Finished(width) for _ in range(rows)]
    ids = prompt.repeat_interleave(width, 0)
    ctx = ctx.repeat(width)
    total = torch.full((rows, width), -torch.inf, dtype=torch.float32, device=prompt.device)
    total[:, 0] = 0.0
    state: Any = None
    for n in range(1, new + 1):
        logits, state = decoder.net(ids if state is None else ids[:, -1:], ctx, state)
        log_p = logits[:, -1].float().log_softmax(-1)
        if n <= least:
            log_p[:, list(stop)] = -torch.inf
        beams, chosen, total = _step(total, log_p, ids, finished, n, tuple(stop), length_penalty)
        ids = torch.cat([ids[beams], chosen[:, None]], 1)
        state = state.map(lambda x, beams=beams: x[beams])
        reach = total[:, 0] / n**length_penalty
        if all(one.settled(float(best)) for one, best in zip(finished, reach, strict=True)):
            break
    for row, one in enumerate(finished):
        for beam in range(width):
            one.add(float(total[row, beam]) / (ids.shape[1] - length) ** length_penalty, ids[row * width + beam])
    best = [one.found[0][1] for one in finished]
    longest = max(map(len, best))
    return torch.stack([F.pad(text, (0, longest - len(text)), value=pad) for text in best])


def _step(
    total: Tensor,
    log_p: Tensor,
    ids: Tensor,
    finished: Sequence[_Finished],
    n: int,
    stop: tuple[int, ...],
    power: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers (B W,) of the beams that go on, the ids (B W,) they go on with, and their log-probabilities (B, W)."""
    (rows, width), classes = total.shape, log_p.shape[-1]
    candidates = (total[..., None] + log_p.view(rows, width, classes)).flatten(1)
    count = min((1 + len(stop)) * width, candidates.shape[1])
    scores, places = candidates.topk(count, -1)
    went: list[tuple[int, int, float]] = []
    for row, one in enumerate(finished):
        going = 0
        for rank, (score, place) in enumerate(zip(scores[row].tolist(), places[row].tolist(), strict=True)):
            beam, new_id = row * width + place // classes, place % classes
            if new_id in stop:
                if rank < width:
                    one.add(score / n**power, torch.cat([ids[beam], ids.new_tensor([new_id])]))
                continue
            went.append((beam, new_id, score))
            going += 1
            if going == width:
                break
    beams, chosen, kept = zip(*went, strict=True)
    return ids.new_tensor(beams), ids.new_tensor(chosen), total.new_tensor(kept).view(rows, width)
