"""The parts a recipe may be made of: what `kind` in a config file may name, and what `--decoder` and `--trunk` choose."""

from __future__ import annotations

from typing import Any

from nextmove import decoders, nn

DECODERS: dict[str, Any] = {
    "flow": decoders.Flow,
    "diffusion": decoders.Diffusion,
    "consistency": decoders.Consistency,
    "shortcut": decoders.Shortcut,
    "meanflow": decoders.MeanFlow,
    "regression": decoders.Regression,
    "mixture": decoders.Mixture,
}
TRUNKS: dict[str, Any] = {
    "mlp": nn.Mlp,
    "plain-mlp": nn.PlainMlp,
    "unet1d": nn.UNet1d,
    "transformer": nn.Transformer,
    "detr": nn.Detr,
}
PARTS: tuple[type, ...] = (
    *DECODERS.values(),
    *TRUNKS.values(),
    decoders.Latent,
    decoders.Autoregressive,
    nn.Lstm,
    nn.Gpt,
    nn.Posterior,
)
