"""A convolution and the norm behind it, as one convolution where that is the same and cheaper.

A frozen batch norm is an affine map of each channel, so it may be multiplied into the weights in front of it:
(w * x) s + t = (w s) * x + t. In training that is done where there are fewer weights than values; without gradients
the product is kept until a weight changes, batch norm in evaluation mode included. Shapes: C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.nn.kept import Kept, lasting

_FOLDED = Kept()


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and gains are constants, as of a pretrained network; named as torchvision's."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, value in {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}.items():
            self.register_buffer(name, torch.full((width,), value))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, height, width)."""
        scale, shift = (part.to(x.dtype)[:, None, None] for part in affine(self))
        return torch.addcmul(shift, x, scale)


def affine(norm: FrozenBatchNorm2d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The factor and the addend (C,) of each channel, by its kept statistics."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    scale = norm.weight * (var + norm.eps).rsqrt()
    return scale, norm.bias - mean * scale


def normed(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """norm(conv(x)), x (B, C, height, width), for a convolution without bias."""
    fixed = isinstance(norm, FrozenBatchNorm2d) or (isinstance(norm, nn.BatchNorm2d) and not norm.training)
    if not fixed or torch.compiler.is_compiling():  # compilers fold by themselves
        found: Tensor = norm(convolved(conv, x, conv.weight))
        return found
    assert isinstance(norm, FrozenBatchNorm2d | nn.BatchNorm2d)
    if not torch.is_grad_enabled() and lasting(conv.weight) and not norm.running_var.is_inference():  # type: ignore[union-attr]
        statistics = [norm.weight, norm.bias, norm.running_mean, norm.running_var]
        folded, shift = _FOLDED.of(lambda: _fold(conv, norm), conv.weight, *statistics)  # type: ignore[arg-type]
        return convolved(conv, x, folded, shift)
    # The convolution gives about as many values as it reads where the stride doubles the channels.
    if isinstance(norm, FrozenBatchNorm2d) and conv.weight.numel() < x.numel():
        return convolved(conv, x, *_fold(conv, norm))
    found = norm(convolved(conv, x, conv.weight))
    return found


def _fold(conv: nn.Conv2d, norm: FrozenBatchNorm2d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    scale, shift = affine(norm)
    return conv.weight * scale[:, None, None, None], shift


def convolved(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution by these weights."""

    def by(x: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    # For maps of one value oneDNN leaves parts of the weight's gradient in bf16 unwritten (torch 2.13, avx512_bf16).
    if x.shape[-2:] == (1, 1) and torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return by(x.float())
    return by(x)
