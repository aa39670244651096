"""Foreign tensors read into our modules strictly: every one is used, ignored for a stated reason, or an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from nextmove.config import ConfigError
from nextmove.weights import assign, without_storage


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """What is wrong with a file's content is said with the folder it is in."""
    try:
        yield
    except ConfigError as problem:
        if str(folder) in str(problem):
            raise
        raise ConfigError(f"{folder}: {problem}") from None


@contextmanager
def building() -> Iterator[None]:
    """Models are built here without values; sizes that contradict each other are an error of config.json."""
    try:
        with without_storage():
            yield
    except ConfigError:
        raise
    except ValueError as problem:
        raise ConfigError(f"config.json: {problem}") from None


def fill(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    foreign: Callable[[str], str | None],
    *,
    where: str,
    dtype: torch.dtype | None = torch.float32,
    whole: str = "policy",
) -> dict[str, str]:
    """Gives the module `tensors`, all of which must be used, and returns foreign name -> our name.

    foreign: the name in the file of one of our tensors, None for what does not come from there (scales); dtype: of
    floating tensors, None for the file's; whole: what the tensors are part of, for messages. Raises ConfigError for a
    missing, unused, misshapen or non-finite tensor, naming it.
    """
    return assign(module, tensors, where=where, foreign=foreign, whole=whole, finite=True, dtype=dtype)


def same_table(name: str, found: Tensor, expected: Tensor, *, where: str) -> None:
    """Checks a fixed table that a file stores although it can be computed; raises ConfigError if it is another."""
    if found.shape != expected.shape:
        raise ConfigError(f"{where}: {name}: expected shape {tuple(expected.shape)}, found {tuple(found.shape)}")
    off = float((found.float() - expected).abs().max())
    # Written from float64 or float32 angles, which differ by 1e-5 in the last rows of long tables.
    if not off < 1e-3:
        raise ConfigError(f"{where}: {name}: expected the fixed table, found one {off:.3g} off")


def renamed(name: str, rules: Mapping[str, str]) -> str | None:
    """`name` with the longest matching prefix of `rules` exchanged, None where none matches."""
    for prefix in sorted(rules, key=len, reverse=True):
        if name == prefix or name.startswith(prefix + "."):
            return rules[prefix] + name[len(prefix) :]
    return None
