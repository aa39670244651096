"""Networks: plain modules of shapes; they know no loss and no sampler."""

from nextmove.nn.continued import Continued
from nextmove.nn.count import count
from nextmove.nn.detr import ActVaeEncoder, Detr
from nextmove.nn.dit import Dit
from nextmove.nn.expert import Expert
from nextmove.nn.gpt import Gpt
from nextmove.nn.mlp import Mlp, PlainMlp
from nextmove.nn.pointnet import Points3d
from nextmove.nn.rnn import Lstm, Rnn
from nextmove.nn.transformer import Transformer
from nextmove.nn.unet1d import UNet1d
from nextmove.nn.unet2d import UNet2d

__all__ = [
    "ActVaeEncoder",
    "Continued",
    "Detr",
    "Dit",
    "Expert",
    "Gpt",
    "Lstm",
    "Mlp",
    "PlainMlp",
    "Points3d",
    "Rnn",
    "Transformer",
    "UNet1d",
    "UNet2d",
    "count",
]
