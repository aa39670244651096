"""One training loop for every system: it sees a model with a `loss` and batches that are a function of the step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from nextmove.contracts import Batch, Optim
from nextmove.training.config import TrainConfig
from nextmove.training.distributed import joined, place
from nextmove.training.interrupt import Interrupt
from nextmove.training.report import Result, StepReport
from nextmove.training.run import Batches, Run
from nextmove.training.state import Save
from nextmove.training.step import DivergedError


def train(
    model: nn.Module,
    batches: Batches,
    *,
    out: Path | str,
    config: TrainConfig,
    optim: Optim,
    validation: Iterable[Batch] | None = None,
    save_model: Save | None = None,
    on_step: Callable[[StepReport], bool | None] | None = None,
) -> Result:
    """Trains `model` in place and returns the averaged weights.

    Writes train.jsonl, tensorboard/ and checkpoints/last-STEP, checkpoints/best-STEP in `out`. With a budget of steps
    an interrupted and resumed run is the same to the last bit as one that ran through; with a budget of minutes the
    elapsed time is stored and goes on, so the length and the rate at its end are kept, but not the bits. Ctrl-C ends
    the step at hand, saves and returns. Under torchrun every process calls this with the same arguments.

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

    Raises:
        ValueError: for settings or a model that cannot be trained.
        FileExistsError: if `out` holds a run and `config.resume` is off.
        FileNotFoundError: if `config.resume` is on and `out` holds no checkpoint.
        CheckpointError: if the checkpoint is of another model, optimiser setting or seed.
        DivergedError: if a loss term or gradient is not finite; the last checkpoint stays.
    """
    if not callable(getattr(model, "loss", None)):
        raise ValueError(f"model: expected a method loss(batch, *, rng), found none on {type(model).__name__}")
    device, mode = place(config.device), model.training
    with joined() as world, _settings(config.threads, device), Interrupt() as interrupt:
        run = Run(model, Path(out), config, optim, world, device, validation or (), save_model)
        try:
            run.go(batches, interrupt, on_step)
        except DivergedError as problem:
            run.log.write("diverged", run.step, message=str(problem))
            raise DivergedError(f"{problem}; last good checkpoint: {run.checkpoint or 'none'}") from None
        finally:
            run.log.close()
            model.train(mode)
        return run.result()


@contextmanager
def _settings(threads: int, device: torch.device) -> Iterator[None]:
    """Threads for the run; the caller's number of threads and random state come back after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        torch.set_num_threads(before)
