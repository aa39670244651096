"""One training loop for every system: it sees a model with a `loss` and batches that are a function of the step.

With a budget of steps an interrupted and resumed run is the same to the last bit as one that ran through. With a budget
of minutes the elapsed time is stored and goes on, so the length and the rate at its end are kept, but not the bits.
Under torchrun every process calls `train` with the same arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from nextmove.contracts import Batch, Optim
from nextmove.contracts.blocks import recomputed
from nextmove.host.signals import Interrupt
from nextmove.training.config import TrainConfig
from nextmove.training.distributed import alone, device_of
from nextmove.training.optim import frozen
from nextmove.training.report import Result
from nextmove.training.run import Batches, OnStep, Run
from nextmove.training.state import Data, Save


def train(
    model: nn.Module,
    batches: Batches,
    *,
    out: Path | str,
    config: TrainConfig,
    optim: Optim,
    validation: Iterable[Batch] | None = None,
    save_model: Save | None = None,
    on_step: OnStep | None = None,
    data: Data = None,
) -> Result:
    """Trains `model` in place and returns the averaged weights.

    Writes train.jsonl, tensorboard/ and checkpoints/last-STEP, checkpoints/best-STEP in `out`. Ctrl-C or SIGTERM ends
    the step at hand, saves and returns; a second one stops at once.

    Args:
        model: Has `loss(batch, *, rng) -> dict of () terms`; a `card`, if any, identifies it in checkpoints.
        batches: `batches(start, rank, world)` gives the batches of steps start, start + 1, ... without end; the
            batch of a step is a pure function of the step, and each rank's share its contiguous rows.
        out: Folder of the run.
        config: Budget and machine.
        optim: Rates, decay, clipping, averaging.
        validation: Held-out batches for the validation loss (averaged weights, fixed noise).
        save_model: `save_model(averaged model, folder)` adds a usable model to every checkpoint.
        on_step: Called after every step; returning True stops the run as Ctrl-C does.
        data: Plain JSON values that tell the data from others, or a function that gives them; a checkpoint keeps them.

    Raises:
        ValueError: for settings or a model that cannot be trained.
        FileExistsError: if `out` holds a run and `config.resume` is off.
        InUseError: if another run writes into `out`.
        CheckpointError: if the checkpoint is of another model, optimiser setting, seed or data, or none can be read.
        OSError: if the disk is full; it names the file, its notes the checkpoint that is kept.
        StoppedError: where a second signal stops the run at once.
        DivergedError: if a loss term or gradient is not finite; the last checkpoint stays.
    """
    if not callable(getattr(model, "loss", None)):
        raise ValueError(f"model: expected a method loss(batch, *, rng), found none on {type(model).__name__}")
    device = device_of(config.device)
    with alone(Path(out)) as world, _settings(model, config, device, optim), Interrupt() as interrupt:
        run = Run(model, Path(out), config, optim, world, device, validation or (), save_model, data)
        run.go(batches, interrupt, on_step)
        return run.result()


@contextmanager
def _settings(model: nn.Module, config: TrainConfig, device: torch.device, optim: Optim) -> Iterator[None]:
    """Threads and frozen parameters of the run; the caller's, its random state and the model's mode come back after."""
    before, mode = torch.get_num_threads(), model.training
    torch.set_num_threads(config.threads)
    try:
        forked = torch.random.fork_rng([device] if device.type == "cuda" else [])
        with forked, frozen(model, optim.scales), recomputed(model, config.gradient_checkpointing):
            yield
    finally:
        torch.set_num_threads(before)
        model.train(mode)
