"""Text with packed weights: the numbers that torch computes from them, for each layout and kind of block."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from nextmove.config import ConfigError
from nextmove.contracts import Context, ContextSpec, Known, seeded
from nextmove.contracts.layers import Product
from nextmove.decoders import Autoregressive
from nextmove.decoders.sampling import Sampling
from nextmove.nn import Gpt, Lstm
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import DenseMlp, GatedMlp
from nextmove.nn.norm import RmsNorm
from nextmove.nn.quantised import keep_packed
from nextmove.nn.rope import Rotary
from nextmove.weights.packed import FORMATS, Packed

pytest.importorskip("numba", reason="needs numba")

from nextmove.runtime.packed import step
from nextmove.runtime.packed.layout import laid
from nextmove.runtime.packed.shelf import Shelved
from nextmove.runtime.packed.stream import exchange
from nextmove.runtime.packed.tables import described
from nextmove.runtime.packed.team import together

LLAMA = Gpt(
    64, 2, Heads(4, 2, 16, bias=False, out_bias=False), positions="rotary", rotary=Rotary(100.0), norm=RmsNorm(),
    feedforward=GatedMlp(96), head="tied",
)  # fmt: skip
KINDS = {
    "llama": LLAMA,
    "gpt2": Gpt(64, 2, 4, feedforward=DenseMlp(128), head="biased"),
    "windows": Gpt(
        64, 2, Heads(2, 1, 32), positions="rotary", norm=RmsNorm(),
        feedforward=GatedMlp(64, "gelu_tanh", gate="second"), windows=(4, 0), window_rotary=Rotary(50.0), head="plain",
    ),
}  # fmt: skip


def random(kind: str, rows: int, columns: int) -> Packed:
    """Weights about as large as those of networks."""
    values, size, _ = FORMATS[kind]
    blocks = torch.randint(256, (rows, columns // values, size), dtype=torch.uint8)
    blocks[..., :2] = torch.full((*blocks.shape[:2], 1), 0.01 if kind != "Q8_0" else 0.001).half().view(torch.uint8)
    if kind.endswith("_1"):
        blocks[..., 2:4] = torch.empty(*blocks.shape[:2], 1).uniform_(-0.1, -0.05).half().view(torch.uint8)
    return Packed(kind, (rows, columns), blocks.flatten(1))


def pair(trunk: Any, kinds: tuple[str, ...] = ("Q4_1", "Q8_0", "Q4_0")) -> tuple[Any, Any]:
    """The decoder with packed weights by torch, and the same by kernels."""
    torch.manual_seed(0)
    decoder = Autoregressive(trunk, classes=64, start=False).build(shape=(400,), context=ContextSpec()).eval()
    matrices = [name for name, x in decoder.named_parameters() if x.dim() == 2 and "position" not in name]
    sizes = {name: tuple(decoder.get_parameter(name).shape) for name in matrices}
    keep_packed(decoder, {name: [random(kinds[i % len(kinds)], *sizes[name])] for i, name in enumerate(matrices)})
    with torch.no_grad():
        for weight in decoder.parameters():
            if weight.dim() == 1:
                weight.add_(0.1 * torch.randn_like(weight))
    other = copy.deepcopy(decoder)
    exchange(other.net)
    return decoder, other


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0", "Q5_1", "rounded"])
@pytest.mark.parametrize(("length", "team"), [(1, 1), (1, 2), (19, 2)])
def test_products_are_those_with_the_unpacked_weights(kind: str, length: int, team: int) -> None:
    torch.manual_seed(0)
    packed = [] if kind == "rounded" else [random(kind, 40, 96), random(kind, 13, 96)]
    product = Product(torch.randn(53, 96) if kind == "rounded" else None, torch.randn(53), packed)
    x, one = torch.randn(length, 96), laid(product)
    rows = 1 if length == 1 else 32
    read, out = np.zeros(rows * 96, np.float32), np.empty((rows, 64), np.float32)
    together(team, step.spoken, x.numpy(), np.array(described(one)), one.bias, read, out, length)
    values, exact = product.weight, kind.startswith("Q4") or kind == "Q8_0"
    if not exact:
        blocks = values.unflatten(1, (-1, 32))
        scale = (blocks.abs().amax(-1, keepdim=True) / 127).half().float()
        values = ((blocks / scale).round() * scale).flatten(1)
    assert one.bits == (4 if kind.startswith("Q4") else 8)
    expected = x @ values.T + product.bias
    torch.testing.assert_close(torch.from_numpy(out)[:length, :53], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_logits_equal_torch_at_once_and_token_by_token(kind: str) -> None:
    torchs, ours = pair(KINDS[kind])
    ids, ctx = torch.randint(64, (1, 12)), Context.empty(1)
    expected, _ = torchs.net(ids, ctx, None)
    whole, _ = ours.net(ids, ctx, None)
    found, state = ours.net(ids[:, :5], ctx, None)
    parts = [found]
    for i in range(5, 12):
        found, state = ours.net(ids[:, i : i + 1], ctx, state)
        parts.append(found)
    assert isinstance(state, Shelved)
    assert state.length == 12
    torch.testing.assert_close(whole, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cat(parts, 1), expected, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_long_texts_are_read_in_parts_and_have_room() -> None:
    torchs, ours = pair(LLAMA)
    ids, ctx = torch.randint(64, (1, 390)), Context.empty(1)
    expected, _ = torchs.net(ids, ctx, None)
    found, state = ours.net(ids[:, :300], ctx, None)
    rest, _ = ours.net(ids[:, 300:], ctx, state)
    torch.testing.assert_close(torch.cat([found, rest], 1), expected, atol=2e-4, rtol=0)


@torch.inference_mode()
def test_a_prefix_is_gone_on_from_in_any_order() -> None:
    torchs, ours = pair(LLAMA)
    ctx, prefix = Context.empty(1), torch.randint(64, (1, 6))
    ends = [torch.randint(64, (1, 3)) for _ in range(3)]
    _, shared = ours.net(prefix, ctx, None)
    made = [ours.net(end, ctx, shared)[1] for end in ends]
    for end, state in zip(reversed(ends), reversed(made), strict=True):
        expected, _ = torchs.net(torch.cat([prefix, end, prefix], 1), ctx, None)
        # What torch goes on from is the same memory, and the other way round.
        for net, memory in ((ours.net, state), (torchs.net, state), (ours.net, torchs.net(end, ctx, shared)[1])):
            torch.testing.assert_close(net(prefix, ctx, memory)[0], expected[:, 9:], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_padding_is_not_read_and_several_texts_are_torchs() -> None:
    torchs, ours = pair(LLAMA)
    ctx, x, valid = Context.empty(1), torch.randn(1, 5, 64), torch.tensor([[False, False, True, True, True]])
    found, expected = (net.read_embedded(x, ctx, valid=valid) for net in (ours.net, torchs.net))
    torch.testing.assert_close(found[0][:, 2:], expected[0][:, 2:], atol=1e-4, rtol=0)
    more = torch.randn(1, 1, 64)
    found, expected = (
        net.read_embedded(more, ctx, s)[0] for net, (_, s) in ((ours.net, found), (torchs.net, expected))
    )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    ids = torch.randint(64, (2, 4))
    found, expected = (net(ids, Context.empty(2), None)[0] for net in (ours.net, torchs.net))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_greedy_text_is_the_same() -> None:
    torchs, ours = pair(LLAMA)
    ids = torch.randint(64, (1, 30))
    known = Known(ids, (torch.arange(30) < 4)[None])
    sampling = Sampling(0.0, repetition=2.0)
    texts = [
        d.sample(Context.empty(1), shape=(30,), rng=seeded(0), known=known, sampling=sampling) for d in (torchs, ours)
    ]
    assert torch.equal(*texts)
    assert len(texts[0].unique()) > 5


@torch.inference_mode()
def test_copies_and_changed_weights_count() -> None:
    decoder = Autoregressive(LLAMA, classes=64, start=False).build(shape=(40,), context=ContextSpec()).eval()
    names, ids, ctx = list(decoder.state_dict()), torch.randint(64, (1, 4)), Context.empty(1)
    exchange(decoder.net)
    assert list(decoder.state_dict()) == names
    before, _ = decoder.net(ids, ctx, None)
    for copied in (copy.deepcopy(decoder), pickle.loads(pickle.dumps(decoder))):
        assert torch.equal(copied.net(ids, ctx, None)[0], before)
    decoder.load_state_dict({name: 2 * x for name, x in decoder.state_dict().items()})
    assert not torch.allclose(decoder.net(ids, ctx, None)[0], before, atol=1e-3)


@pytest.mark.parametrize(
    ("trunk", "said"),
    [
        (Gpt(48, 1, 4, feedforward=DenseMlp(64)), "widths that 32 divides, found 48"),
        (Gpt(64, 1, Heads(4, norm=RmsNorm()), feedforward=DenseMlp(64)), "norms of queries and keys"),
        (Lstm(32), "transformers token by token, found"),
    ],
)
def test_what_has_no_kernel_is_said(trunk: Any, said: str) -> None:
    decoder = Autoregressive(trunk, classes=64).build(shape=(20,), context=ContextSpec()).eval()
    with pytest.raises(ConfigError, match=said):
        exchange(decoder.net)
