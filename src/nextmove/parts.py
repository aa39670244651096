"""The parts a recipe may be made of: what `kind` in a file may name, and what `--decoder` and `--trunk` choose."""

from __future__ import annotations

from typing import Any

from nextmove import decoders, encoders, nn
from nextmove.decoders.categorical import Categorical
from nextmove.decoders.contrastive import Contrastive
from nextmove.decoders.distilled import Distilled
from nextmove.decoders.insulated import Insulated
from nextmove.encoders.planner import Planner
from nextmove.encoders.sentence import Sentence
from nextmove.models.generator import ImageSpec, PriorSpec, TextSpec
from nextmove.models.policy import PolicySpec
from nextmove.models.vision_language.spec import PairSpec
from nextmove.nn import (
    attention,
    autoencoder,
    chunk_head,
    critic,
    dcgan,
    dual,
    efficientnet,
    feedforward,
    imagegpt,
    med,
    norm,
    perceptual,
    pixelcnn,
    pixelrnn,
    relative,
    resnet,
    small_resnet,
    stepwise,
    text_encoder,
    vit,
)

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
    "unet2d": nn.UNet2d,
    "dit": nn.Dit,
    "gpt": nn.Gpt,
}
VIEWS: dict[str, Any] = {
    "state": encoders.State,
    "camera": encoders.Camera,
    "filmed-camera": encoders.FilmedCamera,
    "cloud": encoders.Cloud,
    "instruction": encoders.Instruction,
    "sentence": Sentence,
    "estimated-state": encoders.StateEstimator,
    "named-state": encoders.StateEstimator,
    "planner": Planner,
}
"""What a policy may look at."""
BACKBONES: dict[str, Any] = {
    "small": small_resnet.SmallResNet(),
    "resnet18": resnet.ResNet(),
    "resnet18-frozen": resnet.ResNet(norm="frozen"),
    "resnet34": resnet.ResNet(34),
    "vit": vit.Vit(),
    "efficientnet-lite0": efficientnet.EfficientNetLite(),
    "efficientnet-b3": efficientnet.EfficientNet(padding="same"),
}
"""Networks of cameras."""
INSTRUCTIONS: dict[str, Any] = {"bytes": encoders.Instruction(), "minilm": Sentence()}
"""What reads instructions."""
PARTS: tuple[type, ...] = (
    *DECODERS.values(),
    *TRUNKS.values(),
    decoders.Latent,
    Insulated,
    decoders.Autoregressive,
    Categorical,
    stepwise.Stepwise,
    nn.Lstm,
    nn.Rnn,
    nn.Expert,
    nn.Continued,
    chunk_head.ChunkHead,
    attention.Heads,
    norm.LayerNorm,
    norm.RmsNorm,
    feedforward.DenseMlp,
    feedforward.GatedMlp,
    feedforward.LinearMap,
    nn.ActVaeEncoder,
    pixelcnn.MaskedCnn,
    pixelcnn.GatedCnn,
    pixelrnn.RowLstm,
    pixelrnn.DiagonalLstm,
    imagegpt.ImageTransformer,
    autoencoder.Strided,
    autoencoder.Residual,
    critic.DcganCritic,
    critic.PatchCritic,
    dcgan.Dcgan,
    perceptual.RandomFeatures,
    text_encoder.TextEncoder,
    vit.VisionTower,
    dual.DualEncoder,
    med.Med,
    Contrastive,
    Distilled,
    relative.Relative,
)
SPECS: tuple[type, ...] = (PolicySpec, TextSpec, ImageSpec, PriorSpec, PairSpec)
"""What a saved model may be for."""
