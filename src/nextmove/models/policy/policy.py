"""A policy: an encoder, an action codec and a decoder with a time contract.

Letters: B batch, T observation steps, H horizon, A action width.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from nextmove.contracts import Actor, Batch, Chunk, Context, Known, Rng, Shard, networks
from nextmove.models.policy.observed import checked


@dataclass(frozen=True)
class PolicySpec:
    """The robot a policy is for: widths of the observed state features in file order, of the action, and the rate."""

    features: dict[str, int]
    action: int
    fps: float
    ignored: tuple[str, ...] = ()
    """Features of the data set that the policy does not look at (cameras)."""
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the dimensions, of each feature and of `action`, as far as the data set has them."""


@dataclass(frozen=True)
class Timing:
    """When a policy looks and for how long it plans."""

    n_obs_steps: int = 2
    horizon: int = 16
    n_action_steps: int = 4
    """Actions executed of each plan before the next."""
    align: Literal["now", "first_observation"] = "now"
    """The step that the first predicted action belongs to (Diffusion Policy starts at the first observed step)."""
    ensemble: float | None = None
    """Coefficient of temporal ensembling (`control.Ensembling`; ACT's code: 0.01), which plans at every step; none: the
    first actions of each plan are executed."""

    def __post_init__(self) -> None:
        if self.ensemble is not None and not math.isfinite(self.ensemble):
            raise ValueError(f"timing.ensemble: expected a finite coefficient or none, found {self.ensemble}")
        if self.ensemble is not None and self.n_action_steps != 1:
            raise ValueError(
                f"timing.n_action_steps: expected 1, for temporal ensembling plans at every step, found "
                f"{self.n_action_steps}; choose 1, or no timing.ensemble"
            )
        for name in ("n_obs_steps", "horizon", "n_action_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"timing.{name}: expected at least 1, found {getattr(self, name)}")
        room = self.horizon - self.first
        if self.n_action_steps > room:
            raise ValueError(
                f"timing.n_action_steps: expected at most {room} of horizon {self.horizon}, found {self.n_action_steps}"
            )

    @property
    def first(self) -> int:
        """Index in the window of the action that is due now."""
        return self.n_obs_steps - 1 if self.align == "first_observation" else 0

    def executing(self, steps: int) -> Timing:
        """The same with the first `steps` actions of each plan executed, whatever it was before; not ensembled."""
        return replace(self, n_action_steps=steps, ensemble=None)

    @property
    def obs_offsets(self) -> tuple[int, ...]:
        """Observed frames relative to now."""
        return tuple(range(1 - self.n_obs_steps, 1))

    @property
    def action_offsets(self) -> tuple[int, ...]:
        """Predicted frames relative to now."""
        return tuple(range(-self.first, self.horizon - self.first))


@dataclass(frozen=True)
class Representation:
    """How the world is shown and in which space actions are predicted; `auto` is settled when a policy is built."""

    view: Literal["auto", "plain", "points"] = "auto"
    """`points` where the data have points, a goal for each and the robot's position; else `plain`."""
    points: str = "observation.environment_state"
    anchor: str = "observation.state"
    goal: str = "observation.goal"
    fine: float = 10.0
    actions: Literal["auto", "absolute", "relative"] = "auto"
    """`relative` to the anchor's present value (`auto`: where the view is `points`)."""
    frame: Literal["auto", "world", "object"] = "auto"
    """Whose axes directions are told along; `object`: the points' heading (`auto`: where the view is `points`, in the
    plane, and actions are relative)."""
    noise: float = 0.02
    """Noise on the scaled observations in training, as a share of their spread."""

    def settle(self, spec: PolicySpec) -> Representation:
        """The same with `auto` decided from the data's features."""
        has = {self.points, self.anchor, self.goal} <= set(spec.features)
        fits = has and spec.features[self.goal] == spec.features[self.points]
        view = ("points" if fits else "plain") if self.view == "auto" else self.view
        if view == "points" and not fits:
            raise ValueError(
                f"representation.view: 'points' needs {self.points!r}, {self.goal!r} of its width and {self.anchor!r}; "
                f"found {spec.features}"
            )
        close = view == "points" and spec.features[self.anchor] == spec.action
        actions = ("relative" if close else "absolute") if self.actions == "auto" else self.actions
        planar = view == "points" and spec.features[self.anchor] == spec.action == 2 and actions == "relative"
        frame = ("object" if planar else "world") if self.frame == "auto" else self.frame
        if frame == "object" and not planar:
            raise ValueError(
                f"representation.frame: 'object' needs the view 'points' in x, y and relative actions; "
                f"found view {view!r}, {actions} actions, {spec.features}"
            )
        return replace(self, view=view, actions=actions, frame=frame)


class Policy(nn.Module):
    """Observations to plans: `decoder` generates in the space of `codec` given what `encoder` tells it."""

    NETWORKS: ClassVar[dict[str, str | None]] = {"encoder": "encoder", "decoder": None}

    encoder: Any
    codec: Any
    decoder: Any

    def __init__(
        self,
        *,
        spec: PolicySpec,
        timing: Timing,
        encoder: nn.Module,
        codec: nn.Module,
        decoder: nn.Module,
        shape: tuple[int, ...],
        mask_padding: bool = False,
    ) -> None:
        super().__init__()
        self.spec, self.timing, self.shape, self.mask_padding = spec, timing, shape, mask_padding
        self.encoder, self.codec, self.decoder = encoder, codec, decoder
        self.sampling: dict[str, Any] = {}
        """Options of `decoder.sample` other than its own, such as `steps`."""

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
    def features(self) -> tuple[str, ...]:
        """Observation features it reads, in file order."""
        return tuple(self.spec.features)

    def fit(self, batches: Collection[Batch]) -> None:
        """Fits the scales of observations and actions on training windows (exact over all batches given).

        Batches are gone through once for each scale, and again for quantiles; one is in memory at a time.
        """
        if not len(batches):
            raise ValueError("fit: expected at least one batch of training windows, found none")
        self.encoder.scale.fit_parts(
            lambda: ((self.encoder.show(b).flatten(0, 1).numpy(), self.encoder.size(b).numpy()) for b in batches)
        )
        self.codec.fit_parts(lambda: (self.acted(b) for b in batches))

    def acted(self, batch: Batch) -> tuple[Any, Any]:
        """What the scale of actions is fitted on, and the size of what that was computed from."""
        action = batch["action"]
        return self.codec.values(action, batch).numpy(), self.codec.size(action, batch).numpy()

    def context(self, obs: Mapping[str, Tensor], rng: Rng | None = None) -> Context:
        """What the decoder is told; with `rng` the training noise on observations is drawn from it."""
        return self.encoder(obs, rng)

    def loss(self, batch: Batch, *, rng: Rng) -> dict[str, Tensor]:
        """Named scalar terms of the decoder's loss; windows of raw observations (B, T, D) and `action` (B, H, A)."""
        ctx = self.context(batch, rng if self.training else None)
        x = self.codec.encode(batch["action"], batch)
        shares = self._shares(batch, rng)
        terms = self.decoder.loss(ctx, x, weight=self._weight(batch), rng=rng)
        return {name: term * shares[name].to(term) if name in shares else term for name, term in terms.items()}

    def counts(self, batch: Batch, *, rng: Rng) -> dict[str, Tensor]:
        """By term of `loss` (of a policy in evaluation mode, with the same arguments), how much its mean counts.

        Terms that are means over rows are left out.
        """
        shape = (len(batch["action"]), *self.shape)
        counted = self.decoder.counted(self._weight(batch), shape=shape, rng=rng)
        return {name: weight.sum() for name, weight in counted.items()}

    def _weight(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """Which actions (B, H) count, where padding does not."""
        return ~batch["action_is_pad"] if self.mask_padding and "action_is_pad" in batch else None

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

    def generate(self, obs: Mapping[str, Tensor], *, rng: Rng, known: Known | None = None, **options: Any) -> Tensor:
        """The whole horizon in raw units, (B, H, A), its first step at `timing.align`.

        Raises ObservationError for observations that are not what the policy reads, before any network is called.
        """
        read = getattr(self.encoder, "features", self.spec.features)
        like = next((p for p in self.parameters() if p.is_floating_point()), torch.zeros(()))
        obs = checked(obs, read, steps=self.n_obs_steps, names=self.spec.names, like=like)
        ctx = self.context(obs)
        x = self.decoder.sample(ctx, shape=self.shape, rng=rng, known=known, **{**self.sampling, **options})
        return self.codec.decode(x, obs)

    @torch.no_grad()
    def act(self, obs: Batch, *, rng: Rng, previous: Chunk | None = None) -> Chunk:
        """A plan in raw units whose first action is due now."""
        return Chunk(self.generate(obs, rng=rng)[:, self.timing.first :], 1 / self.spec.fps)

    def networks(self) -> dict[str, nn.Module]:
        """The networks that planning calls, by name (`contracts.networks`)."""
        return networks.networks(self)

    def exchange(self, name: str, network: nn.Module) -> None:
        """Puts another network of the same call in place of one; raises ValueError for a name that is none of them."""
        networks.exchange(self, name, network)


_ACTOR: type[Actor] = Policy
"""What controllers drive: a type checker sees here that every policy is one."""
