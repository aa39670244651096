"""Networks: plain modules of shapes; they know no loss and no sampler."""

from nextmove.nn.count import count
from nextmove.nn.detr import Detr, Posterior
from nextmove.nn.gpt import Gpt
from nextmove.nn.mlp import Mlp, PlainMlp
from nextmove.nn.pointnet import Points3d
from nextmove.nn.rnn import Lstm
from nextmove.nn.transformer import Transformer
from nextmove.nn.unet1d import UNet1d

__all__ = ["Detr", "Gpt", "Lstm", "Mlp", "PlainMlp", "Points3d", "Posterior", "Transformer", "UNet1d", "count"]
