"""What an autoregressive decoder writes behind prompts of several lengths.

Shapes: B batch, P ids of the prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from nextmove.contracts import Context, Known, Rng
from nextmove.decoders.autoregressive import AutoregressiveDecoder


def continued(
    decoder: AutoregressiveDecoder,
    ctx: Context,
    prompt: Tensor,
    mask: Tensor | None = None,
    *,
    new: int,
    rng: Rng,
    stop: Sequence[int] = (),
    pad: int = 0,
    **options: Any,
) -> Iterator[Tensor]:
    """The ids (B,) that follow prompts (B, P), one after another: `new` of them, or fewer where all rows have stopped.

    mask: (B, P) bool, False for padding, which may stand on the left only; an id's position is the number of real ones
    before it. stop: ids after which a row, having drawn one, is filled with `pad`. options: as of the decoder's
    `stream`. Raises ValueError for padding behind a real id.
    """
    mask = torch.ones_like(prompt, dtype=torch.bool) if mask is None else mask.bool()
    if bool((mask[:, :-1] & ~mask[:, 1:]).any()):
        raise ValueError("mask: expected padding on the left only, found it after a real id")
    lengths = mask.sum(1)
    longest, shortest = (int(lengths.max()), int(lengths.min())) if len(lengths) else (0, 0)
    total = longest + new
    # Every row starts at 0, so that none needs a mask: the shorter ones have new ids where the others have a prompt.
    place = torch.arange(total, device=prompt.device)
    at = (place + (prompt.shape[1] - lengths)[:, None]).clamp(max=max(prompt.shape[1] - 1, 0))
    value = prompt.gather(1, at) if prompt.shape[1] else prompt.new_zeros(len(prompt), total)
    known = Known(value, (place < lengths[:, None]).float()) if longest else None
    rows = decoder.stream(ctx, shape=(total,), rng=rng, known=known, stop=stop, pad=pad, **options)
    made: list[Tensor] = []
    for drawn in rows:
        made.append(drawn)
        if len(made) > longest:
            yield drawn if shortest == longest else _at(made, lengths + (len(made) - 1 - longest), pad)
    # Where all rows have stopped, the longer prompts first, shorter ones have written more.
    for i in range(len(made) - longest, min(new, len(made) - shortest)):
        yield _at(made, lengths + i, pad)


def _at(made: list[Tensor], place: Tensor, pad: int) -> Tensor:
    """Each row's id (B,) at its place (B,), `pad` behind the last."""
    end = made[0].new_tensor(pad)
    return torch.stack([made[i][row] if i < len(made) else end for row, i in enumerate(place.tolist())])
