"""Observations checked where they enter a policy, before any network: names, widths, kinds and values.

Letters: B batch, T observation steps, D width of a feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nextmove.contracts import Batch, ObservationError


def checked(
    obs: Batch, features: Mapping[str, int], *, steps: int, names: Mapping[str, Sequence[str]], like: Tensor
) -> dict[str, Any]:
    """The observations with every feature that is read as (B, T, D) of the dtype and on the device of `like`.

    A feature of width 1 may come as one number a step, (B, T). Raises ObservationError naming feature, dimension (its
    joint, where `names` has it), row and step of what is absent, of another kind, width or number of steps, or not
    finite.
    """
    return {
        **obs,
        **{name: _feature(obs, name, width, steps, names.get(name, ()), like) for name, width in features.items()},
    }


def _feature(obs: Batch, name: str, width: int, steps: int, names: Sequence[str], like: Tensor) -> Tensor:
    if name not in obs:
        raise ObservationError(f"observation: expected feature {name!r}, found {sorted(obs)}")
    try:
        x = torch.as_tensor(obs[name])
    except (TypeError, ValueError, RuntimeError):
        raise ObservationError(f"{name}: expected numbers, found {type(obs[name]).__name__}") from None
    if x.is_complex():
        raise ObservationError(f"{name}: expected real numbers, found {x.dtype}")
    x = x[..., None] if x.dim() == 2 and width == 1 else x
    if x.dim() < 3:
        raise ObservationError(f"{name}: expected shape (B, T, {width}), found {tuple(x.shape)}")
    # Points (B, T, P, D) may have colours that are not looked at.
    if x.shape[-1] < width or (x.dim() == 3 and x.shape[-1] > width):
        raise ObservationError(f"{name}: expected width {width}, found {x.shape[-1]}")
    if x.shape[1] < steps:
        raise ObservationError(f"{name}: expected the last {steps} observations, found {x.shape[1]}")
    x = x.to(like.device, torch.promote_types(like.dtype, torch.float32))
    if not bool(x.isfinite().all()):
        place = tuple(int(i) for i in (~x.isfinite()).nonzero()[0])
        dims, value = place[2:], float(x[place])
        joint = f" ({names[dims[-1]]})" if dims[-1] < len(names) else ""
        raise ObservationError(
            f"{name}{list(dims)}{joint}: expected finite numbers, found {value}",
            row=place[0], ago=x.shape[1] - 1 - place[1],
        )  # fmt: skip
    return x
