"""Run under torchrun by test_distributed.py: trains the tiny model, whose loss differentiates inside, on its share."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.training import pairing
from tests.training.masked import RULES, gradients
from tests.training.tiny import Tiny, held, run

from nextmove.contracts import normal
from nextmove.training.distributed import joined

GROUPS = 30


class Inside(Tiny):
    """Adds the squared derivative of the network along the data, which hooks on `forward` would not see."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(dropout=0, seed=seed)

    def loss(self, batch, *, rng):
        """Three terms."""
        terms = super().loss(batch, rng=rng)
        x = batch["x"]
        t = torch.zeros(len(x), 1)
        along = (normal(x.shape, rng, like=x),)
        _, slope = torch.func.jvp(lambda x: self(x, t, batch["condition"], batch["label"]), (x,), along)
        return {**terms, "slope": 0.1 * slope.square().mean()}


def go(out: Path, seed: int = 0, **settings):
    """Ten steps with validation."""
    return run(out, Inside(seed), steps=10, validation=held(), validate_every=5, **settings)


if __name__ == "__main__":
    import faulthandler
    import os
    import time

    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    # Who waits for good says where and gives up, before the test does.
    faulthandler.dump_traceback_later(float(sys.argv[2]) - time.time(), exit=True)
    # Only the first process's weights count.
    result, reports = go(folder, seed=rank, accumulate=2, stop=6)
    assert result.step == 6
    result, reports = go(folder, seed=rank + 5, accumulate=2, resume=True)
    assert result.first == (rank == 0)
    assert result.checkpoint is not None
    assert result.checkpoint.name == "last-10"
    with joined() as world:
        for rule in RULES:
            save_file(gradients(rule, 2, world), folder / f"{rule}-{rank}.safetensors")
        for rule, contrast in pairing.PAIRING.items():
            save_file(pairing.gradients(contrast, 2, world), folder / f"{rule}-{rank}.safetensors")
    # Groups come and go; one that is left right after it was used must not wait for a thread that waits for it.
    for number in range(GROUPS):
        with joined() as world:
            assert world.sum([number, rank]) == [2 * number, 1]
    (folder / f"loss-{rank}.txt").write_text(repr([r.loss for r in reports]))
