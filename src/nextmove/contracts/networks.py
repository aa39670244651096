"""The networks of a model by name, so that each can be counted, exported or exchanged where it stands.

A model and its parts say in `NETWORKS` which attribute holds which network, or a part that has networks of its own:

name       a call
encoder    `(inputs, ...) -> Context`, what the decoder is conditioned on
vision     `(pictures, steering) -> tokens`, called once a picture
prefix     `(embedded tokens, ...) -> Memory`, which `step` reads
step       `(x, t, ctx) -> y`, called at each step of a sampler
token      `(ids, ctx, state) -> (logits, state)`, called at each token
generator  `(z, ctx) -> x`
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn


class Networked(Protocol):
    """A model whose networks can be listed and exchanged."""

    def networks(self) -> dict[str, nn.Module]:
        """The networks that acting or generating calls, by name."""
        ...

    def exchange(self, name: str, network: nn.Module) -> None:
        """Puts another network of the same call in the place of one of them."""
        ...


def networks(part: Any) -> dict[str, nn.Module]:
    """The networks of a model or of a part of one, by name; those that training alone calls are left out."""
    return {name: getattr(owner, attribute) for name, (owner, attribute) in _places(part).items()}


def exchange(part: Any, name: str, network: nn.Module) -> None:
    """Puts `network` in the place of the network called `name`; raises ValueError where there is none of this name."""
    places = _places(part)
    if name not in places:
        close = difflib.get_close_matches(name, places, 1, 0.5)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"network: expected one of {', '.join(places)}; found {name!r}{hint}")
    owner, attribute = places[name]
    setattr(owner, attribute, network)


def _places(part: Any) -> dict[str, tuple[Any, str]]:
    """By name, the module and the attribute of it that hold each network."""
    named: Mapping[str, str | None] = getattr(part, "NETWORKS", {})
    found: dict[str, tuple[Any, str]] = {}
    for attribute, name in named.items():
        child = getattr(part, attribute)
        if name is None or hasattr(child, "NETWORKS"):
            found |= _places(child)
        elif child is not None:
            found[name] = (part, attribute)
    return found
