"""A generator of text or images: a codec, an optional encoder of labels, and a decoder.

Shapes: B batch, P ids of a prompt, L ids, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.contracts import (
    Batch,
    Context,
    Decoder,
    Encoder,
    ImageCodec,
    Known,
    Rng,
    TextCodec,
    networks,
)
from nextmove.decoders.autoregressive import AutoregressiveDecoder
from nextmove.decoders.prompts import continued
from nextmove.decoders.sampling import Sampling
from nextmove.models.model import Model


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


@dataclass(frozen=True)
class PriorSpec:
    """The images of a prior, and the recipe of the tokenizer that cuts them into ids."""

    image: ImageSpec
    tokenizer: Any
    """A recipe whose `build(image)` has a `codec` with `classes`, `length`, `encode` and `decode`."""


class Generator(Model):
    """`decoder` generates in the space of `codec`, conditioned on what `encoder` makes of `inputs` (labels), if any."""

    NETWORKS: ClassVar[dict[str, str | None]] = {"encoder": "encoder", "decoder": None}

    codec: ImageCodec | TextCodec
    decoder: Decoder
    encoder: Encoder | None

    def __init__(
        self,
        *,
        spec: ImageSpec | TextSpec,
        codec: ImageCodec | TextCodec,
        decoder: Decoder,
        shape: tuple[int, ...],
        encoder: Encoder | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape
        self.codec, self.decoder, self.encoder = codec, decoder, encoder
        self.stop: tuple[int, ...] = ()
        """Ids that end a text."""

    @property
    def text(self) -> TextCodec:
        """The codec of a model of text; raises ValueError for a model of images."""
        if not isinstance(self.codec, TextCodec):
            raise ValueError(f"model: expected one of text, found one of {self.spec}")
        return self.codec

    @property
    def image(self) -> ImageCodec:
        """The codec of a model of images; raises ValueError for a model of text."""
        if isinstance(self.codec, TextCodec):
            raise ValueError("model: expected one of images, found one of text")
        return self.codec

    @property
    def tokens(self) -> AutoregressiveDecoder:
        """The decoder of a model that makes one id after another; raises ValueError for others."""
        if not isinstance(self.decoder, AutoregressiveDecoder):
            raise ValueError(f"model: expected one of ids, found {type(self.decoder).__name__}")
        return self.decoder

    def context(self, inputs: Mapping[str, Any], batch: int) -> Context:
        """What the decoder is conditioned on; `inputs` may hold `label` (B,)."""
        return Context.empty(batch) if self.encoder is None else self.encoder(inputs, batch=batch)

    def encode(self, batch: Batch, rng: Rng | None = None) -> Tensor:
        """x of a batch with `ids` (B, L), with `x` itself, or with `image` (B, C, height, width) in [0, 1].

        With `rng` a codec of continuous values spreads each level over its cell.
        """
        for name in ("ids", "x"):
            if name in batch:
                x: Tensor = batch[name]
                return x
        codec = self.image
        if isinstance(self.spec, ImageSpec):
            self.spec.check(batch["image"])
        return codec.encode(batch["image"], rng)

    def loss(self, batch: Batch, *, rng: Rng) -> dict[str, Tensor]:
        """Named scalar terms of the decoder's loss; a `noise` in the batch belongs to its `x` (reflow.Pairs)."""
        x = self.encode(batch, rng)
        given: dict[str, Any] = {"noise": batch["noise"]} if "noise" in batch else {}
        return self.decoder.loss(self.context(batch, len(x)), x, weight=None, rng=rng, **given)

    @torch.no_grad()
    def generate(
        self, n: int, *, rng: Rng, inputs: Mapping[str, Any] | None = None, known: Known | None = None, **options: Any
    ) -> Tensor:
        """n images (n, C, height, width) in [0, 1]; raises ValueError for a model of text, which `complete` asks."""
        codec, ctx = self.image, self.context(inputs or {}, n)
        x = self.decoder.sample(ctx, shape=self.shape, rng=rng, known=known, **options)
        return codec.decode(x)

    def stream(
        self,
        prompt: Tensor,
        mask: Tensor | None = None,
        *,
        new: int,
        rng: Rng,
        sampling: Sampling | None = None,
        stop: Sequence[int] | None = None,
        **options: Any,
    ) -> Iterator[Tensor]:
        """The ids (B,) that follow prompts (B, P) of ids, one after another, at most `new`.

        sampling: how an id is chosen, by default as the decoder says; stop: the model's own by default. Padding and
        other options are those of `decoders.prompts.continued`.
        """
        return continued(
            self.tokens, self.context({}, len(prompt)), prompt, mask, new=new, rng=rng, sampling=sampling,
            stop=self.stop if stop is None else stop, **options,
        )  # fmt: skip

    def complete(self, prompt: Tensor, mask: Tensor | None = None, *, new: int, pad: int = 0, **options: Any) -> Tensor:
        """ids (B, P + new): the prompts and all of `stream`, `pad` where it has ended; arguments as of that."""
        made = [*self.stream(prompt, mask, new=new, pad=pad, **options)]
        written = torch.stack(made, 1).to(prompt.device) if made else prompt[:, :0]
        return torch.cat([prompt, F.pad(written, (0, new - len(made)), value=pad)], 1)

    def write(
        self, prompt: str, *, new: int, rng: Rng, watch: Callable[[int], None] | None = None, **options: Any
    ) -> Iterator[str]:
        """The text that follows a prompt, in parts as they are certain; arguments as of `stream`.

        watch: is called with every id as it is drawn.

        Raises ValueError for a prompt with characters that the codec does not know, and for an empty one where the
        model has nothing to begin with.
        """
        codec = self.text
        ids = codec.prompt(prompt)
        if not len(ids) and not self.tokens.config.start:
            raise ValueError("prompt: expected a text, for this model has no token that begins one; found none")
        ends = self.stop if options.get("stop") is None else options["stop"]
        rows = self.stream(ids[None], new=new, rng=rng, **options)
        drawn = (int(row) for row in rows)
        written = takewhile(lambda i: i not in ends, drawn if watch is None else _watched(drawn, watch))
        return codec.stream(written, ids.tolist())

    def networks(self) -> dict[str, nn.Module]:
        """The networks that generating calls, by name (`contracts.networks`)."""
        return networks.networks(self)

    def exchange(self, name: str, network: nn.Module) -> None:
        """Puts another network of the same call in place of one; raises ValueError for a name that is none of them."""
        networks.exchange(self, name, network)


def _watched(ids: Iterable[int], watch: Callable[[int], None]) -> Iterator[int]:
    for i in ids:
        watch(i)
        yield i
