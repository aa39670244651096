"""The text encoder gives what CLIP's text tower gives, and padding says nothing."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tests.golden.materialise import materialise
from tests.interop.test_cases import GOLDEN
from torch.nn import functional as F

from nextmove.nn import count
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.text_encoder import TextEncoder

NAMES = {
    "attention_branch.norm": "layer_norm1",
    "feedforward_branch.norm": "layer_norm2",
    "feedforward.up": "mlp.fc1",
    "feedforward.down": "mlp.fc2",
    "attention.out_proj": "self_attn.out_proj",
}


def clip(folder):
    """The text tower of a folder of transformers."""
    config = json.loads((folder / "config.json").read_text())
    text, found = config["text_config"], load_file(folder / "model.safetensors")
    width, layers = text["hidden_size"], text["num_hidden_layers"]
    feedforward = DenseMlp(text["intermediate_size"], text["hidden_act"])
    encoder = TextEncoder(
        width, layers, text["num_attention_heads"], out=config["projection_dim"], causal=True, pool="end",
        feedforward=feedforward,
    )  # fmt: skip
    net = encoder.build(classes=text["vocab_size"], length=text["max_position_embeddings"])
    own = {
        "embedding.weight": found["text_model.embeddings.token_embedding.weight"],
        "position": found["text_model.embeddings.position_embedding.weight"],
        "project.weight": found["text_projection.weight"],
    }
    for end in ("weight", "bias"):
        own[f"stream.norm.{end}"] = found[f"text_model.final_layer_norm.{end}"]
        for i in range(layers):
            theirs, ours = f"text_model.encoder.layers.{i}", f"stream.blocks.{i}"
            packed = [found[f"{theirs}.self_attn.{part}_proj.{end}"] for part in "qkv"]
            own[f"{ours}.attention.in_proj_{end}"] = torch.cat(packed)
            own |= {f"{ours}.{name}.{end}": found[f"{theirs}.{other}.{end}"] for name, other in NAMES.items()}
    net.load_state_dict(own)
    return net.eval()


@pytest.mark.parametrize("name", ["clip_text", "clip_eos_text"])
def test_equals_transformers(name, tmp_path):
    folder = materialise(GOLDEN / name, tmp_path / "case")
    io = load_file(folder / "io.safetensors")
    with torch.no_grad():
        made = clip(folder)(io["in.input_ids"], io["in.attention_mask"])
    hidden = made.tokens * io["in.attention_mask"][..., None]
    torch.testing.assert_close(hidden, io["out.text_hidden"], atol=1e-5, rtol=0)
    torch.testing.assert_close(F.normalize(made.vector, dim=-1), io["out.text_embeds"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("pool", ["end", "mean"])
def test_padding_on_either_side_says_nothing(causal, pool):
    torch.manual_seed(0)
    net = TextEncoder(16, 2, 2, causal=causal, pool=pool).build(classes=9, length=8).eval()
    net.position.data.mul_(50)
    ids = torch.randint(9, (3, 5))
    with torch.no_grad():
        alone = net(ids)
        for left in (0, 3):
            wide = torch.randint(9, (3, 8))
            wide[:, left : left + 5] = ids
            mask = torch.zeros(3, 8, dtype=torch.bool)
            mask[:, left : left + 5] = True
            made = net(wide, mask)
            torch.testing.assert_close(made.vector, alone.vector)
            torch.testing.assert_close(made.tokens[mask], alone.tokens.flatten(0, 1))
        changed = ids.clone()
        changed[:, -1] = (ids[:, -1] + 1) % 9
        other = net(changed)
    # Whether an earlier token sees the last one.
    assert torch.equal(other.tokens[:, 0], alone.tokens[:, 0]) == causal
    assert not torch.allclose(other.vector, alone.vector)


def test_the_published_size():
    with torch.device("meta"):
        assert count(TextEncoder.clip().build(classes=49408, length=77)) == 63_428_096


def test_wrong_input_is_named():
    net = TextEncoder(16, 1, 2).build(classes=9, length=4)
    with pytest.raises(ValueError, match="ids: expected 1 to 4 in a text, found 5"):
        net(torch.zeros(1, 5, dtype=torch.long))
    with pytest.raises(ValueError, match="pool: expected end, mean, first, last, largest or marked, found 'max'"):
        TextEncoder(pool="max").build(classes=9, length=4)
    assert net.width == 16
    assert TextEncoder(16, 1, 2, out=7).build(classes=9, length=4).width == 7
