"""Vector quantisation: an image as a few ids of learnt vectors, each for a patch.

Shapes: B batch, C channels, K classes (codes), D width of a code, h w sides of the grid, N vectors, L = h w ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.codecs.pixels import Continuous
from nextmove.contracts import Rng, uniform

SMOOTH = 1e-5
"""Added to the count of every code in the average, so that none divides by zero."""


def nearest_ids(z: Tensor, codes: Tensor) -> Tensor:
    """The id (N,) int64 of the code (K, D) at the least squared distance from each z (N, D); the first of equals."""
    return (codes.square().sum(1) - 2 * z @ codes.T).argmin(1)


def straight(z: Tensor, code: Tensor) -> Tensor:
    """`code` in value, z in gradient (the straight-through estimate of Bengio et al. 2013)."""
    return z + (code - z).detach()


def perplexity(ids: Tensor, classes: int) -> Tensor:
    """exp of the entropy () of how often each of the K ids occurs: K if all are used alike, 1 if one is."""
    share = torch.bincount(ids.flatten(), minlength=classes) / ids.numel()
    return torch.special.entr(share).sum().exp()


@dataclass(frozen=True)
class Averaged:
    """A codebook of running means of what is assigned to each code (van den Oord et al. 2017, appendix A.1)."""

    classes: int = 512
    width: int = 64
    beta: float = 0.25
    """Weight of the commitment |z - code|^2."""
    decay: float = 0.99
    restart: float = 1.0
    """A code whose running count falls below this is set to a random vector of the batch; 0: never.

    A batch should hold several vectors a code.
    """

    def build(self) -> AveragedCodebook:
        """The codebook; its codes are drawn N(0, 1) and, with `restart`, soon replaced."""
        return AveragedCodebook(self)


class AveragedCodebook(nn.Module):
    """Codes that follow the data without gradient."""

    codes: Tensor
    counts: Tensor
    sums: Tensor
    calls: Tensor

    def __init__(self, config: Averaged) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("codes", torch.randn(config.classes, config.width))
        self.register_buffer("counts", torch.ones(config.classes))
        self.register_buffer("sums", self.codes.clone())
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, z: Tensor, rng: Rng) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """z (B, D, h, w) as codes, straight through, their ids (B, L) and {commitment: beta mean (z - code)^2}.

        In training the codes move afterwards: N <- decay N + (1 - decay) n, m <- decay m + (1 - decay) sum z, code =
        m / N', N' = (N + 1e-5) / (sum N + K 1e-5) sum N; then those of N < `restart` take a vector drawn with `rng`.
        """
        rows, ids, code = _assign(z, self.codes)
        if self.training:
            self._follow(rows.detach(), ids.flatten(), rng)
        commitment = self.config.beta * (z - code).square().mean()
        return straight(z, code), ids, {"commitment": commitment}

    @torch.no_grad()
    def _follow(self, rows: Tensor, ids: Tensor, rng: Rng) -> None:
        """The running means after a batch of vectors (N, D) with their ids (N,), over all processes."""
        c, rows = self.config, rows.to(self.codes)
        count = torch.zeros_like(self.counts).index_add_(0, ids, torch.ones_like(rows[:, 0]))
        summed = torch.zeros_like(self.sums).index_add_(0, ids, rows)
        place = (uniform((c.classes,), rng, like=rows) * len(rows)).long().clamp_max(len(rows) - 1)
        spare = rows[place]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(count)
            torch.distributed.all_reduce(summed)
            torch.distributed.broadcast(spare, 0)
        self.counts.lerp_(count, 1 - c.decay)
        self.sums.lerp_(summed, 1 - c.decay)
        total = self.counts.sum()
        smooth = (self.counts + SMOOTH) / (total + c.classes * SMOOTH) * total
        dead = self.counts < c.restart
        self.codes.copy_(torch.where(dead[:, None], spare, self.sums / smooth[:, None]))
        self.sums.copy_(torch.where(dead[:, None], spare, self.sums))
        self.counts.masked_fill_(dead, 1.0)
        self.calls += 1


@dataclass(frozen=True)
class Learnt:
    """A codebook of parameters (van den Oord et al. 2017, equation 3; VQ-GAN's).

    VQ-GAN's code had the weights of the two terms exchanged (beta on the codebook's) and kept that as `legacy`; here
    they are the paper's.
    """

    classes: int = 1024
    width: int = 256
    beta: float = 0.25
    """Weight of the commitment |z - code|^2; the codebook's own term has weight 1."""

    def build(self) -> LearntCodebook:
        """The codebook; its codes are drawn uniform in (-1 / K, 1 / K)."""
        return LearntCodebook(self)


class LearntCodebook(nn.Module):
    """Codes that follow their gradient."""

    calls: Tensor

    def __init__(self, config: Learnt) -> None:
        super().__init__()
        self.config = config
        self.codes = nn.Parameter(torch.empty(config.classes, config.width))
        nn.init.uniform_(self.codes, -1 / config.classes, 1 / config.classes)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, z: Tensor, rng: Rng) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """z (B, D, h, w) as codes, straight through, their ids (B, L), and {codebook, commitment}; draws nothing."""
        _, ids, code = _assign(z, self.codes)
        if self.training:
            self.calls += 1
        terms = {
            "codebook": (code - z.detach()).square().mean(),
            "commitment": self.config.beta * (z - code.detach()).square().mean(),
        }
        return straight(z, code), ids, terms


def _assign(z: Tensor, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The vectors (N, D) of z (B, D, h, w) in the codes' precision, ids (B, L) of the nearest codes, these like z."""
    B, D, h, w = z.shape
    K, width = codes.shape
    if width != D:
        raise ValueError(f"z: expected width {width} of the {K} codes, found {D}")
    with torch.autocast(z.device.type, enabled=False):
        rows = z.permute(0, 2, 3, 1).reshape(-1, D).to(codes.dtype)
        ids = nearest_ids(rows.detach(), codes.detach()).view(B, h * w)
    return rows, ids, grid_of(ids, codes, (h, w))


def grid_of(ids: Tensor, codes: Tensor, grid: tuple[int, int]) -> Tensor:
    """The codes (B, D, h, w) of ids (B, L)."""
    return F.embedding(ids, codes).mT.reshape(len(ids), -1, *grid)


class Vq(nn.Module):
    """Images (B, C, height, width) in [0, 1] as ids (B, L), row by row, through a learnt grid of codes.

    Encoding before the tokenizer was trained raises.
    """

    codebook: Any
    decoder: Any

    def __init__(
        self, *, levels: int, encoder: nn.Module, codebook: nn.Module, decoder: nn.Module, grid: tuple[int, int]
    ) -> None:
        super().__init__()
        self.pixels, self.grid = Continuous(levels=levels), grid
        self.encoder, self.codebook, self.decoder = encoder, codebook, decoder

    @property
    def classes(self) -> int:
        """Number of different ids."""
        return int(self.codebook.codes.shape[0])

    @property
    def length(self) -> int:
        """Ids of one image."""
        return self.grid[0] * self.grid[1]

    @property
    def calls(self) -> int:
        """Batches it was trained on."""
        return int(self.codebook.calls)

    def forward(self, x: Tensor, rng: Rng) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Images x (B, C, height, width) in [-1, 1] reconstructed, their ids (B, L), and the codebook's loss terms."""
        code, ids, terms = self.codebook(self.encoder(x), rng)
        return self.decoder(code), ids, terms

    @torch.no_grad()
    def encode(self, raw: Tensor, rng: Rng | None = None) -> Tensor:
        """Images to ids (B, L) int64; nothing is drawn. Raises ValueError where nothing was learnt."""
        if not self.calls:
            raise ValueError("vq: expected a trained tokenizer, found one that has seen no image")
        _, ids, _ = _assign(self.encoder(self.pixels.encode(raw)), self.codebook.codes)
        return ids

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """ids (B, L) to images; raises ValueError for another number of ids or for an id that is no code."""
        if x.dim() != 2 or x.shape[1] != self.length:
            raise ValueError(f"x: expected ids (B, {self.length}), found {tuple(x.shape)}")
        if bool(((x < 0) | (x >= self.classes)).any()):
            raise ValueError(f"x: expected ids from 0 to {self.classes - 1}, found {int(x.min())} to {int(x.max())}")
        return self.pixels.decode(self.decoder(grid_of(x, self.codebook.codes, self.grid)))
