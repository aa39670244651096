"""GPT: a language model that attends to every earlier token (Radford et al. 2018, 2019).

What changed over the LSTM: nothing has to be carried. Each token looks up what it needs among all tokens before it, and
all positions of a window are trained at once.

How it is composed: `Text` -> `Autoregressive` around the causal `Gpt`. `Gpt2` has GPT-2's parts: layer norms in front,
learned positions, GELU by tanh, biases, the head tied to the embedding, and its initialisation. `ModernGpt` has those
of today's models: rotary positions (Su et al. 2021), root-mean-square norms (Zhang and Sennrich 2019), SwiGLU (Shazeer
2020), normed queries and keys (Dehghani et al. 2023), two heads of keys and values (Ainslie et al. 2023), no biases.

Deviations: a start symbol in front of every window, which `published` leaves out; dropout 0 in the small sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nextmove.contracts import Optim
from nextmove.decoders import Autoregressive
from nextmove.models.generator import Generator, TextSpec
from nextmove.models.text.assemble import assemble
from nextmove.nn import Gpt
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import GatedMlp
from nextmove.nn.norm import RmsNorm

SMALL = Optim(lr=2e-3, betas=(0.9, 0.99), weight_decay=0.1, warmup=100, batch=32, ema=0.999)


def _gpt2(width: int, layers: int, heads: int, dropout: float) -> Gpt:
    return Gpt(width, layers, heads, dropout, head="tied")


def _modern(width: int, layers: int, heads: int, shared: int) -> Gpt:
    norm = RmsNorm()
    return Gpt(
        width,
        layers,
        Heads(heads, shared, bias=False, out_bias=False, norm=norm),
        positions="rotary",
        norm=norm,
        feedforward=GatedMlp(),
        head="plain",
    )


@dataclass(frozen=True)
class Gpt2:
    """Transformer language model with GPT-2's parts."""

    decoder: Autoregressive = field(default_factory=lambda: Autoregressive(trunk=_gpt2(128, 4, 4, 0.0)))
    optim: Optim = SMALL

    @classmethod
    def published(cls) -> Gpt2:
        """GPT-2 small: with 50257 tokens and windows of 1024, 124,439,808 weights."""
        decoder = Autoregressive(trunk=_gpt2(768, 12, 12, 0.1), start=False)
        return cls(decoder, Optim(lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1, warmup=2000, batch=512, ema=0.0))

    def build(self, spec: TextSpec) -> Generator:
        """The untrained model of a text; longer texts than its windows are sampled half a window at a time."""
        return assemble(spec, self.decoder, window=spec.length)


@dataclass(frozen=True)
class ModernGpt:
    """Transformer language model with the parts of its successors."""

    decoder: Autoregressive = field(default_factory=lambda: Autoregressive(trunk=_modern(128, 4, 4, 2)))
    optim: Optim = SMALL

    def build(self, spec: TextSpec) -> Generator:
        """The untrained model of a text; longer texts than its windows are sampled half a window at a time."""
        return assemble(spec, self.decoder, window=spec.length)
