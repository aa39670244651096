"""Autoregressive decoder: one id after another, each drawn given all before it.

Prompts of several lengths need no padding: `Known` says row by row which ids are fixed, and every row starts at 0.

Shapes: B batch, L tokens, K classes. Losses and log-probabilities are in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.contracts import Context, ContextSpec, Known, Rng, TokenTrunk, uniform, weighted_mean
from nextmove.decoders.resampled import OneWay, Resampled
from nextmove.decoders.sampling import Sampling, allow

Allowed = Tensor | Callable[[int, Tensor], Tensor]
"""(L, K) bool, or a function of the position i and the ids (B, i) before it to (K,) or (B, K) bool."""


@dataclass(frozen=True)
class Autoregressive(OneWay):
    """A categorical distribution at each of L positions.

    loss: mean over i of -log p(x_i | x_0 .. x_(i-1), ctx), p = softmax(net); sample: x_i ~ p, one call an id.
    """

    trunk: TokenTrunk
    """Config of the network (contracts.TokenTrunk)."""
    classes: int = 0
    """0 = as many as the recipe's codec has."""
    sampling: Sampling = Sampling()
    """How an id is chosen from its logits, unless a call says otherwise."""
    smoothing: float = 0.0
    """Share of each target that is spread evenly over all classes in the loss."""
    start: bool = True
    """Whether the id K comes in front of every sequence. Without it, as in most published language models, the first
    id must be known and is not counted."""
    ends: bool = False
    """Whether the last id ends a sequence; behind it rows are padded with -1, and the loss is the mean over rows of the
    mean over a row's own ids (openpi's pi0-FAST). Where the last class is all other ids, it is the one before."""

    def __post_init__(self) -> None:
        if self.classes < 0:
            raise ValueError(f"classes: expected 0 or more, found {self.classes}")

    @property
    def end(self) -> int:
        """The id that ends a sequence, where one does."""
        return self.classes - 1 - bool(getattr(self.trunk, "others", False))

    def build(self, *, shape: tuple[int, ...], context: ContextSpec) -> AutoregressiveDecoder:
        """The decoder of ids (B, L), shape (L,)."""
        if len(shape) != 1:
            raise ValueError(f"shape: expected (L,), found {shape}")
        if self.classes < 1:
            raise ValueError(f"classes: expected at least 1, found {self.classes}")
        if getattr(self.trunk, "learnt", False) and not self.ends:
            raise ValueError("trunk.learnt: expected ids that end a sequence (decoder.ends), found others")
        # A network that always has a start symbol need not know that others have none.
        start = {} if self.start else {"start": False}
        build: Callable[..., nn.Module] = self.trunk.build_tokens
        net = build(length=shape[0], classes=self.classes, context=context, **start)
        return AutoregressiveDecoder(self, net)


class AutoregressiveDecoder(Resampled, nn.Module):
    """A generative rule around the causal `net(ids, ctx, state) -> (logits, state)`.

    A net may have `last`, the same for the logits of the last id only; sampling then uses it.
    """

    NETWORKS: ClassVar[dict[str, str | None]] = {"net": "token"}

    def __init__(self, config: Autoregressive, net: nn.Module) -> None:
        super().__init__()
        self.config, self.net = config, net
        self.window = 0
        """Ids the network reads at most in one go, beyond which it begins anew; 0: all."""

    def loss(self, ctx: Context, x: Tensor, *, weight: Tensor | None, rng: Rng) -> dict[str, Tensor]:
        """`loss_at`; nothing is drawn."""
        return self.loss_at(ctx, x, weight=weight)

    def counted(self, weight: Tensor | None, *, shape: Sequence[int], rng: Rng) -> dict[str, Tensor]:
        """{nll: the ids that count}."""
        if weight is None:
            return {}
        return {"nll": self._by_id(weight, shape[1])[:, int(not self.config.start) :]}

    def loss_at(self, ctx: Context, x: Tensor, *, weight: Tensor | None = None) -> dict[str, Tensor]:
        """{nll: mean cross entropy a token} of ids x (B, L), the first not counted where no start symbol predicts it.

        weight: (B, L), or (B, n) with n a divisor of L, each counting for L / n ids in a row (one action step). What a
        network is taught to write in front of its ids (`Continued.learnt`) counts as they do.
        """
        opening = int(getattr(self.net, "opening", 0))
        if self.config.ends and weight is None:
            weight = (x >= 0) / ((x >= 0).sum(1, keepdim=True) + opening).clamp(min=1)
        x = self._ids(x)
        weight = None if weight is None else self._by_id(weight, x.shape[1])
        if opening:
            return self._taught(ctx, x, weight)
        logits = self.logits(ctx, x)
        given = x.shape[1] - logits.shape[1]
        x, weight = x[:, given:], None if weight is None else weight[:, given:]
        # As one list of rows: kernels are slow over classes that are not side by side.
        smoothing, reduction = self.config.smoothing, "mean" if weight is None else "none"
        error = F.cross_entropy(logits.flatten(0, 1), x.flatten(), label_smoothing=smoothing, reduction=reduction)
        return {"nll": error if weight is None else weighted_mean(error.view_as(x), weight)}

    def _taught(self, ctx: Context, x: Tensor, weight: Tensor | None) -> dict[str, Tensor]:
        """{nll} of ids x (B, L) and of what is written in front of them, which counts as much as the most of a row."""
        net: Any = self.net
        logits, before = net.taught(torch.cat([self._start(x), x[:, :-1]], 1), ctx)
        smoothing, weight = self.config.smoothing, torch.ones(x.shape, device=x.device) if weight is None else weight
        error = F.cross_entropy(_wide(logits).flatten(0, 1), x.flatten(), label_smoothing=smoothing, reduction="none")
        most = weight.amax(1, keepdim=True).expand_as(before)
        return {"nll": weighted_mean(torch.cat([before, error.view_as(x)], 1), torch.cat([most, weight], 1))}

    def loss_where(self, ctx: Context, x: Tensor, counts: Tensor, **options: Any) -> dict[str, Tensor]:
        """{nll: mean cross entropy of the ids that count} of ids x (B, L) without a start symbol; 0 where none does.

        counts: (B, L) bool. The network reads all ids, and logits are computed only where they are needed. options: as
        of its `read`.
        """
        net: Any = self.net
        h, _ = net.read(x[:, :-1], ctx, None, **options)
        counts = counts[:, 1:]
        logits = _wide(net.logits(h[counts][None])[0])
        smoothing = self.config.smoothing
        total = F.cross_entropy(logits, x[:, 1:][counts], label_smoothing=smoothing, reduction="sum")
        return {"nll": total / counts.sum().clamp(min=1)}

    def _by_id(self, weight: Tensor, length: int) -> Tensor:
        if length % weight.shape[1]:
            raise ValueError(f"weight: expected a divisor of {length} columns, found {weight.shape[1]}")
        return weight.repeat_interleave(length // weight.shape[1], 1)

    def log_prob(self, ctx: Context, ids: Tensor) -> Tensor:
        """log p (B, L) of each id given those before it, at temperature 1 and without filters; 0 for a given first."""
        ids = self._ids(ids)
        logits = self.logits(ctx, ids)
        given = ids.shape[1] - logits.shape[1]
        found = logits.log_softmax(-1).gather(-1, ids[:, given:, None])[..., 0]
        return F.pad(found, (given, 0))

    def _ids(self, x: Tensor) -> Tensor:
        """x (B, L) with ids in the places of padding, which no id before it depends on."""
        return x.clamp(min=0) if self.config.ends else x

    def logits(self, ctx: Context, ids: Tensor) -> Tensor:
        """(B, L, K) in float32 or wider, position i given the ids before i; without a start symbol from i = 1 on."""
        if not self.config.start and ids.shape[1] < 2:
            raise ValueError(f"ids: expected at least 2 where none starts a sequence, found {ids.shape[1]}")
        return _wide(self.net(torch.cat([self._start(ids), ids[:, :-1]], 1), ctx, None)[0])

    def _start(self, ids: Tensor) -> Tensor:
        return ids.new_full((ids.shape[0], int(self.config.start)), self.config.classes)

    def sample(self, ctx: Context, *, shape: Sequence[int], rng: Rng, pad: int = 0, **options: Any) -> Tensor:
        """ids (B, L) int64, shape (L,); `pad` where all rows have stopped; arguments as in `stream`.

        Where sequences end, rows stop by themselves and are padded with the end.
        """
        if self.config.ends:
            pad = self.config.end
            options.setdefault("stop", (pad,))
        ids = torch.stack(list(self.stream(ctx, shape=shape, rng=rng, pad=pad, **options)), 1)
        return F.pad(ids, (0, shape[0] - ids.shape[1]), value=pad)

    def stream(
        self,
        ctx: Context,
        *,
        shape: Sequence[int],
        rng: Rng,
        known: Known | None = None,
        noise: Tensor | None = None,
        allowed: Allowed | None = None,
        sampling: Sampling | None = None,
        stop: Sequence[int] = (),
        pad: int = 0,
        window: int | None = None,
        reading: Reading | None = None,
    ) -> Iterator[Tensor]:
        """The ids (B,) position by position, known ones included.

        known: ids (B, L) and weights; those above .5 are fixed, wherever they stand. The prefix known in all rows is
        read in one call, then one id a call. noise: (B, L) uniform in [0, 1), the quantiles of the ids' distributions;
        drawn at once, before the first call, so that they don't depend on what is known.
        allowed: classes that may be drawn, applied before temperature and filters. sampling: instead of the config's.
        stop: ids after which a row, having drawn one, is filled with `pad`; the stream ends with the last row.
        window: ids the network reads at most (0 = all; None = the decoder's own); beyond, the last half of them is
        read anew as a beginning. reading: what is behind what the network has read already, and where the caller finds
        what it remembers in the end.
        """
        (length,) = shape
        sampling = self.config.sampling if sampling is None else sampling
        ids, fixed, prefix = self._known(ctx, length, known)
        yield from ids[:, :prefix].unbind(1)
        noise = (uniform((ctx.batch, length), rng) if noise is None else noise).to(ids.device)
        ended = torch.zeros(ctx.batch, dtype=torch.bool, device=ids.device)
        reader = Reading(self, ctx, self.window if window is None else window) if reading is None else reading
        for i in range(prefix, length):
            # Faster than without gradients alone; what is drawn becomes part of ordinary ids.
            with torch.inference_mode():
                drawn = _draw(reader.next(ids, i), ids[:, :i], noise[:, i], sampling, allowed)
            drawn = torch.where(ended, pad, drawn)
            ids[:, i] = torch.where(fixed[:, i], ids[:, i], drawn)
            yield ids[:, i].clone()
            for last in stop:
                ended |= (drawn == last) & ~fixed[:, i]
            if stop and bool(ended.all()):
                return

    def _known(self, ctx: Context, length: int, known: Known | None) -> tuple[Tensor, Tensor, int]:
        """ids (B, L), which of them are fixed, and the length of the prefix fixed in all rows."""
        here = torch.device("cpu") if ctx.memory is None else ctx.memory.count.device
        device = next((p.device for p in self.net.parameters()), here)
        ids = torch.zeros(ctx.batch, length, dtype=torch.long, device=device)
        fixed = torch.zeros_like(ids, dtype=torch.bool)
        if known is None:
            known = Known(ids, fixed)
        for name, part in (("value", known.value), ("weight", known.weight)):
            if part.shape != ids.shape:
                raise ValueError(f"known.{name}: expected shape {tuple(ids.shape)}, found {tuple(part.shape)}")
        fixed = known.weight.to(device) > 0.5
        ids = torch.where(fixed, known.value.to(ids), ids)
        # A network may read ids that it never writes, such as the place of an image.
        readable = getattr(self.net, "readable", self.config.classes)
        if bool((fixed & ((ids < 0) | (ids >= readable))).any()):
            raise ValueError(f"known.value: expected ids from 0 to {readable - 1}, found others")
        prefix = int(fixed.all(0).long().cumprod(0).sum())
        if not self.config.start and not prefix:
            raise ValueError("known: expected at least the first id of every row, found none")
        return ids, fixed, prefix


class Reading:
    """Reads each id once and keeps what the network remembers, or the last ids anew where its window ends."""

    def __init__(self, decoder: AutoregressiveDecoder, ctx: Context, window: int = 0, state: Any = None) -> None:
        """state: what the network remembers of what came before the ids, where there is something."""
        if window and window < 4:
            raise ValueError(f"window: expected 0 (no end) or at least 4, found {window}")
        self.step, self.start = getattr(decoder.net, "last", decoder.net), decoder._start
        self.ctx, self.window, self.extra = ctx, window, int(decoder.config.start)
        self.state = state
        self.first = self.read = 0
        """Where what is remembered of the ids begins, and how far they have been read."""

    def next(self, ids: Tensor, i: int) -> Tensor:
        """Logits (B, K) of id i given the ids (B, L) before it."""
        if self.window and self.extra + i - self.first > self.window:
            self.state, self.first = None, i - (self.window // 2 - self.extra)
        recent = ids[:, self.read : i]
        if self.state is None:
            recent = torch.cat([self.start(ids), ids[:, self.first : i]], 1)
        logits, self.state = self.step(recent, self.ctx, self.state)
        self.read = i
        return _wide(logits[:, -1])


def _draw(logits: Tensor, before: Tensor, u: Tensor, sampling: Sampling, allowed: Allowed | None) -> Tensor:
    """The id (B,) at the quantile u (B,) after the ids (B, i) before."""
    logits = sampling.penalise(logits, before)
    if allowed is not None:
        mask = allowed[before.shape[1]] if isinstance(allowed, Tensor) else allowed(before.shape[1], before)
        # A class that stands for all other ids is none that a codec knows.
        mask = F.pad(mask, (0, logits.shape[-1] - mask.shape[-1]))
        logits = allow(logits, mask.to(logits.device))
    return sampling.choose(logits, u)


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
