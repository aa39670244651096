"""Checks of tensors against those expected: names, shapes and values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from nextmove.config import ConfigError, nearest

CHUNK = 2**22
"""Values looked at together, so that a check takes no memory of a tensor's size."""


def check(
    expected: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    *,
    where: str,
    whole: str = "model",
    finite: bool = False,
) -> None:
    """Raises ConfigError naming the first tensor that is missing, misshapen, of another kind or belongs nowhere.

    Args:
        expected: Tensors of the names and shapes wanted; their values do not matter.
        found: Tensors of a file.
        where: The file, for messages.
        whole: What the tensors are part of, for messages.
        finite: Also refuse NaN and infinity, where there is storage.
    """
    for name, own in expected.items():
        if name not in found:
            raise ConfigError(f"{where}: missing tensor {name!r}{nearest(name, found.keys() - expected.keys())}")
        value = found[name]
        if own.shape != value.shape:
            raise ConfigError(f"{where}: {name}: expected shape {tuple(own.shape)}, found {tuple(value.shape)}")
        if own.is_floating_point() != value.is_floating_point():
            raise ConfigError(f"{where}: {name}: expected values of {own.dtype}, found {value.dtype}")
        if (
            finite
            and not value.is_meta
            and not all(bool(part.isfinite().all()) for part in torch.split(value.reshape(-1), CHUNK))
        ):
            raise ConfigError(f"{where}: {name}: expected finite values, found NaN or infinity")
    for name in found:
        if name not in expected:
            raise ConfigError(f"{where}: tensor {name!r} belongs to no part of the {whole}{nearest(name, expected)}")


def _finite(value: Tensor) -> bool:
    return all(bool(part.isfinite().all()) for part in torch.split(value.reshape(-1), CHUNK))


def digest(tensor: Tensor) -> str:
    """A hash, hexadecimal, of dtype, shape and values."""
    content = hashlib.blake2b(f"{tensor.dtype} {tuple(tensor.shape)}".encode(), digest_size=8)
    for part in torch.split(tensor.detach().reshape(-1), CHUNK):
        content.update(part.cpu().contiguous().view(torch.uint8).numpy().data)
    return content.hexdigest()
