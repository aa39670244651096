"""Run under torchrun by test_sharded.py: trains a model of blocks whose weights lie in shares on the processes."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.training.tiny import OPTIM, held, run
from torch import nn

from nextmove.contracts import Context, ContextSpec
from nextmove.decoders import Flow
from nextmove.nn import Transformer

FROZEN = {"scales": (("given", 0.0),)}


class Deep(nn.Module):
    """A flow whose network is a transformer of three blocks, behind a frozen layer and a number of its own."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        trunk = Transformer(width=32, layers=3, dropout=0.0)
        self.decoder = Flow(trunk=trunk).build(shape=(1, 3), context=ContextSpec(vector=4))
        self.given = nn.Linear(4, 4)
        self.loud = nn.Parameter(torch.ones(()))
        self.register_buffer("seen", torch.zeros(()))

    def loss(self, batch, *, rng):
        """One term, and the size of the number."""
        if self.training:
            self.seen += 1
        x, condition = (batch[name].to(self.loud.dtype) for name in ("x", "condition"))
        ctx = Context(len(x), vector=self.loud * self.given(condition))
        return self.decoder.loss(ctx, x[:, None], weight=None, rng=rng)


def go(out: Path, seed: int = 0, **settings):
    """Ten steps with validation, in float64: Adam's first steps are the signs of gradients, however small."""
    from dataclasses import replace

    optim = replace(OPTIM, **FROZEN)
    return run(out, Deep(seed).double(), optim=optim, steps=10, validation=held(), validate_every=5, **settings)


if __name__ == "__main__":
    import faulthandler
    import os
    import time

    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    faulthandler.dump_traceback_later(float(sys.argv[2]) - time.time(), exit=True)
    result, _ = go(folder / "half", seed=rank, sharded=True, stop=6)
    assert result.step == 6
    result, reports = go(folder / "through", seed=rank, sharded=True, accumulate=2)
    save_file({name: value.contiguous() for name, value in result.ema.items()}, folder / f"ema-{rank}.safetensors")
    result, _ = go(folder / "half", seed=2 * rank, sharded=True, resume=True)
    assert result.step == 10
    # A checkpoint of one process goes on in shares of two.
    result, _ = go(folder / "one", sharded=True, resume=True)
    assert result.step == 10
    (folder / f"loss-{rank}.txt").write_text(repr([r.loss for r in reports]))
