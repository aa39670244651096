"""Private parts of torch that are used, each with a fallback where a version of torch lacks it.

Shapes: N outputs, K inputs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor


def _lookup(path: str) -> Any:
    """What lies at a dotted path within torch; None where this version has nothing there."""
    try:
        return operator.attrgetter(path)(torch)
    except (AttributeError, RuntimeError):  # the latter of an operator that was never registered
        return None


_REORDER = _lookup("ops.mkldnn._reorder_linear_weight") if _lookup("_C._has_mkldnn") else None
_POINTWISE = _lookup("ops.mkldnn._linear_pointwise") if _REORDER is not None else None
_WRAPPED: Callable[[Tensor], bool] | None = _lookup("_C._functorch.is_functorch_wrapped_tensor")
_TANGENTS = _lookup("autograd.forward_ad")
_DISPATCH = _lookup("utils._python_dispatch.TorchDispatchMode")
_NORM, _MULTIPLY, _LERP, _COPY = map(_lookup, ("_foreach_norm", "_foreach_mul_", "_foreach_lerp_", "_foreach_copy_"))


def can_pack() -> bool:
    """Whether `packed` and `product` can be called: torch has oneDNN and lets it order weights its own way."""
    return _POINTWISE is not None


def packed(weight: Tensor, rows: int) -> Tensor:
    """A copy of a weight (N, K) in oneDNN's order, for products with about `rows` rows and `product`."""
    copy: Tensor = _REORDER(weight, rows)  # type: ignore[misc]
    return copy


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear` by oneDNN, of x (..., K) with a weight (N, K) as it is or one that `packed` has made."""
    y: Tensor = _POINTWISE(x, weight, bias, "none", [], "")  # type: ignore[misc]
    return y


def transformed(x: Tensor) -> bool:
    """Whether x may carry tangents or a batch of `torch.func`; True as well where this torch cannot tell."""
    level = getattr(_TANGENTS, "_current_level", None)
    if level is None or _WRAPPED is None:
        return True
    return bool(level >= 0) or _WRAPPED(x)


def watched(see: Callable[[Any], None]) -> AbstractContextManager[Any] | None:
    """Inside, `see` is called with what each operator returns, backward passes included; None where torch cannot."""
    if _DISPATCH is None:
        return None

    class Watch(_DISPATCH):  # type: ignore[misc, valid-type]
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            # What is not compiled needs no protection from the compiler, whose import takes a second.
            return False

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            see(found)
            return found

    watch: AbstractContextManager[Any] = Watch()
    return watch


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The Euclidean norm () of each tensor."""
    return [torch.linalg.vector_norm(x) for x in tensors] if _NORM is None else list(_NORM(tensors))


def multiply_(tensors: Sequence[Tensor], factor: float) -> None:
    """Multiplies each in place."""
    if _MULTIPLY is not None:
        _MULTIPLY(tensors, factor)
        return
    for x in tensors:
        x.mul_(factor)


def lerp_(tensors: Sequence[Tensor], ends: Sequence[Tensor], weight: float) -> None:
    """Moves each in place by `weight` of the way to its end."""
    if _LERP is not None:
        _LERP(tensors, ends, weight)
        return
    for x, end in zip(tensors, ends, strict=True):
        x.lerp_(end, weight)


def copy_(tensors: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Writes each source into its tensor."""
    if _COPY is not None:
        _COPY(tensors, sources)
        return
    for x, source in zip(tensors, sources, strict=True):
        x.copy_(source)
