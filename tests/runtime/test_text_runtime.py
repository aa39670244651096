"""Text by OpenVINO: the same logits as torch's for every kind of block, whatever was read before and in which order."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

from nextmove.config import ConfigError
from nextmove.contracts import Context, ContextSpec, Known, seeded
from nextmove.decoders import Autoregressive
from nextmove.decoders.sampling import Sampling
from nextmove.nn import Gpt, Lstm
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import DenseMlp, GatedMlp
from nextmove.nn.norm import LayerNorm, RmsNorm
from nextmove.nn.rope import Rotary

pytest.importorskip("openvino", reason="needs openvino")

from nextmove.runtime.standing import Standing
from nextmove.runtime.text import Held, compile_text

LLAMA = Gpt(
    48, 2, Heads(4, 2, 12, bias=False, out_bias=False), positions="rotary", rotary=Rotary(100.0), norm=RmsNorm(),
    feedforward=GatedMlp(64), head="tied",
)  # fmt: skip
KINDS = {
    "gpt2": Gpt(32, 2, 4, feedforward=DenseMlp(), head="tied"),
    "llama": LLAMA,
    "gemma": Gpt(
        32, 3, Heads(4, 2, 16, bias=False, out_bias=False, norm=RmsNorm(offset=1.0), cap=2.0), positions="rotary",
        norm=RmsNorm(offset=1.0), feedforward=GatedMlp(48, "gelu_tanh"), head="plain", place="both", windows=(3, 0),
        window_rotary=Rotary(50.0), embed_scale=5.0, logit_cap=3.0,
    ),
    "mpt": Gpt(
        48, 2, Heads(6, bias=False, out_bias=False), positions="alibi", norm=LayerNorm(bias=False),
        feedforward=DenseMlp(activation="gelu", bias=False), head="tied",
    ),
    "other parts": Gpt(
        32, 2, Heads(2, norm=LayerNorm()), positions="rotary", norm=LayerNorm(gain=False),
        feedforward=GatedMlp(40, "quick_gelu", True, gate="second"),
    ),
}  # fmt: skip


def pair(trunk: Any, precision: Any = "float32") -> tuple[Any, Any]:
    """The decoder by torch and the same by OpenVINO, weights large enough that tokens differ."""
    torch.manual_seed(0)
    decoder = Autoregressive(trunk, classes=50, start=False).build(shape=(40,), context=ContextSpec()).eval()
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.mul_(4 if weight.dim() > 1 else 1).add_(0.1 * torch.randn_like(weight))
    other = copy.deepcopy(decoder)
    compile_text(other.net, precision)
    return decoder, other


@pytest.mark.parametrize("kind", KINDS)
def test_logits_equal_torch_at_once_and_token_by_token(kind: str) -> None:
    torchs, ours = pair(KINDS[kind])
    ids, ctx = torch.randint(50, (2, 12)), Context.empty(2)
    with torch.inference_mode():
        expected, _ = torchs.net(ids, ctx, None)
        whole, _ = ours.net(ids, ctx, None)
        found, state = ours.net(ids[:, :5], ctx, None)
        parts = [found]
        for i in range(5, 12):
            found, state = ours.net(ids[:, i : i + 1], ctx, state)
            parts.append(found)
    assert isinstance(state, Held)
    assert ours.net.head._request is not None
    assert state.length == 12
    torch.testing.assert_close(whole, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cat(parts, 1), expected, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_a_prefix_is_gone_on_from_in_any_order() -> None:
    torchs, ours = pair(LLAMA)
    ctx, prefix = Context.empty(1), torch.randint(50, (1, 6))
    ends = [torch.randint(50, (1, 3)) for _ in range(3)]
    _, shared = ours.net(prefix, ctx, None)
    made = [ours.net(end, ctx, shared)[1] for end in ends]
    _, foreign = torchs.net(torch.randint(50, (1, 4)), ctx, None)
    ours.net(prefix, ctx, foreign)
    for end, state in zip(reversed(ends), reversed(made), strict=True):
        expected, _ = torchs.net(torch.cat([prefix, end, prefix], 1), ctx, None)
        found, _ = ours.net(prefix, ctx, state)
        torch.testing.assert_close(found, expected[:, 9:], atol=1e-4, rtol=0)
        # What torch goes on from is the same memory.
        found, _ = torchs.net(prefix, ctx, state)
        torch.testing.assert_close(found, expected[:, 9:], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_padding_and_masks_are_read_as_by_torch() -> None:
    torchs, ours = pair(LLAMA)
    ctx, x, more = Context.empty(2), torch.randn(2, 5, 48), torch.randn(2, 2, 48)
    valid = torch.tensor([[False, False, True, True, True], [True] * 5])
    found, expected = ([net.read_embedded(x, ctx, valid=valid)] for net in (ours.net, torchs.net))
    for made, net in ((found, ours.net), (expected, torchs.net)):
        made.append(net.read_embedded(more, ctx, made[0][1]))
    torch.testing.assert_close(found[0][0][valid], expected[0][0][valid], atol=1e-4, rtol=0)
    torch.testing.assert_close(found[1][0], expected[1][0], atol=1e-4, rtol=0)
    assert torch.equal(found[1][1].count, expected[1][1].count)
    assert torch.equal(found[1][1].mask, expected[1][1].mask)
    mask = torch.ones(5, 5, dtype=torch.bool)[None]
    found, expected = (net.read_embedded(x, ctx, mask=mask)[0] for net in (ours.net, torchs.net))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_greedy_text_is_the_same_in_float32() -> None:
    torchs, ours = pair(LLAMA)
    ids = torch.randint(50, (1, 30))
    known = Known(ids, (torch.arange(30) < 4)[None])
    texts = [
        decoder.sample(
            Context.empty(1), shape=(30,), rng=seeded(0), known=known, sampling=Sampling(0.0, repetition=2.0)
        )
        for decoder in (torchs, ours)
    ]
    assert torch.equal(*texts)
    assert len(texts[0].unique()) > 5


@torch.inference_mode()
def test_int8_rounds_the_weights_and_nothing_else() -> None:
    wide = Gpt(128, 1, 4, positions="rotary", feedforward=DenseMlp(256), head="tied")
    torchs, ours = pair(wide, "int8")
    ids, ctx = torch.randint(50, (1, 9)), Context.empty(1)
    float32, _ = torchs.net(ids, ctx, None)
    for block in torchs.net.stream.blocks:
        for weight in (
            block.attention.in_proj_weight, block.attention.out_proj.weight, block.feedforward.up.weight,
            block.feedforward.down.weight,
        ):  # fmt: skip
            scale = weight.abs().amax(1, keepdim=True) / 127
            weight.copy_((weight / scale).round() * scale)
    expected, _ = torchs.net(ids, ctx, None)
    found, _ = ours.net(ids, ctx, None)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)
    assert (found - float32).abs().max() > 1e-3


def test_weights_keep_their_names_and_changes_count() -> None:
    torchs, ours = pair(LLAMA)
    ids, ctx = torch.randint(50, (1, 4)), Context.empty(1)
    assert list(ours.state_dict()) == list(torchs.state_dict())
    with torch.no_grad():
        before, _ = ours.net(ids, ctx, None)
        for decoder in (ours, torchs):
            decoder.load_state_dict({name: 1.5 * x for name, x in torchs.state_dict().items()})
        found, expected = ours.net(ids, ctx, None)[0], torchs.net(ids, ctx, None)[0]
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    assert not torch.allclose(found, before)
    again = pickle.loads(pickle.dumps(ours))
    with torch.no_grad():
        assert torch.equal(again.net(ids, ctx, None)[0], found)


def test_training_goes_to_torch() -> None:
    torchs, ours = pair(LLAMA)
    ids = torch.randint(50, (2, 6))
    losses = [decoder.train().loss_at(Context.empty(2), ids)["nll"] for decoder in (torchs, ours)]
    assert losses[1].requires_grad
    torch.testing.assert_close(losses[0], losses[1])


def test_what_it_cannot_compute_is_named() -> None:
    net = Autoregressive(Lstm(8), classes=5).build(shape=(4,), context=ContextSpec()).net
    with pytest.raises(ConfigError, match="transformers token by token, found"):
        compile_text(net, "float32")
    assert not any(isinstance(module, Standing) for module in net.modules())
