"""Generative rules around a network: each has a `loss` and a `sample`."""

from nextmove.decoders.adversarial import Adversarial
from nextmove.decoders.autoregressive import Autoregressive
from nextmove.decoders.consistency import Consistency
from nextmove.decoders.diffusion import Diffusion, Flow, Sampler
from nextmove.decoders.direct import Mixture, Regression
from nextmove.decoders.latent import Latent
from nextmove.decoders.meanflow import MeanFlow
from nextmove.decoders.reconstruction import Reconstruction
from nextmove.decoders.shortcut import Shortcut

__all__ = [
    "Adversarial",
    "Autoregressive",
    "Consistency",
    "Diffusion",
    "Flow",
    "Latent",
    "MeanFlow",
    "Mixture",
    "Reconstruction",
    "Regression",
    "Sampler",
    "Shortcut",
]
