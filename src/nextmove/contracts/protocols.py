"""The protocols between the rooms: encoders, codecs, networks, decoders, and who trains and drives them.

Shapes: B batch, T observation steps, H horizon, A action width, L tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor, nn

from nextmove.contracts.context import Context, ContextSpec, Known
from nextmove.contracts.draws import Rng
from nextmove.contracts.features import Batch, Feature
from nextmove.contracts.summary import Array, Summary

Reads = Callable[[Mapping[str, Any]], Context]
"""Observations to their context."""


@dataclass(frozen=True)
class Chunk:
    """A plan: `actions` (B, H, A) in the robot's units, one every `dt` seconds, the first due when it was observed."""

    actions: Tensor
    dt: float
    words: tuple[str, ...] = ()
    """(B,) sub-tasks that were written before it, of an actor that writes them."""


@runtime_checkable
class Trunk(Protocol):
    """A network config that a decoder completes with what only the decoder knows."""

    def build(self, *, shape: tuple[int, ...], out: int, times: int, context: ContextSpec, causal: bool) -> nn.Module:
        """A network `(x (B, *shape), t (B, times), ctx) -> y`, y like x but `out` wide.

        For sequences `shape` is (H, A) and y is (B, H, out); A = 0 gives a network that only reads the context.
        For images `shape` is (C, height, width) and y is (B, out, height, width).
        """
        ...


@runtime_checkable
class TokenTrunk(Protocol):
    """A network config for sequences of class indices."""

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec) -> nn.Module:
        """A causal network `(ids (B, L), ctx, state | None) -> (logits (B, L, classes), state)`.

        `logits[:, i]` predicts the id after `ids[:, i]`; the id `classes` is the start symbol. One that can do without
        also takes `start=False`.
        """
        ...


@runtime_checkable
class Codec(Protocol):
    """An invertible map between data and the space a model generates in; its state is saved inside the model."""

    def encode(self, raw: Tensor) -> Tensor:
        """Data to model space."""
        ...

    def decode(self, x: Tensor) -> Tensor:
        """Model space to data."""
        ...


@runtime_checkable
class ImageCodec(Protocol):
    """An invertible map between images (B, C, height, width) in [0, 1] and the space they are generated in."""

    def encode(self, raw: Tensor, rng: Rng | None = None) -> Tensor:
        """Images to model space; with `rng` a codec of continuous values spreads each level over its cell."""
        ...

    def decode(self, x: Tensor) -> Tensor:
        """Model space to images."""
        ...


@runtime_checkable
class TextCodec(Protocol):
    """A map between texts and ids."""

    @property
    def classes(self) -> int:
        """Number of different ids."""
        ...

    def encode(self, raw: str) -> Tensor:
        """ids (L,) of a text; raises ValueError for a character that has none."""
        ...

    def prompt(self, raw: str) -> Tensor:
        """ids (L,) of a text that is to be continued, with what has to stand in front of it."""
        ...

    def decode(self, x: Tensor) -> str:
        """The text of ids (L,)."""
        ...

    def stream(self, ids: Iterable[int], after: Iterable[int] = ()) -> Iterator[str]:
        """The text that each id adds behind the ids `after`, as far as it is certain, then what is left."""
        ...


class Numbers(Protocol):
    """The numbers of training windows, as statistics are taken of them; cameras and texts are never among them."""

    def observed(
        self, names: Sequence[str], steps: int, levels: tuple[float, float] | None
    ) -> tuple[Summary, Array | None]:
        """Of features side by side (D,) over their last `steps` observations; with quantiles (2, D) if asked."""
        ...

    def acted(self, per_step: bool, levels: tuple[float, float] | None) -> tuple[Summary, Array | None]:
        """Of the actions over the whole horizon (A,), or at each of its steps (H A,)."""
        ...

    def parts(self) -> Iterator[Batch]:
        """All windows in order, a few at a time: observations (B, T, D), `action` (B, H, A)."""
        ...


class ActionCodec(Protocol):
    """An invertible map of action windows that may depend on what is observed (relative actions)."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Features of the observation it reads."""
        ...

    @property
    def end(self) -> float:
        """Largest magnitude of the fitted data in model space, infinite where their scaling sets it no end."""
        ...

    @property
    def rule(self) -> Callable[[int, Tensor], Tensor] | None:
        """Of ids that do not all fit each other: (i, ids (B, i)) to those (B, K) that may follow."""
        ...

    def fit(self, numbers: Numbers) -> None:
        """Fits its statistics."""
        ...

    def encode(self, action: Tensor, obs: Mapping[str, Any]) -> Tensor:
        """Raw actions (B, H, A) to model space."""
        ...

    def decode(self, x: Tensor, obs: Mapping[str, Any]) -> Tensor:
        """Model space to raw actions (B, H, A)."""
        ...

    def weight(self, is_pad: Tensor | None) -> Tensor | None:
        """Which entries of x count in a loss, from `action_is_pad` (B, H); None: all."""
        ...

    def known(self, known: Known, obs: Mapping[str, Any], *, first: int, horizon: int) -> Known:
        """What is known of a plan in the robot's units, its first row `first` rows into the horizon, in model space."""
        ...


class Encoder(Protocol):
    """Observations or labels to a context."""

    @property
    def spec(self) -> ContextSpec:
        """What networks built on this encoder may rely on."""
        ...

    @property
    def inputs(self) -> Mapping[str, Feature]:
        """What it reads."""
        ...

    def fit(self, numbers: Numbers) -> None:
        """Fits the statistics of its inputs that are numbers."""
        ...

    def __call__(self, inputs: Mapping[str, Any], *, batch: int, rng: Rng | None = None) -> Context:
        """The context of `batch` rows; with `rng` (training) noise and augmentation are drawn from it."""
        ...


@runtime_checkable
class Estimator(Protocol):
    """What cameras show, as a state that is measured in training only."""

    @property
    def inputs(self) -> Mapping[str, Feature]:
        """What it reads."""
        ...

    @property
    def targets(self) -> Mapping[str, Feature]:
        """The states that it estimates."""
        ...

    def fit(self, numbers: Numbers) -> None:
        """Fits the statistics of what it estimates."""
        ...

    def trained(self, obs: Mapping[str, Any], rng: Rng | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Observations with estimates as a policy is trained on them, and the loss terms of the estimates."""
        ...

    def __call__(self, obs: Mapping[str, Any]) -> dict[str, Any]:
        """The observations with estimates in the states' places."""
        ...


class Planner(Protocol):
    """What says in words what is done next, before it is done."""

    @property
    def targets(self) -> Mapping[str, Feature]:
        """The sub-tasks that it is trained to write."""
        ...

    @property
    def every(self) -> int:
        """For how many plans of actions one sub-task is kept."""
        ...

    def trained(
        self, obs: Mapping[str, Any], read: Reads, rng: Rng
    ) -> tuple[dict[str, Any], Context, dict[str, Tensor]]:
        """Observations told the data's sub-tasks, the context of the actions, and the loss terms of writing.

        read: observations to their context.
        """
        ...

    def __call__(self, obs: Mapping[str, Any], read: Reads, rng: Rng) -> tuple[dict[str, Any], Context]:
        """Observations told a sub-task, given or written, with it as `plan`, and the context of the actions."""
        ...


@runtime_checkable
class Decoder(Protocol):
    """A generative rule around a network."""

    def loss(self, ctx: Context, x: Tensor, *, weight: Tensor | None, rng: Rng) -> dict[str, Tensor]:
        """Named scalar terms whose sum is the loss; `weight` broadcasts to x (or its positions), None counts all."""
        ...

    def counted(self, weight: Tensor | None, *, shape: Sequence[int], rng: Rng) -> dict[str, Tensor]:
        """By term, the weights (B, ...) over which `loss` on x of `shape`, with this `rng`, takes its mean.

        Terms that are means over all rows alike are left out.
        """
        ...

    def sample(self, ctx: Context, *, shape: Sequence[int], rng: Rng, known: Known | None = None) -> Tensor:
        """x of shape (B, *shape), B from the context."""
        ...

    def with_sampling(self, solver: str | None = None, steps: int = 0, guidance: float = 1.0) -> Self:
        """The same weights sampled in another way: a solver by name, a number of network calls (0: as trained), a
        weight of guidance (1: none); raises ConfigError naming what it has not."""
        ...


class Trainable(Protocol):
    """What the training loop sees."""

    def loss(self, batch: Batch, *, rng: Rng) -> dict[str, Tensor]:
        """Named scalar terms whose sum is the loss."""
        ...


class Actor(Protocol):
    """What turns observations into plans; observations are (B, T, ...) in raw units under LeRobot's feature names."""

    @property
    def n_obs_steps(self) -> int:
        """Observations each plan is made from."""
        ...

    @property
    def n_action_steps(self) -> int:
        """Actions executed of each plan."""
        ...

    @property
    def horizon(self) -> int:
        """Actions predicted."""
        ...

    def act(self, obs: Batch, *, rng: Rng, known: Known | None = None) -> Chunk:
        """A plan whose first action is due at the last observed step.

        known: what is decided already of it, in the robot's units, (B, n, A) from the action due now on. An actor that
        writes sub-tasks takes those that `obs` has as `plan`, (B,) strings, and writes where one is empty.
        """
        ...
