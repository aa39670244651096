"""The prior of VQ-VAE and VQ-GAN: a language model of an image's tokens.

What changed over ImageGPT: tokens are learnt patches, not colours, so a sequence is dozens long where it was hundreds
to thousands (Esser et al. 2021, section 3.2).

How it is composed: a trained tokenizer's `Vq` as codec, frozen and saved inside -> `Autoregressive` around `Gpt`, given
a label where the images have one. The spec holds the tokenizer's recipe, so that the whole is rebuilt from its file;
`adopt` brings in what the tokenizer learnt.

Deviations: dropout and averaged weights in the small size, for small data sets.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from nextmove.codecs.vq import Vq
from nextmove.contracts import Optim
from nextmove.decoders import Autoregressive
from nextmove.decoders.sampling import Sampling
from nextmove.models.generator import Generator, PriorSpec
from nextmove.models.image.autoregressive import autoregressive_generator
from nextmove.nn import Gpt


@dataclass(frozen=True)
class VqGanPrior:
    """A transformer over the ids of a trained tokenizer."""

    decoder: Autoregressive = field(
        default_factory=lambda: Autoregressive(trunk=Gpt(width=96, layers=3, heads=4, dropout=0.3))
    )
    optim: Optim = Optim(lr=2e-3, betas=(0.9, 0.95), weight_decay=0.1, warmup=100, batch=64, ema=0.999)

    @classmethod
    def published(cls) -> VqGanPrior:
        """Sizes of the faces' prior: 24 layers, 16 heads, width 1024."""
        return cls(
            decoder=Autoregressive(trunk=Gpt(width=1024, layers=24, heads=16), sampling=Sampling(top_k=100)),
            optim=Optim(lr=5.4e-5, betas=(0.9, 0.95), weight_decay=0.01, warmup=0, batch=12, clip=0.0, ema=0.0),
        )

    def build(self, spec: PriorSpec) -> Generator:
        """The untrained prior around a tokenizer without weights, which refuses to encode; see `adopt`."""
        codec = spec.tokenizer.build(spec.image).codec.requires_grad_(False)
        return autoregressive_generator(spec.image, self.decoder, codec)


def adopt(prior: Generator, tokenizer: Any) -> None:
    """Gives a prior the weights and codes of the trained tokenizer whose recipe its spec holds.

    Raises ValueError for a tokenizer of other images or one that was never trained.
    """
    if replace(tokenizer.spec, classes=prior.spec.classes) != prior.spec:
        raise ValueError(f"tokenizer: expected one of images {prior.spec}, found {tokenizer.spec}")
    if not tokenizer.codec.calls:
        raise ValueError("tokenizer: expected a trained one, found one that has seen no image")
    if not isinstance(prior.codec, Vq):
        raise ValueError(f"prior: expected one of a tokenizer's ids, found one of {type(prior.codec).__name__}")
    prior.codec.load_state_dict(tokenizer.codec.state_dict())
