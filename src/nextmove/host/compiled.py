"""Functions that numba compiles: kept for the next process where that can be written, else compiled by each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Any], Any]:
    """A decorator: numba's `njit` with these options, for functions that run beside others."""

    def made(function: Any) -> Any:
        try:
            return njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # neither the package's folder nor one of the user's can be written
            return njit(nogil=True, **options)(function)

    return made
