"""Language models of published sizes on the meta device: their numbers of parameters, and every name in their files."""

import pytest
import torch
from tests.interop.published import MPT1B, mpt

from nextmove.contracts import ContextSpec
from nextmove.decoders import Autoregressive
from nextmove.interop.hf.language import FAMILIES
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.nn.count import count
from nextmove.weights import without_storage


def llama(width, hidden, layers, heads, shared, classes, tied=False, **more):
    sizes = {
        "hidden_size": width, "intermediate_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": shared, "vocab_size": classes, "tie_word_embeddings": tied,
    }  # fmt: skip
    return {"model_type": "llama", **sizes, **more}


PUBLISHED = {
    "gpt2": ({"model_type": "gpt2"}, 124_439_808),
    "llama-2-7b": (llama(4096, 11008, 32, 32, 32, 32000), 6_738_415_616),
    "vicuna-13b": (llama(5120, 13824, 40, 40, 40, 32000), 13_015_864_320),
    "smollm2-135m": (llama(576, 1536, 30, 9, 3, 49152, tied=True), 134_515_008),
    "smollm2-360m": (llama(960, 2560, 32, 15, 5, 49152, tied=True), 361_821_120),
    "smollm2-1.7b": (llama(2048, 8192, 24, 32, 32, 49152, tied=True), 1_711_376_384),
    "qwen2-0.5b": (llama(896, 4864, 24, 14, 2, 151936, tied=True, model_type="qwen2"), 494_032_768),
    "gemma-2b": (llama(2048, 16384, 18, 8, 1, 256000, tied=True, model_type="gemma"), 2_506_172_416),
    "gemma2-2b": (llama(2304, 9216, 26, 8, 4, 256000, tied=True, model_type="gemma2"), 2_614_341_888),
    "gemma3-270m": (
        llama(640, 2048, 18, 4, 1, 262144, tied=True, model_type="gemma3_text", sliding_window=512),
        268_098_176,
    ),
    "mpt-7b": (
        {"model_type": "mpt", "d_model": 4096, "n_heads": 32, "n_layers": 32, "vocab_size": 50432},
        6_649_286_656,
    ),
    "mpt-1b": (MPT1B, 1_311_311_872),
}


def official(data):
    """Names and shapes of the tensors in a published file."""
    if data["model_type"] in ("mpt", "mosaic_gpt"):
        return mpt("transformer.", data)
    if data["model_type"] == "gpt2":
        shapes = {"wte.weight": (50257, 768), "wpe.weight": (1024, 768), "ln_f.weight": (768,), "ln_f.bias": (768,)}
        for i in range(12):
            matrices = {
                "attn.c_attn": (768, 2304), "attn.c_proj": (768, 768),
                "mlp.c_fc": (768, 3072), "mlp.c_proj": (3072, 768),
            }  # fmt: skip
            for name, shape in matrices.items():
                shapes |= {f"h.{i}.{name}.weight": shape, f"h.{i}.{name}.bias": shape[1:]}
            for name in ("ln_1", "ln_2"):
                shapes |= {f"h.{i}.{name}.weight": (768,), f"h.{i}.{name}.bias": (768,)}
        return shapes
    kind, width, hidden = data["model_type"], data["hidden_size"], data["intermediate_size"]
    head = 256 if kind.startswith("gemma") else width // data["num_attention_heads"]
    queries, pairs = head * data["num_attention_heads"], head * data["num_key_value_heads"]
    norms = ["input_layernorm", "post_attention_layernorm"]
    norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"] if kind in ("gemma2", "gemma3_text") else []
    inside = dict.fromkeys([f"{norm}.weight" for norm in norms], (width,))
    inside |= dict.fromkeys([f"mlp.{part}_proj.weight" for part in ("gate", "up")], (hidden, width))
    inside |= {"mlp.down_proj.weight": (width, hidden), "self_attn.o_proj.weight": (width, queries)}
    for part, rows in (("q", queries), ("k", pairs), ("v", pairs)):
        inside[f"self_attn.{part}_proj.weight"] = (rows, width)
        inside |= {f"self_attn.{part}_proj.bias": (rows,)} if kind == "qwen2" else {}
    inside |= {f"self_attn.{part}_norm.weight": (head,) for part in "qk"} if kind == "gemma3_text" else {}
    shapes = {"model.embed_tokens.weight": (data["vocab_size"], width), "model.norm.weight": (width,)}
    shapes |= {} if data["tie_word_embeddings"] else {"lm_head.weight": (data["vocab_size"], width)}
    layers = range(data["num_hidden_layers"])
    return shapes | {f"model.layers.{i}.{name}": shape for i in layers for name, shape in inside.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_size_has_its_parameters_and_every_name_of_its_file(name):
    data, number = PUBLISHED[name]
    family = FAMILIES[data["model_type"]](data)
    with without_storage():
        decoder = Autoregressive(family.trunk, classes=family.classes, start=False)
        net = decoder.build(shape=(family.length,), context=ContextSpec()).net
    assert count(net) == number
    assert all(parameter.is_meta for parameter in net.parameters())
    shapes = official(data)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == number
    file = Checkpoint({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, "file")
    family.pack(file, family.config)
    ours = {family.foreign(name): tuple(value.shape) for name, value in net.state_dict().items()}
    assert ours == {name: tuple(value.shape) for name, value in file.tensors.items()}
    assert set(file.used({name: name for name in file.tensors})) == set(shapes)
