"""Environments that a process keeps open from one demonstration to the next: the last few, in whose scenes it was."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from nextmove.sim.environment import Environment

KEPT = 2
"""Of each simulator; with a camera one of Meta-World takes 0.2 GB, one of LIBERO 0.75 GB."""
P = ParamSpec("P")


def kept_open(make: Callable[P, Environment]) -> Callable[P, Environment]:
    """`make`, whose last `KEPT` environments stay open; the one used longest ago is closed before another is made.

    `make` takes arguments that can be hashed, by position.
    """
    opened: OrderedDict[object, Environment] = OrderedDict()

    @wraps(make)
    def environment(*args: P.args, **kwargs: P.kwargs) -> Environment:
        if args not in opened:
            while len(opened) >= KEPT:
                opened.popitem(last=False)[1].close()
            opened[args] = make(*args, **kwargs)
        opened.move_to_end(args)
        return opened[args]

    return environment
