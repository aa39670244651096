"""EDM preconditioning: a network whose input, output and answer have unit variance at every noise level."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nextmove.contracts import Context
from nextmove.decoders.paths import VE


class Preconditioned(nn.Module):
    """D = c_skip x + c_out F(c_in x, timestep), x1 on the path VE (Karras et al. 2022, eq. 7 and table 1)."""

    def __init__(self, net: nn.Module, path: VE, sigma_data: float) -> None:
        super().__init__()
        self.net = net
        self.path = path
        self.sigma_data = sigma_data

    def forward(self, x: Tensor, t: Tensor, ctx: Context) -> Tensor:
        """x (B, ...) at noise level sigma, t (B, n) with the path's timestep first; x1 (B, ...)."""
        sigma = self.path.sigma_of(t[:, 0]).reshape(-1, *[1] * (x.dim() - 1))
        norm = sigma**2 + self.sigma_data**2
        c_skip, c_out = self.sigma_data**2 / norm, sigma * self.sigma_data * torch.rsqrt(norm)
        out: Tensor = self.net(x * torch.rsqrt(norm), t, ctx)
        return c_skip * x + c_out * out


def edm_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """The weight of the error in x1 that makes every noise level count alike at the start of training (their eq. 8)."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
