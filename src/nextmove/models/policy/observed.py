"""Checks of what a policy is shown and told before any of its networks: names, shapes, kinds and values.

Shapes: B batch, T observation steps, D width of a feature, P points.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from nextmove.contracts import Batch, Feature, Known, ObservationError, Rng, uniform


def checked(obs: Batch, inputs: Mapping[str, Feature], *, steps: int, like: Tensor) -> dict[str, Any]:
    """The observations with every input that is read in its type's form, on the device of `like`.

    States (B, T, D) and points (B, T, P, D) in the dtype of `like`, images (B, T, height, width, channels) uint8,
    instructions a list of B strings. A state of width 1 may come as one number a step, (B, T). Raises ObservationError
    naming feature, dimension (its joint, where it has a name), row and step of what is absent, of another kind, size
    or number of rows or steps, or not finite.
    """
    read = {n: _feature(obs, n, f, steps, like) for n, f in inputs.items() if not (f.optional and n not in obs)}
    first = next(iter(read), "")
    for name, value in read.items():
        if len(value) != len(read[first]):
            raise ObservationError(f"{name}: expected {len(read[first])} rows, as {first} has, found {len(value)}")
    if first and not len(read[first]):
        raise ObservationError(f"{first}: expected at least one row, found none")
    return {**obs, **read}


def decided(known: Any, *, rows: int, like: Tensor) -> Known:
    """The part of a plan that is decided already, as tensors like `like`; its numbers may come as arrays.

    Raises ValueError naming what is of another kind or has not as many rows as are observed.
    """
    if not isinstance(known, Known):
        raise ValueError(f"known: expected contracts.Known(value, weight, start), found {type(known).__name__}")
    value, weight = (_real(f"known.{name}", getattr(known, name)).to(like) for name in ("value", "weight"))
    if isinstance(known.start, bool) or not hasattr(known.start, "__index__"):
        raise ValueError(f"known.start: expected a whole number of steps from now on, found {known.start!r}")
    if value.dim() == 3 and len(value) != rows:
        raise ValueError(f"known.value: expected {rows} rows, as observed, found {len(value)}")
    return Known(value, weight, operator.index(known.start))


def _real(name: str, found: Any) -> Tensor:
    try:
        x = found if isinstance(found, Tensor) else torch.from_numpy(np.array(found))
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected a tensor or an array of numbers, found {type(found).__name__}") from None
    if x.is_complex():
        raise ValueError(f"{name}: expected real numbers, found {x.dtype}")
    return x


class Clouds(Protocol):
    """What reads point clouds by name and knows where they lie."""

    @property
    def inputs(self) -> Mapping[str, Feature]:
        """What it reads."""
        ...

    def unseen(self, name: str, points: Tensor, rng: Rng) -> Tensor:
        """As many points that say nothing."""
        ...


def unseen(obs: Batch, inputs: Mapping[str, Feature], clouds: Iterable[Clouds], rng: Rng) -> dict[str, Any]:
    """The observations with noise, drawn from `rng`, in place of all that is looked at: images and point clouds.

    Each value of an image is any level alike; points lie where `clouds`, which read them, would find any.
    """
    reading = {name: cloud for cloud in clouds for name in cloud.inputs}
    noise: dict[str, Tensor] = {}
    for name, feature in inputs.items():
        if feature.type == "image" and name in obs:
            noise[name] = (256 * uniform(obs[name].shape, rng)).to(torch.uint8).to(obs[name].device)
        elif feature.type == "points" and name in obs:
            noise[name] = reading[name].unseen(name, obs[name], rng)
    return {**obs, **noise}


def _feature(obs: Batch, name: str, feature: Feature, steps: int, like: Tensor) -> Any:
    if name not in obs:
        raise ObservationError(f"observation: expected {_called(name, feature)}, found {sorted(obs)}")
    if feature.type == "text":
        return _text(name, obs[name])
    try:
        x = torch.as_tensor(obs[name])
    except (TypeError, ValueError, RuntimeError):
        raise ObservationError(f"{name}: expected numbers, found {type(obs[name]).__name__}") from None
    x = _image(name, x, feature) if feature.type == "image" else _number(name, x, feature, like)
    if x.shape[1] < steps:
        raise ObservationError(f"{name}: expected the last {steps} observations, found {x.shape[1]}")
    return x.to(like.device) if feature.type == "image" else _finite(name, x, feature)


def _called(name: str, feature: Feature) -> str:
    return {"text": "an instruction", "image": "camera"}.get(feature.type, "feature") + f" {name!r}"


def _text(name: str, found: Any) -> list[str]:
    if not isinstance(found, list | tuple) or not all(isinstance(text, str) for text in found):
        raise ObservationError(f"{name}: expected a list of strings, one for each row, found {type(found).__name__}")
    return list(found)


def _image(name: str, x: Tensor, feature: Feature) -> Tensor:
    """Images (B, T, height, width, channels) as they are."""
    height, width, channels = feature.shape
    if x.dtype != torch.uint8:
        raise ObservationError(f"{name}: expected images of uint8, 0 to 255, found {x.dtype}")
    if x.dim() == 5 and tuple(x.shape[2:]) == (channels, height, width) != feature.shape:
        raise ObservationError(
            f"{name}: expected images (height, width, channels), {list(feature.shape)}, found channels first, "
            f"{list(x.shape[2:])}"
        )
    if x.dim() != 5 or tuple(x.shape[2:]) != feature.shape:
        raise ObservationError(f"{name}: expected shape (B, T, {height}, {width}, {channels}), found {tuple(x.shape)}")
    return x


def _number(name: str, x: Tensor, feature: Feature, like: Tensor) -> Tensor:
    """States and points in the dtype of `like`."""
    width = feature.width
    if x.is_complex():
        raise ObservationError(f"{name}: expected real numbers, found {x.dtype}")
    x = x[..., None] if x.dim() == 2 and width == 1 else x
    if feature.type == "points":
        if x.dim() != 4 or feature.shape[0] not in (0, x.shape[2]):
            points = feature.shape[0] or "P"
            raise ObservationError(f"{name}: expected shape (B, T, {points}, {width}), found {tuple(x.shape)}")
        # Points may have colours that are not looked at.
        if x.shape[-1] < width:
            raise ObservationError(f"{name}: expected width {width}, found {x.shape[-1]}")
    elif x.dim() != 3:
        raise ObservationError(f"{name}: expected shape (B, T, {width}), found {tuple(x.shape)}")
    elif x.shape[-1] != width:
        raise ObservationError(f"{name}: expected width {width}, found {x.shape[-1]}")
    return x.to(like.device, torch.promote_types(like.dtype, torch.float32))


def _finite(name: str, x: Tensor, feature: Feature) -> Tensor:
    if not bool(x.isfinite().all()):
        place = tuple(int(i) for i in (~x.isfinite()).nonzero()[0])
        dims, value = place[2:], float(x[place])
        joint = f" ({feature.names[dims[-1]]})" if dims[-1] < len(feature.names) else ""
        raise ObservationError(
            f"{name}{list(dims)}{joint}: expected finite numbers, found {value}",
            row=place[0], ago=x.shape[1] - 1 - place[1],
        )  # fmt: skip
    return x
