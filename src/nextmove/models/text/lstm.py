"""LSTM: a recurrent language model that decides what its state keeps (Hochreiter and Schmidhuber 1997).

What changed over the RNN: the state is added to rather than rewritten, under gates that are learnt, so that gradients
reach far back (on characters Graves 2013, section 3).

How it is composed: `Text` -> `Autoregressive` around `Lstm`. Hidden and cell values are the network's cache.

Deviations: a forget gate (Gers et al. 2000) whose bias begins at 1 (Jozefowicz et al. 2015); trained on windows that
begin with an empty state.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nextmove.contracts import Optim
from nextmove.decoders import Autoregressive
from nextmove.models.generator import Generator, TextSpec
from nextmove.models.text.assemble import assemble
from nextmove.nn import Lstm as Trunk


@dataclass(frozen=True)
class Lstm:
    """Language model with long short-term memory; about as many weights as `Gpt2` on characters."""

    decoder: Autoregressive = field(default_factory=lambda: Autoregressive(trunk=Trunk(width=220, layers=2)))
    optim: Optim = Optim(lr=2e-3, betas=(0.9, 0.99), weight_decay=0.0, warmup=100, batch=32, ema=0.999)

    def build(self, spec: TextSpec) -> Generator:
        """The untrained model of a text."""
        return assemble(spec, self.decoder)
