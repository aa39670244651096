"""Options of a run that do not depend on the system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class TrainConfig:
    """Budget, seed and machine of one run; exactly one of `steps` and `minutes` is above zero.

    Raises ValueError naming the field.
    """

    steps: int = 0
    """Budget in optimiser steps. Such a run can be interrupted and resumed without changing a bit of its result."""
    minutes: float = 0.0
    """Budget in minutes, validation and saving included; a resumed run has what was left."""
    clock: Literal["wall", "busy"] = "wall"
    """What minutes count: wall-clock time, or the first thread's processor time, which is the same on an idle machine
    and independent of other programs: the fair budget where runs are compared (CPUs only)."""
    seed: int = 0
    """Decides initial weights, the order of the data, and noise and dropout of every step."""
    threads: int = 2
    """Threads of the arithmetic, per process."""
    bf16: Literal["auto", "on", "off"] = "auto"
    """Mixed precision in the loss; auto: on GPUs that have it, and on CPUs where a few steps of the model, tried at the
    start, are at least 1.1 times as fast in it; a resumed run keeps its choice."""
    accumulate: int = 1
    """Parts into which each batch is cut to save memory; draws, and so results, do not depend on it."""
    gradient_checkpointing: bool = False
    """Compute transformer blocks a second time in the backward pass in place of keeping what they computed: less memory
    for a quarter to a third more time; gradients are the same."""
    sharded: bool = False
    """Under torchrun: weights, gradients and moments lie in shares on the processes (FSDP2), in place of copies; each
    process writes its share of a checkpoint, which any number of processes resumes; losses are the same."""
    predict: bool = True
    """Try a few rows before the first step, print how much memory and time steps will take, and at the end what they
    took."""
    log_every: int = 50
    """Steps averaged in a line of the log, at least 1."""
    validate_every: int = 0
    """Steps between validations; 0: ten times a run, of minutes only as often as leaves them a tenth of the time."""
    save_every: int = 0
    """Steps between checkpoints; 0: every 20 seconds, less often where writing one takes long (30 seconds or a tenth of
    the run so far, at most 300 seconds), and after half of a shorter budget of minutes."""
    resume: bool = False
    """Resume from the last checkpoint of the folder; where there is none, begin, and say so."""
    device: str = "cpu"
    """cpu or cuda."""
    compile: bool = False
    """Compile the loss: minutes at the start, faster steps for large networks on GPUs."""
    progress: Literal["auto", "bar", "lines", "off"] = "auto"
    """What is printed; auto: a bar on a terminal, a line now and then elsewhere."""
    tensorboard: bool = True
    """Also write TensorBoard events, where the package tensorboard (extra `log`) is installed."""

    @property
    def budget(self) -> str:
        """The budget as text."""
        return f"{self.steps} steps" if self.steps else f"{self.minutes:g} minutes ({self.clock})"

    def __post_init__(self) -> None:
        for name in ("steps", "minutes", "seed", "validate_every", "save_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected no negative number, found {getattr(self, name)}")
        for name in ("threads", "accumulate", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if self.clock not in ("wall", "busy"):
            raise ValueError(f"clock: expected wall or busy, found {self.clock!r}")
        check_device(self.device)
        if (self.steps > 0) == (self.minutes > 0):
            raise ValueError(
                "budget: expected exactly one of steps and minutes above zero, "
                f"found steps={self.steps} and minutes={self.minutes}"
            )


def check_device(device: str) -> None:
    """Raises ValueError for what is neither cpu nor a GPU that torch finds here."""
    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        has = "cpu or cuda" if torch.cuda.is_available() else "cpu, since torch finds no GPU here"
        raise ValueError(f"device: expected {has}; found {device!r}")
