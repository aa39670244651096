"""The tokenizers' networks: sizes as published, grids, and what each end sees."""

import pytest
import torch
from torch import nn

from nextmove.nn import count
from nextmove.nn.autoencoder import AttentionBlock, Downsample, Residual, Strided

SMALL = Residual(width=8, multiples=(1, 2), blocks=1, attention=(), inner=6, groups=4)


@pytest.mark.parametrize("trunk", [Strided(width=8), SMALL])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 8)])
def test_an_image_becomes_a_grid_and_comes_back(trunk, shape):
    encoder, decoder = trunk.build(shape=shape, latent=5)
    x = torch.randn(2, *shape, requires_grad=True)
    z = encoder(x)
    assert z.shape == (2, 5, *trunk.grid(*shape[1:]))
    y = decoder(z)
    assert y.shape == x.shape
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for m in (encoder, decoder) for p in m.parameters())
    assert y.grad_fn is not None
    # The last layer is what the adaptive weight is measured at: nothing follows it.
    decoder.last.register_forward_hook(lambda module, inputs, output: 2 * output)
    torch.testing.assert_close(decoder(z), 2 * y)


def test_the_published_network_has_the_published_size():
    with torch.device("meta"):
        encoder, decoder = Residual().build(shape=(3, 256, 256), latent=256)
    # Encoder and decoder of the authors' ImageNet configuration, and the 1 x 1 convolution at each one's code end.
    assert count(encoder) == 29_298_176 + 65_792
    assert count(decoder) == 42_449_795 + 65_792
    looks = [sum(isinstance(m, AttentionBlock) for m in part.modules()) for part in (encoder, decoder)]
    assert looks == [3, 4]
    assert sum(isinstance(m, Downsample) for m in encoder.modules()) == 4
    assert Residual().grid(256, 256) == (16, 16)


def test_vqvae_has_the_size_of_its_layers():
    encoder, decoder = Strided(width=256, blocks=2).build(shape=(3, 128, 128), latent=64)
    block = (9 * 256 + 1) * 256 + (256 + 1) * 256
    assert count(encoder) == (16 * 3 + 1) * 256 + (16 * 256 + 1) * 256 + 2 * block + 257 * 64
    assert count(decoder) == (9 * 64 + 1) * 256 + 2 * block + (16 * 256 + 1) * 256 + 16 * 256 * 3 + 3
    assert Strided().grid(128, 128) == (32, 32)


def test_images_are_halved_only_while_they_are_large_enough():
    assert Strided().grid(8, 8) == (4, 4)
    assert Strided().grid(28, 28) == (7, 7)
    assert Strided().grid(32, 64) == (8, 16)
    with pytest.raises(ValueError, match="shape: expected even sides of at least 8, found 7 x 8"):
        Strided().build(shape=(1, 7, 8), latent=4)
    with pytest.raises(ValueError, match="shape: expected sides that 16 divides, found 24 x 32"):
        Residual().build(shape=(3, 24, 32), latent=4)


def test_halving_pads_right_and_below():
    halve = Downsample(1)
    nn.init.zeros_(halve.conv.weight)
    nn.init.zeros_(halve.conv.bias)
    with torch.no_grad():
        halve.conv.weight[0, 0, 0, 0] = 1
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert torch.equal(halve(x), x[:, :, ::2, ::2])


def test_attention_sees_every_cell_and_starts_as_an_addition():
    torch.manual_seed(0)
    look = AttentionBlock(8, 4)
    x = torch.randn(1, 8, 3, 3, requires_grad=True)
    y = look(x)
    (slope,) = torch.autograd.grad(y[0, :, 0, 0].sum(), x)
    assert (slope.abs().amax(1) > 0).all()
    nn.init.zeros_(look.attention.out_proj.weight)
    torch.testing.assert_close(look(x), x)
