"""RNN: the next token from a state that summarises all before it (Elman 1990; on characters Sutskever et al. 2011).

What it is: one vector, rewritten at every token. Gradients through many rewritings vanish or explode, so that little of
what lies far back is kept; clipping their norm (Pascanu et al. 2013; `Optim.clip`) is what makes it train at all.

How it is composed: `Text` -> `Autoregressive` around `Rnn`. The state is the network's cache: sampling goes on from it.

Deviations: trained on windows that begin with an empty state, where the state was carried from window to window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nextmove.contracts import Optim
from nextmove.decoders import Autoregressive
from nextmove.models.generator import Generator, TextSpec
from nextmove.models.text.assemble import assemble
from nextmove.nn import Rnn as Trunk


@dataclass(frozen=True)
class Rnn:
    """Language model with plain recurrent cells; about as many weights as `Gpt2` on characters."""

    decoder: Autoregressive = field(default_factory=lambda: Autoregressive(trunk=Trunk(width=432, layers=2)))
    optim: Optim = Optim(lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0, warmup=100, batch=32, ema=0.999)

    def build(self, spec: TextSpec) -> Generator:
        """The untrained model of a text."""
        return assemble(spec, self.decoder)
