"""One-dimensional convolutions that become matrix products where those are faster.

On CPUs `conv1d` rearranges its weights at every call, which at batch 1 costs more than the product itself; and it
misses the tile units (AMX) that linear layers reach in bf16. Elsewhere it is faster than gathering windows. Where the
input is shorter than the kernel, taps that only ever see the zeros around it are left out, however it is computed: of
five taps on one step one is left. Shapes: B batch, C channels, L length, K kernel.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextmove.nn import product
from nextmove.nn.kept import Kept, lasting

_short = Kept()


class Conv1d(nn.Conv1d):
    """`nn.Conv1d` with the same parameters and, up to rounding, numbers; on CPUs computed in the faster way."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, L) -> (B, C', L')."""
        plain = self.groups == 1 and self.dilation == (1,) and self.padding_mode == "zeros"
        if not plain or isinstance(self.padding, str):
            return super().forward(input)
        if not _by_hand(input):
            weight, around = reaching(self.weight, input.shape[2], self.stride[0], self.padding[0])
            short = weight is not self.weight
            return F.conv1d(F.pad(input, around), weight, self.bias, self.stride) if short else super().forward(input)
        long = input.shape[2] > self.kernel_size[0] and len(input) * input.shape[2] > product.ROWS
        if long and not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        # In the order that norms and convolutions expect.
        return unfolded(input, self.weight, self.bias, self.stride[0], self.padding[0]).contiguous()


class Upsample1d(nn.ConvTranspose1d):
    """Doubles the length: `nn.ConvTranspose1d(C, C, 4, stride=2, padding=1)`, on CPUs computed as one product."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 4, stride=2, padding=1)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, L) -> (B, C, 2 L)."""
        if not _by_hand(input) or self.bias is None:
            return super().forward(input, output_size)
        taps = (input.mT @ self.weight.flatten(1)).view(len(input), input.shape[2], -1, 4)
        # Input i reaches outputs 2 i - 1 to 2 i + 2, one with each tap.
        even = taps[..., 1] + F.pad(taps[:, :-1, :, 3], (0, 0, 1, 0))
        odd = taps[..., 2] + F.pad(taps[:, 1:, :, 0], (0, 0, 0, 1))
        return (torch.stack([even, odd], 2).flatten(1, 2) + self.bias).mT


def _by_hand(x: Tensor) -> bool:
    """Whether torch itself computes on a CPU; compilers know convolutions better than what stands in for them."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def unfolded(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """The convolution of x (B, C, L) with weight (C', C, K) as one product over gathered windows."""
    weight, around = reaching(weight, x.shape[2], stride, padding)
    if weight.shape[2] == 1 and stride == 1:
        return product.linear(F.pad(x, around).mT, weight, bias).mT
    patches = F.pad(x, around).unfold(2, weight.shape[2], stride)
    return product.linear(patches.transpose(1, 2).flatten(2), weight, bias).mT


def reaching(weight: Tensor, length: int, stride: int, padding: int) -> tuple[Tensor, tuple[int, int]]:
    """The taps of the weight (C', C, K) that meet an input of this length (C', C, K'), and the zeros around it for
    them; a negative number of zeros cuts what no tap meets."""
    kernel = weight.shape[2]
    last = (length + 2 * padding - kernel) // stride * stride
    first, end = max(0, padding - last), min(kernel, padding + length)
    around = (padding - first, last + end - padding - length)
    if last < 0 or end - first == kernel:
        return weight, (padding, padding)
    kept = not torch.is_grad_enabled() and not torch.compiler.is_compiling() and lasting(weight)
    if not kept or weight.numel() < product.LEAST // 4:
        return weight[:, :, first:end], around
    return _short.of(partial(_taps, weight, first, end), weight), around


@torch.inference_mode(False)
def _taps(weight: Tensor, first: int, end: int) -> nn.Parameter:
    """A copy of some of the taps, of which `product` may keep one in an order of its own."""
    return nn.Parameter(weight.detach()[:, :, first:end].clone(), requires_grad=False)
