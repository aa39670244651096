"""Feed-forward parts of a transformer block: how the hidden units are made; a linear map always leads back.

Letters: W width, F hidden units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "relu2", "silu"]


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
    "silu": F.silu,
}


@dataclass(frozen=True)
class Dense:
    """down(activation(up(x)))."""

    hidden: int = 0
    """Hidden units; 0 = 4 W."""
    activation: Activation = "gelu_tanh"
    bias: bool = True

    def build(self, width: int) -> tuple[nn.Module, nn.Linear]:
        """`up` (..., W) -> (..., F), its activation included, and `down` (..., F) -> (..., W)."""
        hidden = self.hidden or 4 * width
        return Units(width, hidden, self.bias, self.activation), nn.Linear(hidden, width, self.bias)


@dataclass(frozen=True)
class Gated:
    """down(activation(gate(x)) * up(x)) (Shazeer 2020, equation 6; with "silu" it is SwiGLU)."""

    hidden: int = 0
    """Hidden units; 0 = 8 W / 3, as many weights as `Dense`."""
    activation: Activation = "silu"
    bias: bool = False

    def build(self, width: int) -> tuple[nn.Module, nn.Linear]:
        """`up` (..., W) -> (..., F) and `down` (..., F) -> (..., W)."""
        hidden = self.hidden or 8 * width // 3
        return GatedUnits(width, 2 * hidden, self.bias, self.activation), nn.Linear(hidden, width, self.bias)


class Units(nn.Linear):
    """A linear map and its activation."""

    def __init__(self, width: int, out: int, bias: bool, activation: Activation) -> None:
        super().__init__(width, out, bias)
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, found {activation!r}")
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """(..., W) -> (..., F)."""
        return self.activation(super().forward(x))


class GatedUnits(Units):
    """One linear map for gates and values; the first half of its outputs gates the second."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., W) -> (..., F)."""
        gate, value = F.linear(x, self.weight, self.bias).chunk(2, -1)
        return self.activation(gate) * value
