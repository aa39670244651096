"""Feed-forward parts of a transformer block, dense or gated.

Shapes: W width, F hidden units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.nn.dropout import Dropout
from nextmove.nn.product import Linear

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "relu2", "sigmoid", "silu"]


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x) (Hendrycks and Gimpel 2016, section 2)."""
    return x * (1.702 * x).sigmoid()


def relu2(x: Tensor) -> Tensor:
    """max(x, 0)^2 (So et al. 2021)."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "relu2": relu2,
    "sigmoid": F.sigmoid,
    "silu": F.silu,
}


@dataclass(frozen=True)
class DenseMlp:
    """down(activation(up(x)))."""

    hidden: int = 0
    """Hidden units; 0 = 4 W."""
    activation: Activation = "gelu_tanh"
    bias: bool = True

    def build(self, width: int, dropout: float = 0.0) -> FeedForward:
        """The module (..., W) -> (..., W); dropout: of hidden units."""
        hidden = self.hidden or 4 * width
        return FeedForward(LinearAct(width, hidden, self.bias, self.activation), hidden, width, self.bias, dropout)


@dataclass(frozen=True)
class GatedMlp:
    """down(activation(gate(x)) * up(x)) (Shazeer 2020, equation 6; with "silu" it is SwiGLU)."""

    hidden: int = 0
    """Hidden units; 0 = 8 W / 3, as many weights as `DenseMlp`."""
    activation: Activation = "silu"
    bias: bool = False
    gate: Literal["first", "second"] = "first"
    """Which half of the upward map's outputs is the gate (torch's `glu`: the second)."""

    def build(self, width: int, dropout: float = 0.0) -> FeedForward:
        """The module (..., W) -> (..., W); dropout: of hidden units."""
        if self.gate not in ("first", "second"):
            raise ValueError(f"gate: expected first or second, found {self.gate!r}")
        hidden = self.hidden or 8 * width // 3
        up = GatedLinear(width, 2 * hidden, self.bias, self.activation)
        up.first = self.gate == "first"
        return FeedForward(up, hidden, width, self.bias, dropout)


@dataclass(frozen=True)
class LinearMap:
    """A linear map alone, without hidden units (RT-1, Brohan et al. 2022)."""

    bias: bool = True

    def build(self, width: int, dropout: float = 0.0) -> Mapped:
        """The module (..., W) -> (..., W); dropout: of what it answers."""
        return Mapped(width, self.bias, dropout)


class Mapped(Linear):
    """dropout(a linear map of x)."""

    def __init__(self, width: int, bias: bool, dropout: float) -> None:
        super().__init__(width, width, bias)
        self.dropout = Dropout(dropout) if dropout else None

    def forward(self, input: Tensor) -> Tensor:
        """(..., W) -> (..., W)."""
        y = super().forward(input)
        return self.dropout(y) if self.dropout is not None and self.training else y


class FeedForward(nn.Module):
    """down(dropout(up(x))), the activation within `up`."""

    def __init__(self, up: LinearAct, hidden: int, width: int, bias: bool, dropout: float) -> None:
        super().__init__()
        self.up, self.down = up, Linear(hidden, width, bias)
        self.dropout = Dropout(dropout) if dropout else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., W) -> (..., W)."""
        h = self.up(x)
        if self.dropout is not None and self.training:
            h = self.dropout(h)
        y: Tensor = self.down(h)
        return y


class LinearAct(Linear):
    """A linear map and its activation."""

    def __init__(self, width: int, out: int, bias: bool, activation: Activation) -> None:
        super().__init__(width, out, bias)
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, found {activation!r}")
        self.kind, self.activation = activation, ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """(..., W) -> (..., F)."""
        return self.activation(Linear.forward(self, x))


class GatedLinear(LinearAct):
    """One linear map for gates and values; the `first` half of its outputs gates the other, or the second."""

    first = True

    def forward(self, x: Tensor) -> Tensor:
        """(..., W) -> (..., F)."""
        gate, value = Linear.forward(self, x).chunk(2, -1)
        return self.activation(gate) * value if self.first else gate * self.activation(value)
