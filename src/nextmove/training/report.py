"""What a run returns and reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class StepReport:
    """One finished step: `step` counts from 1, numbers are means over all processes, times are this process's."""

    step: int
    loss: float
    terms: dict[str, float]
    lr: float
    grad_norm: float
    """Before clipping."""
    seconds: float
    wait: float
    """Seconds of it spent waiting for data."""


@dataclass(frozen=True)
class Best:
    """The lowest validation loss so far and the step it was measured after."""

    step: int
    loss: float


@dataclass(frozen=True)
class Result:
    """The result of a run; `ema` is the state of the averaged model, complete for `load_state_dict`.

    Frozen weights in it are the model's own.
    """

    step: int
    elapsed: float
    """Seconds, earlier sittings included."""
    loss: float
    """Mean training loss since the last line of the log (or of that line); nan if no step was made."""
    ema: dict[str, Tensor]
    finished: bool
    """False if the run was stopped before its budget was used."""
    stopped: int
    """The signal that this process was stopped by, 0 if by none."""
    validation: float | None
    """The last validation loss; None if there was none or it was not finite."""
    best: Best | None
    checkpoint: Path | None
    """The last checkpoint."""
    first: bool = True
    """Whether this process is the one that writes and prints, of several."""

    @torch.no_grad()
    def give(self, model: nn.Module) -> None:
        """Gives the trained model its averaged weights; frozen ones are its own already."""
        own = model.state_dict()
        for name, value in self.ema.items():
            if own[name].data_ptr() != value.data_ptr():
                own[name].copy_(value)
