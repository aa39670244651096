"""The context as one row of numbers, for networks that flatten their condition."""

from __future__ import annotations

from torch import Tensor

from nextmove.contracts import Context, ContextSpec


def check_context(spec: ContextSpec, *, positions: bool = False) -> None:
    """Raises ValueError where a memory, or positions of tokens, are promised to a network that would not read them."""
    if spec.positions and not positions:
        raise ValueError("context.positions: expected none, since this network reads tokens without (nn.Detr with)")
    if spec.memory is not None:
        raise ValueError(
            "context.memory: expected none, since this network reads vectors and tokens alone (nn.Expert reads a "
            f"memory); found {spec.memory.layers} layers"
        )


def flat_width(spec: ContextSpec) -> int:
    """Columns of `flat`; raises ValueError for a memory, and if there are tokens but their number is unknown."""
    check_context(spec)
    if spec.token and not spec.tokens:
        raise ValueError(f"context.tokens: expected a fixed number of tokens to flatten, found {spec.tokens}")
    return spec.vector + spec.token * spec.tokens


def flat(ctx: Context, spec: ContextSpec) -> list[Tensor]:
    """The vector (B, D) and the tokens (B, S D), those that are masked out as zeros; absent parts are left out.

    Raises ValueError naming a part that is not as `spec` says.
    """
    parts = []
    if spec.vector:
        parts.append(_as_promised("vector", ctx.vector, (spec.vector,)))
    if spec.token:
        tokens = _as_promised("tokens", ctx.tokens, (spec.tokens, spec.token))
        parts.append((tokens if ctx.mask is None else tokens.masked_fill(~ctx.mask[..., None], 0)).flatten(1))
    return parts


def _as_promised(name: str, part: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    if part is None or part.shape[1:] != shape:
        expected = ", ".join(map(str, ("B", *shape)))
        found = "none" if part is None else str(tuple(part.shape))
        raise ValueError(f"context.{name}: expected ({expected}), found {found}")
    return part
