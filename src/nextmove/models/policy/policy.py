"""A policy: an encoder, an action codec and a decoder with a time contract.

Shapes: B batch, T observation steps, H horizon, A action width.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nextmove.codecs.batches import Batches
from nextmove.contracts import (
    PLAN,
    ActionCodec,
    Actor,
    Batch,
    Chunk,
    Context,
    Decoder,
    Encoder,
    Estimator,
    Feature,
    Known,
    Numbers,
    Planner,
    Rng,
    Shard,
    networks,
)
from nextmove.contracts.pixels import resized
from nextmove.encoders.camera import CameraEncoder
from nextmove.encoders.cloud import CloudEncoder
from nextmove.models.model import Model
from nextmove.models.policy.observed import checked, decided, unseen
from nextmove.models.policy.spec import PolicySpec as PolicySpec
from nextmove.models.policy.spec import Timing as Timing


class Policy(Model):
    """Observations to plans: `decoder` generates in the space of `codec` given what `encoder` tells it."""

    NETWORKS: ClassVar[dict[str, str | None]] = {"estimator": "estimator", "encoder": "encoder", "decoder": None}

    estimator: Estimator | None
    planner: Planner | None
    """Writes the next sub-task, which is read too, before actions are planned."""
    blind: bool = False
    """Whether plans are made of noise in place of images and points: what it does then, it does without seeing."""
    encoder: Encoder
    codec: ActionCodec
    decoder: Decoder

    def __init__(
        self,
        *,
        spec: PolicySpec,
        timing: Timing,
        encoder: Encoder,
        codec: ActionCodec,
        decoder: Decoder,
        shape: tuple[int, ...],
        estimator: Estimator | None = None,
        planner: Planner | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.timing, self.shape = spec, timing, shape
        self.estimator, self.encoder, self.codec, self.decoder = estimator, encoder, codec, decoder
        self.planner = planner
        # Also where a runtime computes the encoder: it wraps these very modules.
        self._cameras = tuple(part for part in self.modules() if isinstance(part, CameraEncoder))
        self._clouds = tuple(part for part in self.modules() if isinstance(part, CloudEncoder))

    @property
    def n_obs_steps(self) -> int:
        """Observations each plan is made from."""
        return self.timing.n_obs_steps

    @property
    def n_action_steps(self) -> int:
        """Actions executed of each plan."""
        return self.timing.n_action_steps

    @property
    def ensemble(self) -> float | None:
        """Coefficient of the temporal ensembling it asks for, if it does; `control.suited` heeds it."""
        return self.timing.ensemble

    @property
    def horizon(self) -> int:
        """Actions predicted."""
        return self.timing.horizon

    @property
    def plans_a_subtask(self) -> int:
        """For how many plans a sub-task that it has written is kept; controllers heed it."""
        return 1 if self.planner is None else self.planner.every

    @property
    def inputs(self) -> dict[str, Feature]:
        """What it reads of an observation.

        What a state is estimated from, the encoder's inputs, then what actions are relative to; a state that is
        estimated is not read.
        """
        if self.estimator is None:
            return self._shown
        shown = {name: feature for name, feature in self._shown.items() if name not in self.estimator.targets}
        return {**self.estimator.inputs, **shown}

    @property
    def _shown(self) -> dict[str, Feature]:
        read = dict(self.encoder.inputs)
        return read | {name: self.spec.inputs[name] for name in self.codec.inputs if name not in read}

    @property
    def trained_on(self) -> dict[str, Feature]:
        """What it reads of a training window beside the actions.

        Its inputs, the state that it estimates, and the sub-task that it writes.
        """
        parts = [part.targets for part in (self.estimator, self.planner) if part is not None]
        return {name: feature for one in (self.inputs, *parts) for name, feature in one.items()}

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the observed features that it reads; the instruction is none of them."""
        return tuple(name for name, feature in self.inputs.items() if feature.type != "text")

    def fit(self, numbers: Numbers | Collection[Batch]) -> None:
        """Fits the statistics of observations and actions on training windows; cameras are not read."""
        found = Batches(numbers) if isinstance(numbers, Collection) else numbers
        if self.estimator is not None:
            self.estimator.fit(found)
        self.encoder.fit(found)
        self.codec.fit(found)

    def context(self, obs: Batch, rng: Rng | None = None) -> Context:
        """What the decoder is conditioned on; with `rng` the training noise on observations is drawn from it."""
        return self.encoder(obs, batch=self._rows(obs), rng=rng)

    def _rows(self, obs: Batch) -> int:
        return len(next((obs[name] for name in self._shown if name in obs), ()))

    def loss(self, batch: Batch, *, rng: Rng) -> dict[str, Tensor]:
        """Named scalar terms of the decoder's loss; windows of raw observations (B, T, D) and `action` (B, H, A)."""
        own: dict[str, Tensor] = {}
        if self.estimator is not None:
            batch, own = self.estimator.trained(batch, rng if self.training else None)
        read = partial(self.context, rng=rng if self.training else None)
        if self.planner is None:
            ctx = read(batch)
        else:
            batch, ctx, terms = self.planner.trained(batch, read, rng)
            own = own | terms
        x = self.codec.encode(batch["action"], batch)
        shares = self._shares(batch, rng)
        terms = self.decoder.loss(ctx, x, weight=self._weight(batch), rng=rng)
        return own | {name: term * shares[name].to(term) if name in shares else term for name, term in terms.items()}

    def counts(self, batch: Batch, *, rng: Rng) -> dict[str, Tensor]:
        """By term of `loss` (of a policy in evaluation mode, with the same arguments), how much its mean counts.

        Terms that are means over rows are left out.
        """
        shape = (len(batch["action"]), *self.shape)
        counted = self.decoder.counted(self._weight(batch), shape=shape, rng=rng)
        return {name: weight.sum() for name, weight in counted.items()}

    def _weight(self, batch: Batch) -> Tensor | None:
        """Which entries of x count, where padding does not."""
        return self.codec.weight(batch.get("action_is_pad"))

    def _shares(self, batch: Batch, rng: Rng) -> dict[str, Tensor]:
        """Of a part of a batch: by term, what its mean counts over what the parts' means count on average.

        The mean over all parts of terms times these is the term of the whole batch.
        """
        if not isinstance(rng, Shard) or (self._weight(batch) is not None and "action_is_pad" not in rng.masks):
            return {}
        shape = (len(batch["action"]) * rng.world, *self.shape)
        counted = self.decoder.counted(self._weight(rng.masks), shape=shape, rng=rng.fork())
        sums = {name: (rng.rows(weight).sum().double(), weight.sum().double()) for name, weight in counted.items()}
        return {name: rng.world * own / whole.clamp_min(1e-30) for name, (own, whole) in sums.items()}

    def generate(self, obs: Batch, *, rng: Rng, known: Known | None = None, **options: Any) -> Tensor:
        """The whole horizon in raw units, (B, H, A), its first step at `timing.align`; `known` as `act` takes it.

        A policy with a planner writes its next sub-task first, where `obs` has none as `plan`.

        Raises ObservationError for observations that are not what the policy reads, before any network is called, and
        ValueError for a known part that does not fit.
        """
        return self._generate(obs, rng, known, **options)[0]

    def _generate(
        self, obs: Batch, rng: Rng, known: Known | None = None, **options: Any
    ) -> tuple[Tensor, tuple[str, ...]]:
        """The horizon, and the sub-tasks that were written before it, (B,) or none."""
        like = next((p for p in self.parameters() if p.is_floating_point()), torch.zeros(()))
        obs = checked(obs, self.inputs, steps=self.n_obs_steps, like=like)
        obs = self._at_size(obs)
        if self.blind:
            obs = unseen(obs, self.inputs, self._clouds, rng)
        if self.estimator is not None:
            obs = self.estimator(obs)
        # An encoder may show more where a plan is made than in training (`ReadingEncoder.acting`).
        acting: Callable[..., Context] = getattr(self.encoder, "acting", self.encoder)
        read = partial(acting, batch=self._rows(obs))
        obs, ctx = (obs, read(obs)) if self.planner is None else self.planner(obs, read, rng)
        if known is not None:
            known = decided(known, rows=ctx.batch, like=like)
            known = self.codec.known(known, obs, first=self.timing.first, horizon=self.horizon)
        if self.codec.rule is not None:
            options.setdefault("allowed", self.codec.rule)
        sample: Callable[..., Tensor] = self.decoder.sample
        x = sample(ctx, shape=self.shape, rng=rng, known=known, **options)
        return self.codec.decode(x, obs), tuple(obs.get(PLAN, ()) if self.planner is not None else ())

    def _at_size(self, obs: Batch) -> Batch:
        """Images at the size that their encoder reads them at, as a store of frames has them.

        So runtimes have no resizing to compute. Those that are read at several sizes, or resized to values between
        whole levels, are left to the encoders.
        """
        sizes: dict[str, set[tuple[int, int] | None]] = {}
        for part in self._cameras:
            for name, size in part.sizes.items():
                sizes.setdefault(name, set()).add(size if part.whole else None)
        alone = {name: found.pop() for name, found in sizes.items() if name in obs and len(found) == 1}
        brought = {}
        for name, one in alone.items():
            if one is not None and tuple(obs[name].shape[2:4]) != one:
                images = resized(obs[name].flatten(0, 1), one)
                brought[name] = images.view(*obs[name].shape[:2], *images.shape[1:])
        return {**obs, **brought} if brought else obs

    def act(self, obs: Batch, *, rng: Rng, known: Known | None = None) -> Chunk:
        """A plan in raw units whose first action is due now.

        known: the part of it that is decided already, (B, n, A) in raw units from now on, tensors or arrays, such as
        actions that will have been executed before the plan arrives; how a sampler keeps it: `decoders.known`.
        """
        # Faster than without gradients alone; the copy is an ordinary tensor again.
        with torch.inference_mode():
            actions, words = self._generate(obs, rng, known)
        return Chunk(actions[:, self.timing.first :].clone(), 1 / self.spec.fps, words)

    def forget(self) -> None:
        """An episode is over: networks that remember something of it do so no longer (`runtime.unchanged`)."""
        for network in self.networks().values():
            forget: Any = getattr(network, "forget", None)
            if forget is not None:
                forget()

    def networks(self) -> dict[str, nn.Module]:
        """The networks that planning calls, by name (`contracts.networks`)."""
        return networks.networks(self)

    def exchange(self, name: str, network: nn.Module) -> None:
        """Puts another network of the same call in place of one; raises ValueError for a name that is none of them."""
        networks.exchange(self, name, network)


_ACTOR: type[Actor] = Policy
"""What controllers drive: a type checker sees here that every policy is one."""
