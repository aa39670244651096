"""The road as one table: every system, what it is made of, and whether it stands yet.

Importing this loads no torch; a system's recipe is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from nextmove.config import ConfigError, nearest

Family = Literal["text", "image", "policy", "vision-language", "vision-language-action"]


@dataclass(frozen=True)
class System:
    """One system of the road."""

    name: str
    title: str
    family: Family
    sentence: str
    """What it is composed of."""
    since: str
    """What it changed over its predecessor."""
    file: str = ""
    recipe: str = ""
    """Class of the recipe in `file`; empty while planned."""

    @property
    def acts(self) -> bool:
        """Whether it is a policy."""
        return self.family in ("policy", "vision-language-action")

    @property
    def state(self) -> Literal["built", "planned"]:
        """Whether it can be trained."""
        return "built" if self.recipe else "planned"

    def load(self) -> Any:
        """The recipe's dataclass; raises ConfigError for a system that is only planned."""
        if not self.recipe:
            raise ConfigError(f"system {self.name!r} is planned, not built; `nextmove systems` lists what is built")
        module = "nextmove." + self.file.removesuffix(".py").replace("/", ".")
        return getattr(import_module(module), self.recipe)


def _text(name: str, title: str, file: str, recipe: str, sentence: str, since: str) -> System:
    return System(name, title, "text", sentence, since, f"models/text/{file}.py", recipe)


def _image(name: str, title: str, file: str, recipe: str, sentence: str, since: str) -> System:
    return System(name, title, "image", sentence, since, f"models/image/{file}.py", recipe)


def _policy(name: str, title: str, file: str, recipe: str, sentence: str, since: str) -> System:
    return System(name, title, "policy", sentence, since, f"models/policy/{file}.py", recipe)


def _sighted(name: str, title: str, file: str, recipe: str, sentence: str, since: str) -> System:
    return System(name, title, "vision-language", sentence, since, f"models/vision_language/{file}.py", recipe)


def _acting(name: str, title: str, file: str, recipe: str, sentence: str, since: str) -> System:
    return System(name, title, "vision-language-action", sentence, since, f"models/policy/{file}.py", recipe)


SYSTEMS: tuple[System, ...] = (
    _text(
        "rnn",
        "RNN",
        "rnn",
        "Rnn",
        "Text + Rnn + Autoregressive",
        "the next character from a state that sums up all before it",
    ),
    _text(
        "lstm", "LSTM", "lstm", "Lstm", "Text + Lstm + Autoregressive", "gates, so that the state keeps what matters"
    ),
    _text(
        "gpt",
        "GPT",
        "gpt",
        "Gpt2",
        "Text + Gpt + Autoregressive",
        "attention to every earlier token in place of one state",
    ),
    _text(
        "gpt-modern",
        "GPT (modern)",
        "gpt",
        "ModernGpt",
        "Text + Gpt(rotary, RMS norm, SwiGLU) + Autoregressive",
        "the parts that language models settled on since",
    ),
    _image(
        "pixelrnn",
        "PixelRNN (Row LSTM)",
        "pixelrnn",
        "PixelRnn",
        "Pixels + RowLstm + Autoregressive",
        "pixels as tokens, with a state from the row above",
    ),
    _image(
        "pixelrnn-diagonal",
        "PixelRNN (Diagonal BiLSTM)",
        "pixelrnn",
        "DiagonalPixelRnn",
        "Pixels + DiagonalLstm + Autoregressive",
        "states along diagonals, which see all earlier pixels",
    ),
    _image(
        "pixelcnn-plain",
        "PixelCNN",
        "pixelcnn",
        "PlainPixelCnn",
        "Pixels + MaskedCnn + Autoregressive",
        "masked convolutions: all pixels train at once",
    ),
    _image(
        "pixelcnn",
        "Gated PixelCNN",
        "pixelcnn",
        "PixelCnn",
        "Pixels + GatedCnn + Autoregressive",
        "two stacks without a blind spot, and gates",
    ),
    _image(
        "imagegpt",
        "ImageGPT",
        "imagegpt",
        "ImageGpt",
        "Palette + Gpt + Autoregressive",
        "the language model, on colours of a palette",
    ),
    _image("vqvae", "VQ-VAE", "vqvae", "VqVae", "Vq + strided convolutions", "learnt tokens in place of pixels"),
    _image(
        "vqgan",
        "VQ-GAN",
        "vqgan",
        "VqGan",
        "Vq + convolutions, perceptual distance and critic",
        "sharp tokens, few enough for a transformer",
    ),
    _image(
        "vqgan-prior",
        "VQ-GAN's prior",
        "vqgan_prior",
        "VqGanPrior",
        "Vq + Gpt + Autoregressive",
        "a language model of learnt tokens",
    ),
    _image("gan", "GAN", "gan", "Gan", "Dcgan + Adversarial", "a whole image in one call, against a critic"),
    _image(
        "ddpm",
        "DDPM",
        "ddpm",
        "Ddpm",
        "UNet2d + Diffusion",
        "denoising in many parallel steps, with a plain regression loss",
    ),
    _image("dit", "DiT", "dit", "DitDiffusion", "Dit + Diffusion", "a transformer over patches in place of the U-Net"),
    _image(
        "flow",
        "Flow matching",
        "flow",
        "FlowMatching",
        "UNet2d + Flow",
        "a straight path and its velocity: few steps",
    ),
    _image(
        "meanflow",
        "MeanFlow",
        "meanflow",
        "MeanFlowImages",
        "UNet2d + MeanFlow",
        "the average velocity of a path: one step",
    ),
    _policy("bc", "BC", "bc", "BC", "PlainMlp + Regression", "the next move from what is observed, by regression"),
    _policy(
        "lstm-gmm", "LSTM-GMM", "lstm_gmm", "LstmGmm", "Lstm + Mixture", "memory, and a mixture in place of one mean"
    ),
    _policy(
        "bc-z",
        "BC-Z",
        "bc_z",
        "BcZ",
        "FilmedCamera + State + PlainMlp + Regression",
        "one network for many tasks: the instruction conditions what the camera's network finds",
    ),
    _policy("act", "ACT", "act", "Act", "Detr + Latent(Regression L1)", "chunks of moves, with a latent for the style"),
    _policy(
        "diffusion-policy",
        "Diffusion Policy",
        "diffusion_policy",
        "DiffusionPolicy",
        "UNet1d + Diffusion",
        "the whole distribution of chunks, by denoising",
    ),
    _policy(
        "diffusion-transformer",
        "Diffusion Policy (transformer)",
        "diffusion_policy",
        "DiffusionTransformer",
        "Transformer + Diffusion",
        "the same with attention",
    ),
    _policy(
        "flow-policy",
        "Flow Policy",
        "flow_policy",
        "FlowPolicy",
        "Mlp + Flow",
        "straight paths: ten steps, four or one",
    ),
    _policy(
        "consistency-policy",
        "Consistency flow policy",
        "consistency_policy",
        "ConsistencyPolicy",
        "Mlp + Consistency",
        "every point of a path names the same end: one step",
    ),
    _policy(
        "meanflow-policy",
        "MeanFlow policy",
        "meanflow_policy",
        "MeanFlowPolicy",
        "Mlp + MeanFlow",
        "the average velocity of a path: one step",
    ),
    _policy(
        "flow-policy-3d",
        "FlowPolicy",
        "flow_policy_3d",
        "FlowPolicy3d",
        "Cloud + State + UNet1d + Consistency",
        "one step from a point cloud, by consistency along the path",
    ),
    _policy(
        "mp1",
        "MP1",
        "mp1",
        "Mp1",
        "Cloud + State + UNet1d + MeanFlow",
        "the average velocity of a path from a point cloud, rows driven apart",
    ),
    _policy(
        "ofp",
        "OFP",
        "ofp",
        "SelfConsistentPolicy",
        "Cloud + State + UNet1d + MeanFlow(two steps)",
        "a long step taught by two short ones, without derivatives",
    ),
    _policy(
        "action-tokens",
        "Action tokens",
        "action_tokens",
        "ActionTokens",
        "Bins + Gpt + Autoregressive",
        "moves as words of a language model",
    ),
    _sighted(
        "clip",
        "CLIP",
        "clip",
        "Clip",
        "VisionTower + TextEncoder + Contrastive(softmax)",
        "images and text in one space: classes are whatever can be described",
    ),
    _sighted(
        "siglip",
        "SigLIP",
        "siglip",
        "Siglip",
        "VisionTower + TextEncoder + Contrastive(sigmoid)",
        "a sigmoid of each pair, no softmax over the batch",
    ),
    _sighted(
        "blip",
        "BLIP",
        "blip",
        "Blip",
        "VisionTower + Med + Distilled, matching and Autoregressive",
        "one model compares, judges and writes",
    ),
    _sighted(
        "flamingo",
        "Flamingo",
        "flamingo",
        "Flamingo",
        "VisionTower + Perceiver + Interleaved(Gpt with gated blocks) + Autoregressive",
        "a frozen language model that sees: images and texts in any order, examples among them",
    ),
    _sighted(
        "llava",
        "LLaVA",
        "llava",
        "Llava",
        "VisionTower + Projector + Prefix(Gpt) + Autoregressive",
        "an image's patches as words in front of the question",
    ),
    _sighted(
        "paligemma",
        "PaliGemma",
        "paligemma",
        "PaliGemma",
        "VisionTower + Projector + Prefix(whole, Gpt) + Autoregressive",
        "image and question see all of each other",
    ),
    _sighted(
        "smolvlm",
        "SmolVLM",
        "smolvlm",
        "SmolVlm",
        "VisionTower + Projector(shuffle) + Prefix(Gpt) + Autoregressive",
        "few tokens an image, for small language models",
    ),
    _acting(
        "rt1",
        "RT-1",
        "rt1",
        "Rt1",
        "FilmedCamera(EfficientNet, TokenLearner) + Bins + Stepwise + Categorical",
        "one transformer for many tasks",
    ),
    _acting(
        "rt2",
        "RT-2",
        "rt2",
        "Rt2",
        "Reading(LLaVA's, PaliGemma's or SmolVLM's parts) + Bins + Continued + Autoregressive",
        "actions as words of a vision-language model, which goes on answering questions",
    ),
    _acting(
        "openvla",
        "OpenVLA",
        "openvla",
        "OpenVla",
        "Reading(two VisionTowers, Gpt) + EdgeBins + Continued + Autoregressive",
        "the same, open, with two towers that see one picture",
    ),
    _acting(
        "openvla-oft",
        "OpenVLA-OFT",
        "openvla_oft",
        "OpenVlaOft",
        "Reading(two VisionTowers, Gpt) + Continued(whole) + Regression L1",
        "a chunk in one pass, as numbers in place of words",
    ),
    _acting("pi0", "pi0", "pi0", "Pi0", "Reading + Expert + Flow", "a flow expert beside the language model"),
    _acting(
        "pi05",
        "pi0.5",
        "pi05",
        "Pi05",
        "Reading(state in words) + Expert(adaptive) + Flow",
        "the state in words, and an expert that the time steers",
    ),
    _acting(
        "pi0-fast", "pi0-FAST", "pi0_fast", "Pi0Fast", "Reading + FastTokens + Autoregressive", "a chunk in few words"
    ),
    _acting(
        "smolvla",
        "SmolVLA",
        "smolvla",
        "SmolVla",
        "Reading(half a language model, state as a token) + Expert(every other layer cross) + Flow",
        "half a language model and few tokens an image: small enough for a laptop",
    ),
)


def find(name: str) -> System:
    """The system called `name`; raises ConfigError with the nearest name."""
    for system in SYSTEMS:
        if system.name == name:
            return system
    names = [system.name for system in SYSTEMS]
    raise ConfigError(f"no system is called {name!r}{nearest(name, names)}; `nextmove systems` lists all {len(names)}")


def built(family: Family | None = None) -> tuple[System, ...]:
    """The systems that stand, of one family or of all."""
    return tuple(s for s in SYSTEMS if s.state == "built" and family in (None, s.family))


def recipes(names: Collection[str]) -> tuple[type, ...]:
    """The recipes of these class names, of any system that stands; no other is imported.

    A spec may hold a recipe, as a prior's holds that of its tokenizer.
    """
    return tuple(s.load() for s in SYSTEMS if s.state == "built" and s.recipe in names)
