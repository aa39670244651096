"""A tokenizer of images: VQ-VAE and VQ-GAN, with different networks, codebooks and losses.

Shapes: B batch, C channels, L ids.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nextmove.codecs.vq import Vq, perplexity
from nextmove.contracts import Batch, Rng
from nextmove.models.generator import ImageSpec
from nextmove.models.model import Model


class Tokenizer(Model):
    """`codec` takes images to ids and back, `judge` says how good the way there and back is."""

    judge: Any

    def __init__(self, spec: ImageSpec, *, trunk: Any, codebook: Any, judge: Any) -> None:
        super().__init__()
        shape = (spec.channels, spec.height, spec.width)
        encoder, decoder = trunk.build(shape=shape, latent=codebook.width)
        self.spec, self.judge = spec, judge.build(shape=shape)
        self.codec = Vq(
            levels=spec.levels,
            encoder=encoder,
            codebook=codebook.build(),
            decoder=decoder,
            grid=trunk.grid(spec.height, spec.width),
        )

    def loss(self, batch: Batch, *, rng: Rng) -> dict[str, Tensor]:
        """The judge's terms and the codebook's of `image` (B, C, height, width) in [0, 1]; `rng` restarts codes."""
        self.spec.check(batch["image"])
        x, step = self.codec.pixels.encode(batch["image"]), self.codec.calls
        made, _, terms = self.codec(x, rng)
        return {**self.judge.loss_at(x, made, last=self.codec.decoder.last.weight, step=step), **terms}

    def tokens(self, image: Tensor) -> Tensor:
        """ids (B, L) of images (B, C, height, width) in [0, 1]."""
        self.spec.check(image)
        return self.codec.encode(image)

    def reconstruct(self, image: Tensor) -> Tensor:
        """The images (B, C, height, width) that their ids stand for."""
        return self.codec.decode(self.tokens(image))

    @torch.no_grad()
    def figures(self, image: Tensor) -> dict[str, float]:
        """Mean squared error of reconstructed images, on [-1, 1], and perplexity of their ids (1 to K)."""
        ids = self.tokens(image)
        error = 2 * (self.codec.decode(ids) - image)
        return {"error": float(error.square().mean()), "perplexity": float(perplexity(ids, self.codec.classes))}

    def generate(self, n: int, **_: Any) -> Tensor:
        """Raises ValueError: what to say in tokens is a prior's to know."""
        raise ValueError("generate: a tokenizer has no prior; train vqgan-prior on it, or call reconstruct")
