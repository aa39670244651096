"""A policy's scales from its training windows, without making them where a column tells as much.

Letters: B windows of a part, D width of a feature, W width of what is shown, H horizon, A action width.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nextmove.codecs.shifted import quantiles, summaries
from nextmove.codecs.summary import Array, Summary, beside, total
from nextmove.contracts import Batch
from nextmove.data import Windows
from nextmove.encoders import Plain
from nextmove.models.policy import Policy
from nextmove.training.parts import numbers

VALUES = 1 << 20
"""Numbers of the windows that are in memory at once."""


def fit_scales(policy: Policy, windows: Windows) -> None:
    """Fits the scales of a policy on all windows, exactly, in memory that does not grow with them.

    Features shown as they are and actions in their own space are told from the columns, whatever the horizon; what is
    seen from somewhere is computed window by window.
    """
    encoder, codec = policy.encoder, policy.codec
    if not len(windows):
        raise ValueError("fit: expected at least one training window, found none")
    if isinstance(encoder.view, Plain):
        offsets = windows.obs_offsets[-encoder.steps :].tolist()
        encoder.scale.take(*_told(windows, list(encoder.features), offsets, False, encoder.scale.levels))
    else:
        encoder.scale.fit_parts(
            lambda: ((encoder.show(part).flatten(0, 1).numpy(), encoder.size(part).numpy()) for part in _parts(windows))
        )
    if codec.anchor is None:
        codec.take(
            *_told(windows, [windows.action], windows.action_offsets.tolist(), codec.per_step, codec.scale.levels)
        )
    else:
        codec.fit_parts(lambda: (policy.acted(part) for part in _parts(windows)))


def _told(
    windows: Windows, names: list[str], offsets: list[int], per_step: bool, levels: tuple[float, float] | None
) -> tuple[Summary, Array | None]:
    """Of features side by side, at all offsets together or at each on its own, (H D,); with quantiles if asked."""
    found, ranked = [], []
    groups = [[k] for k in offsets] if per_step else [offsets]
    for name in names:
        column = windows.columns[name]
        at = dict(zip(offsets, summaries(column, windows.start, windows.stop, offsets), strict=True))
        found.append(beside([total((at[k] for k in group), column.shape[1]) for group in groups]))
        if levels:
            one = quantiles(column, windows.start, windows.stop, groups, levels)
            ranked.append(one.transpose(1, 0, 2).reshape(len(levels), -1))
    return beside(found), np.concatenate(ranked, 1) if ranked else None


def _parts(windows: Windows) -> Iterator[Batch]:
    """All windows in order, a few at a time."""
    one = sum(v.numel() for v in numbers(windows.batch([0])).values())
    size = max(1, VALUES // one)
    for first in range(0, len(windows), size):
        yield windows.batch(np.arange(first, min(first + size, len(windows))))
