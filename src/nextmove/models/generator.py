"""A generator of text or images: a codec, an optional encoder of labels, and a decoder.

Letters: B batch, L tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from nextmove.contracts import Batch, Context, Known, Rng, networks


@dataclass(frozen=True)
class ImageSpec:
    """The images a generator is for: size, channels, values 0 .. levels - 1, and how many labels there are."""

    height: int
    width: int
    channels: int = 1
    levels: int = 256
    classes: int = 0

    def __post_init__(self) -> None:
        for name, least in (("height", 1), ("width", 1), ("channels", 1), ("levels", 2), ("classes", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"spec.{name}: expected at least {least}, found {getattr(self, name)}")

    @property
    def values(self) -> int:
        """Numbers in one image."""
        return self.height * self.width * self.channels

    def check(self, image: Tensor) -> None:
        """Raises ValueError unless `image` is (B, C, height, width) of this spec."""
        expected = (self.channels, self.height, self.width)
        if image.dim() != 4 or tuple(image.shape[1:]) != expected:
            raise ValueError(f"image: expected (B, {', '.join(map(str, expected))}), found {tuple(image.shape)}")


@dataclass(frozen=True)
class TextSpec:
    """The text a language model is for: how it is cut into tokens, and the window it is trained on.

    vocabulary: the characters by id; none for bytes. A tokenizer is a file beside the weights, of which `classes` is
    the number of ids and `tokenizer` the hash. "bpe" is how models were saved that hold their tokenizer here: its
    pieces as vocabulary, and as merges pairs "a b" in order.
    """

    unit: Literal["bytes", "characters", "tokenizer", "bpe"]
    length: int
    vocabulary: tuple[str, ...] = ()
    merges: tuple[str, ...] = ()
    classes: int = 0
    tokenizer: str = ""

    def __post_init__(self) -> None:
        if self.unit == "tokenizer" and self.classes < 1:
            raise ValueError(f"spec.classes: expected the number of the tokenizer's ids, found {self.classes}")


class Generator(nn.Module):
    """`decoder` generates in the space of `codec`, told by `encoder` what `inputs` say (labels), or told nothing."""

    NETWORKS: ClassVar[dict[str, str | None]] = {"encoder": "encoder", "decoder": None}

    codec: Any
    decoder: Any
    encoder: Any

    def __init__(
        self,
        *,
        spec: ImageSpec | TextSpec,
        codec: nn.Module,
        decoder: nn.Module,
        shape: tuple[int, ...],
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape
        self.codec, self.decoder, self.encoder = codec, decoder, encoder
        self.sampling: dict[str, Any] = {}
        """Options of `decoder.sample` other than its own, such as `steps`."""

    def context(self, inputs: Mapping[str, Any], batch: int) -> Context:
        """What the decoder is told; `inputs` may hold `label` (B,)."""
        return Context.empty(batch) if self.encoder is None else self.encoder(inputs, batch=batch)

    def encode(self, batch: Batch, rng: Rng | None = None) -> Tensor:
        """x of a batch with `ids` (B, L), with `x` itself, or with `image` (B, C, height, width) in [0, 1].

        With `rng` a codec of continuous values spreads each level over its cell.
        """
        for name in ("ids", "x"):
            if name in batch:
                return batch[name]
        self.spec.check(batch["image"])  # type: ignore[union-attr]
        return self.codec.encode(batch["image"], rng)

    def loss(self, batch: Batch, *, rng: Rng) -> dict[str, Tensor]:
        """Named scalar terms of the decoder's loss; a `noise` in the batch belongs to its `x` (reflow.Pairs)."""
        x = self.encode(batch, rng)
        given = {"noise": batch["noise"]} if "noise" in batch else {}
        return self.decoder.loss(self.context(batch, len(x)), x, weight=None, rng=rng, **given)

    @torch.no_grad()
    def generate(
        self, n: int, *, rng: Rng, inputs: Mapping[str, Any] | None = None, known: Known | None = None, **options: Any
    ) -> Tensor:
        """n samples as the codec decodes them: images (n, C, height, width) in [0, 1], or ids (n, L)."""
        ctx = self.context(inputs or {}, n)
        x = self.decoder.sample(ctx, shape=self.shape, rng=rng, known=known, **{**self.sampling, **options})
        return x if isinstance(self.spec, TextSpec) else self.codec.decode(x)

    def networks(self) -> dict[str, nn.Module]:
        """The networks that generating calls, by name (`contracts.networks`)."""
        return networks.networks(self)

    def exchange(self, name: str, network: nn.Module) -> None:
        """Puts another network of the same call in place of one; raises ValueError for a name that is none of them."""
        networks.exchange(self, name, network)
