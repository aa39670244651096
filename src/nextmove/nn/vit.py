"""A vision transformer over square patches of an image (Dosovitskiy et al. 2021), read as tokens or as feature maps.

CLIP's image tower, SigLIP's, DINOv2's, BLIP's and Idefics3's are configurations of it. Shapes: B batch, P patches row
by row, R registers, S tokens, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.nn.block import Block
from nextmove.nn.embedding import cells
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.init import init_normal
from nextmove.nn.mask import key_mask
from nextmove.nn.norm import LayerNorm
from nextmove.nn.places import Places, Resize
from nextmove.nn.pool import AttentionPool
from nextmove.nn.stem import Stem
from nextmove.nn.stream import Stream


@dataclass(frozen=True)
class VisionTower:
    """Sizes and parts of a vision transformer; the defaults are ViT-B/16's."""

    image: int = 224
    """Side, px, of the images that the table of positions is for; 0 = fixed sinusoids, for any size."""
    patch: int = 16
    """Pixels of a patch's side; what is left of a side by patches is left out."""
    width: int = 768
    layers: int = 12
    heads: Any = 12
    """Number of heads, or `attention.Heads`."""
    feedforward: Any = DenseMlp(activation="gelu")
    """`feedforward.DenseMlp` or `feedforward.GatedMlp`."""
    norm: LayerNorm = LayerNorm(1e-6)
    """Of every norm."""
    channels: int = 3
    resize: Resize = "none"
    """How images of other sizes get positions: "none", "bicubic", "antialias" or "buckets" (`nn.places`)."""
    class_token: bool = True
    """A learned token in front."""
    class_position: bool = True
    """Whether it has a position of its own; without one it stands as it is (timm's towers with registers)."""
    registers: int = 0
    """Learned tokens R behind the class token, without positions (Darcet et al. 2023)."""
    mask_token: bool = False
    """A learned token that stands for patches that are hidden (DINOv2)."""
    stem: tuple[int, ...] = ()
    """Widths of 3 x 3 convolutions of stride 2 in front of the patches (Xiao et al. 2021); () = none (`nn.stem`)."""
    patch_bias: bool = True
    pre_norm: bool = False
    """A norm in front of the blocks (CLIP)."""
    post_norm: bool = True
    """A norm behind the blocks."""
    normed: bool = True
    """Whether the tokens given have passed the norm behind the blocks; else only what is pooled of them does (CLIP)."""
    layer: int = -1
    """Which hidden state is given: 0 what enters the first block, k what leaves block k, -1 what leaves the last, -2
    what leaves the one before (LLaVA). None but the last is normed."""
    pool: Literal["class", "attention", "mean", "none"] = "class"
    """The vector of an image: its class token; by attention with a query of its own (SigLIP); the patches' mean."""
    layer_scale: float = 0.0
    """Start of a learned factor per channel of what each part adds (DINOv2); 0 = none."""
    film: int = 0
    """Width of a condition, as words are one, by which every block scales and shifts (`block.Block`); 0 = none."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.patch < 1:
            raise ValueError(f"patch: expected at least 1 px, found {self.patch}")

    @property
    def depth(self) -> int:
        """Blocks in front of the hidden state that is given."""
        return self.layer if self.layer >= 0 else self.layers + 1 + self.layer

    @property
    def block(self) -> Block:
        """One of its blocks."""
        p = self.dropout
        return Block(
            self.width, self.heads, self.feedforward, self.norm, layer_scale=self.layer_scale, film=self.film,
            dropout=p, attention_dropout=p, hidden_dropout=p,
        )  # fmt: skip

    @property
    def side(self) -> int:
        """Patches along a side of an image of the table's size."""
        return self.image // self.patch

    @property
    def extra(self) -> int:
        """Tokens in front of the patches'."""
        return self.class_token + self.registers

    @property
    def tokens(self) -> int:
        """Tokens S of an image of the table's size."""
        return self.extra + self.side**2

    def build(self) -> VisionTowerNet:
        """The network; raises ValueError naming a field that contradicts another."""
        net = VisionTowerNet(self)
        init_normal(net)
        return net


class VisionTowerNet(nn.Module):
    """Images (B, channels, height, width), scaled as the tower reads them -> tokens (B, S, W).

    The class token and registers come first, then the patches row by row.
    """

    def __init__(self, config: VisionTower) -> None:
        super().__init__()
        _check(config)
        self.config, width = config, config.width
        self.normed = config.depth == config.layers and (config.normed or not config.post_norm)
        self.embed = _patches(config)
        learned, first = config.image > 0, int(config.class_token and config.class_position)
        self.places = Places(config.side, width, config.resize, first=first) if learned else None
        self.class_token = _token(width) if config.class_token else None
        self.registers = _token(config.registers, width) if config.registers else None
        self.mask_token = nn.Parameter(torch.zeros(width)) if config.mask_token else None
        self.pre_norm = config.norm.build(width) if config.pre_norm else None
        self.stream = Stream([config.block] * config.layers, norm=config.norm if config.post_norm else None)
        self.pool = AttentionPool(config.block) if config.pool == "attention" else None

    def forward(
        self,
        images: Tensor,
        valid: Tensor | None = None,
        hidden: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Tokens (B, S, W) of the configured `layer`.

        valid: (B, rows, columns) bool, False for patches of padding, which are not attended to (`nn.places.patch_mask`
        makes it of pixels); hidden: likewise, True for patches that the mask token stands for; condition: (B, `film`).
        Raises ValueError for images of another size or number of channels than the tower reads.
        """
        x = self.embedded(images, valid, hidden)
        mask = None if valid is None or bool(valid.all()) else key_mask(self._seen(valid))
        depth = None if self.normed else self.config.depth
        h, _ = self.stream(x, mask=mask, remember=False, depth=depth, condition=condition)
        return h

    def embedded(self, images: Tensor, valid: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
        """What enters the first block, (B, S, W)."""
        self._check_images(images, valid)
        maps = self.embed(images)
        rows, columns = maps.shape[-2:]
        x = maps.flatten(2).mT
        if hidden is not None:
            if self.mask_token is None:
                raise ValueError("hidden: expected a tower with a mask token, found one without")
            x = torch.where(hidden.reshape(len(x), -1, 1), self.mask_token.to(x), x)
        front = []
        if self.places is None:
            x = x + cells(rows, columns, self.config.width).to(x)
        else:
            x = x + self.places(rows, columns, valid)
        if self.class_token is not None:
            placed = self.places is not None and self.places.first
            own = self.class_token + self.places.front()[0] if placed else self.class_token  # type: ignore[union-attr]
            front.append(own.expand(len(x), 1, -1))
        if self.registers is not None:
            front.append(self.registers.expand(len(x), -1, -1))
        x = torch.cat([*front, x], 1) if front else x
        return x if self.pre_norm is None else self.pre_norm(x)

    def pooled(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """The vector (B, W) of tokens (B, S, W) as `forward` gives them, normed; raises ValueError without a rule."""
        rule = self.config.pool
        if rule == "none":
            raise ValueError("pool: expected a tower with a rule for one vector, found none")
        h = tokens[:, :1] if rule == "class" else tokens
        if not self.normed and self.stream.norm is not None:
            h = self.stream.norm(h)
        if rule == "class":
            return h[:, 0]
        if self.pool is not None:
            found: Tensor = self.pool(h, None if valid is None else self._seen(valid))
            return found
        patches = h[:, self.config.extra :]
        if valid is None:
            return patches.mean(1)
        weight = valid.flatten(1).to(patches)[..., None]
        return (patches * weight).sum(1) / weight.sum(1)

    def _seen(self, valid: Tensor) -> Tensor:
        """(B, S) bool of (B, rows, columns)."""
        flat = valid.flatten(1)
        return torch.cat([flat.new_ones(len(flat), self.config.extra), flat], 1)

    def _check_images(self, images: Tensor, valid: Tensor | None) -> None:
        channels, patch = self.config.channels, self.config.patch
        if images.dim() != 4 or images.shape[1] != channels or min(images.shape[2:]) < patch:
            raise ValueError(
                f"images: expected (B, {channels}, height, width) of at least {patch} px, found {tuple(images.shape)}"
            )
        grid = (len(images), images.shape[2] // patch, images.shape[3] // patch)
        if valid is not None and tuple(valid.shape) != grid:
            raise ValueError(f"valid: expected patches {grid}, found {tuple(valid.shape)}")


def _patches(config: VisionTower) -> nn.Module:
    """(B, channels, height, width) -> (B, W, height / patch, width / patch)."""
    channels, width, patch, bias = config.channels, config.width, config.patch, config.patch_bias
    if config.stem:
        return Stem(channels, config.stem, width, patch, bias=bias)
    return nn.Conv2d(channels, width, patch, patch, bias=bias)


def _token(*shape: int) -> nn.Parameter:
    return nn.Parameter(0.02 * torch.randn(*shape))


def _check(config: VisionTower) -> None:
    """Raises ValueError naming a field that contradicts another."""
    if config.pool not in ("class", "attention", "mean", "none"):
        raise ValueError(f"pool: expected class, attention, mean or none, found {config.pool!r}")
    if config.pool == "class" and not config.class_token:
        raise ValueError("pool: expected attention, mean or none of a tower without class token, found class")
    if not -config.layers - 1 <= config.layer <= config.layers:
        raise ValueError(f"layer: expected {-config.layers - 1} to {config.layers}, found {config.layer}")
    if config.image and config.image < config.patch:
        raise ValueError(f"image: expected at least a patch of {config.patch} px, found {config.image}")


class VitNetwork(VisionTowerNet):
    """(B, 3, height, width) -> (B, W, height / patch, width / patch), rounded up: missing pixels are zeros.

    Positions are fixed sinusoids (`nn.embedding.cells`), so that images may have any size.
    """

    @property
    def out(self) -> int:
        """W."""
        return self.config.width

    def forward(
        self,
        images: Tensor,
        valid: Tensor | None = None,
        hidden: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """What the last block knows of each patch."""
        height, width = images.shape[-2:]
        patch = self.config.patch
        whole = F.pad(images, (0, -width % patch, 0, -height % patch))
        tokens = super().forward(whole, valid, hidden, condition)
        return tokens.mT.reshape(len(images), self.config.width, -1, whole.shape[-1] // patch)


@dataclass(frozen=True)
class Vit:
    """Sizes of a vision transformer that is read as feature maps, as networks of cameras are."""

    patch: int = 12
    """Pixels of a patch's side: 7 x 7 patches of the 84 px that are cropped from 96; 16 suits 128 to 224 px."""
    width: int = 192
    layers: int = 6
    heads: int = 3
    dropout: float = 0.0

    @property
    def stride(self) -> int:
        """Pixels that one value of the last feature maps stands for, along each side."""
        return self.patch

    @property
    def out(self) -> int:
        """Channels of the feature maps."""
        return self.width

    def build(self, channels: int = 3) -> VitNetwork:
        """The network without a classifier."""
        tower = VisionTower(
            0, self.patch, self.width, self.layers, self.heads, norm=LayerNorm(), channels=channels, class_token=False,
            pool="none", dropout=self.dropout,
        )  # fmt: skip
        return VitNetwork(tower)
