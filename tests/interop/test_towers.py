"""Towers of transformers: golden cases, published names and sizes, and that nothing is passed over."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from benchmarks.parity import run
from safetensors.torch import load_file
from tests.golden.materialise import materialise
from tests.interop import published
from tests.interop.edits import edit, edit_tensors
from tests.interop.test_cases import GOLDEN

from nextmove.config import ConfigError
from nextmove.folders import open_folder
from nextmove.interop import hf
from nextmove.interop.hf import bert, clip, dinov2, siglip, t5, vit
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.nn import count

CASES = ["vit", "clip", "clip_eos", "siglip", "dinov2", "dinov2_registers", "bert", "t5_encoder"]


@pytest.fixture
def folder(request, tmp_path):
    return materialise(GOLDEN / request.param, tmp_path / "model")


def answer(model: Any, io: dict[str, torch.Tensor]) -> torch.Tensor:
    """Everything that a model says of the case's inputs, as one row."""
    found = []
    if hasattr(model, "images"):
        image, text = model.images(io["in.pixel_values"]), model.texts(io["in.input_ids"], io.get("in.attention_mask"))
        found = [model.logits(image, text)]
    elif "in.pixel_values" in io:
        hidden = torch.rand(len(io["in.pixel_values"]), 4, 4, generator=torch.Generator().manual_seed(0)) > 0.5
        tower = getattr(model, "mask_token", None) is not None
        y = model(io["in.pixel_values"], hidden=hidden) if tower else model(io["in.pixel_values"])
        found = [y]
    else:
        made = model(io["in.input_ids"], io["in.attention_mask"], io.get("in.token_type_ids"))
        found = [made.vector, *([model.logits(made.tokens)] if model.words else [])]
    return torch.cat([part.flatten() for part in found])


@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name, tmp_path):
    result = run(GOLDEN / name, tmp_path)
    assert "error" not in result
    assert "not_compared" not in result
    assert result["max_abs_diff"] < 1e-5
    if result["loss_diff"] is not None:
        assert result["loss_diff"] < 1e-6
    described = json.loads((GOLDEN / name / "weights.json").read_text())
    assert result["keys_used"] == len(described["files"]["model.safetensors"])


@pytest.mark.parametrize("name", CASES)
def test_a_change_of_any_weight_shows(name, tmp_path):
    folder = materialise(GOLDEN / name, tmp_path)
    io = load_file(folder / "io.safetensors")
    read = hf.load(folder)
    assert set(read.names) == set(load_file(folder / "model.safetensors")) == set(read.report.used)
    torch.manual_seed(0)
    with torch.no_grad():
        before = answer(read.model, io)
        for weight in read.model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
            after = answer(read.model, io)
            assert (after - before).abs().max() > 1e-4
            before = after


@pytest.mark.parametrize("folder", CASES, indirect=True)
def test_every_tensor_is_used_or_an_error(folder):
    names = list(load_file(folder / "model.safetensors"))
    heads = next(n for n in names if ".0." in n and n.endswith(("k_proj.weight", "key.weight", ".k.weight")))
    for name in (names[0], names[-1], heads):
        edit_tensors(folder, lambda found, name=name: found.update(kept=found.pop(name)))
        with pytest.raises(ConfigError, match=r"missing tensor|belongs to no part|expected id2label"):
            hf.load(folder)
        edit_tensors(folder, lambda found, name=name: found.update({name: found.pop("kept")}))
    edit_tensors(folder, lambda found: found.update(other=torch.zeros(3)))
    with pytest.raises(ConfigError, match="tensor 'other' belongs to no part"):
        hf.load(folder)
    edit_tensors(folder, lambda found: found.pop("other"))
    for name in (names[0], heads):
        edit_tensors(folder, lambda found, name=name: found.update({name: torch.zeros(2, 3)}))
        with pytest.raises(ConfigError, match=r"expected shape .*, found \(2, 3\)"):
            hf.load(folder)


@pytest.mark.parametrize(
    ("folder", "changes", "message"),
    [
        ("vit", {"image_size": [32, 40]}, r"image_size: expected a square, found \[32, 40\]"),
        ("vit", {"image_size": 48}, r"position_embeddings: expected shape \(1, 37, 48\), found \(1, 17, 48\)"),
        ("vit", {"hidden_act": "tanh"}, "hidden_act: only .* is supported, found 'tanh'"),
        ("vit", {"qkv_bias": False}, r"tensor '.*key.bias' belongs to no part"),
        ("vit", {"id2label": {"0": "a"}}, r"classifier.weight: expected shape \(1, 48\), found \(10, 48\)"),
        ("vit", {"heads": 4}, "config.json: unknown key 'heads'"),
        ("clip", {"vision_config__heads": 4}, "config.json: vision_config: unknown key 'heads'"),
        ("clip", {"text_config__hidden_act": "tanh"}, "hidden_act: only .* is supported, found 'tanh'"),
        ("clip", {"projection_dim": 25}, r"projection.weight: expected shape \(25, ..\), found \(24, ..\)"),
        ("clip", {"vision_config": [1]}, r"vision_config: expected Mapping, found \[1\]"),
        ("clip", {"vision_config__num_attention_heads": 5}, "heads: expected a divisor of width 48, found 5"),
        ("siglip", {"vision_config__patch_size": 4}, r"patch_embedding.weight: expected shape \(48, 3, 4, 4\)"),
        ("dinov2", {"use_swiglu_ffn": True}, r"missing tensor 'encoder.layer.0.mlp.weights_in"),
        ("dinov2", {"num_register_tokens": 4}, "num_register_tokens: only 0 is supported, found 4"),
        ("dinov2_registers", {"num_register_tokens": 3}, r"register_tokens: expected shape \(1, 3, 48\), found \(1, 4"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type: only positions"),
        ("bert", {"add_cross_attention": True}, "add_cross_attention: attention to another model"),
        ("bert", {"is_decoder": True}, "is_decoder: only False is supported, found True"),
        ("bert", {"tie_word_embeddings": False}, "tie_word_embeddings: only True is supported"),
        ("t5_encoder", {"feed_forward_proj": "gated"}, "dense_act_fn: only 'gated' is supported, found 'gelu_new'"),
        ("t5_encoder", {"feed_forward_proj": "lazy-relu"}, "feed_forward_proj: expected an activation or gated-"),
        ("t5_encoder", {"feed_forward_proj": "relu"}, "dense_act_fn: only 'relu' is supported, found 'gelu_new'"),
        ("t5_encoder", {"relative_attention_num_buckets": 7}, "config.json: relative: expected an even number"),
    ],
    indirect=["folder"],
)
def test_what_would_change_the_numbers_is_an_error(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(ConfigError, match=message):
        hf.load(folder)


def test_files_of_older_releases(tmp_path):
    folder = materialise(GOLDEN / "bert", tmp_path / "bert")
    io = load_file(folder / "io.safetensors")
    expected = answer(hf.load(folder).model, io)

    def old(found):
        for name in [name for name in found if "LayerNorm" in name]:
            found[name.replace(".weight", ".gamma").replace(".bias", ".beta")] = found.pop(name)
        found["cls.predictions.decoder.weight"] = found["bert.embeddings.word_embeddings.weight"].clone()
        found["cls.seq_relationship.weight"], found["cls.seq_relationship.bias"] = torch.ones(2, 48), torch.ones(2)
        found["bert.embeddings.position_ids"] = torch.arange(32)[None]

    edit_tensors(folder, old)
    edit(folder, position_embedding_type="absolute", gradient_checkpointing=False)
    read = hf.load(folder)
    torch.testing.assert_close(answer(read.model, io), expected, atol=0, rtol=0)
    assert len(read.report.ignored) == 4
    assert "bert.embeddings.LayerNorm.gamma" in read.names
    edit_tensors(folder, lambda found: found["cls.predictions.decoder.weight"].add_(1))
    with pytest.raises(ConfigError, match=r"decoder.weight: expected a copy of embeddings.word_embeddings.weight"):
        hf.load(folder)
    edit_tensors(folder, lambda found: found.update({"embeddings.position_ids": torch.arange(32)[None]}))
    with pytest.raises(ConfigError, match=r"embeddings.position_ids: expected once, found again under the name"):
        hf.load(folder)


def test_the_spelling_of_the_published_clips(tmp_path):
    folder = materialise(GOLDEN / "clip_eos", tmp_path / "clip")
    io = load_file(folder / "io.safetensors")
    expected = answer(hf.load(folder).model, io)
    data = json.loads((folder / "config.json").read_text())
    # Keys of any model, as releases 4 wrote them into each part, and the parts once more.
    usual = {"add_cross_attention": False, "bad_words_ids": None, "chunk_size_feed_forward": 0, "is_decoder": False,
             "cross_attention_hidden_size": None, "tie_encoder_decoder": False, "pruned_heads": {}, "dropout": 0.0,
             "typical_p": 1.0, "transformers_version": "4.16.0.dev0", "torch_dtype": None, "top_k": 50,
             "tie_word_embeddings": True, "problem_type": None, "use_bfloat16": False, "id2label": {}}  # fmt: skip
    text = {**data["text_config"], **usual}
    edit(folder, text_config=text, vision_config={**data["vision_config"], **usual}, torch_dtype="float32")
    torch.testing.assert_close(answer(hf.load(folder).model, io), expected, atol=0, rtol=0)
    edit(folder, text_config={**text, "hidden_size": 64}, text_config_dict=data["text_config"], vision_config_dict=None)
    torch.testing.assert_close(answer(hf.load(folder).model, io), expected, atol=0, rtol=0)
    edit(folder, text_config_dict={**data["text_config"], "eos_token_id": 96})
    with pytest.raises(ValueError, match="ids: expected the id 96 in every text"):
        answer(hf.load(folder).model, io)


def test_heads_are_read_where_the_file_has_them(tmp_path):
    folder = materialise(GOLDEN / "vit", tmp_path / "vit")
    image = load_file(folder / "io.safetensors")["in.pixel_values"]
    whole = hf.load(folder).model

    def pooled(found):
        for part in ("weight", "bias"):
            found.pop(f"classifier.{part}")
        found["vit.pooler.dense.weight"], found["vit.pooler.dense.bias"] = torch.eye(48), torch.zeros(48)

    edit_tensors(folder, pooled)
    read = hf.load(folder)
    torch.testing.assert_close(read.model(image), whole.tower.pooled(whole.tower(image)).tanh())

    def alone(found):
        for name in list(found):
            value = found.pop(name)
            if "pooler" not in name:
                found[name.removeprefix("vit.")] = value

    edit_tensors(folder, alone)
    torch.testing.assert_close(hf.load(folder).model(image), whole.tower(image))
    folder = materialise(GOLDEN / "bert", tmp_path / "bert")
    edit_tensors(folder, lambda found: [found.pop(name) for name in list(found) if name.startswith("cls.")])
    edit_tensors(folder, lambda found: found.update({"bert.pooler.dense.weight": 2 * torch.eye(48)}))
    edit_tensors(folder, lambda found: found.update({"bert.pooler.dense.bias": torch.ones(48)}))
    net = hf.load(folder).model
    made = net(torch.arange(6)[None])
    torch.testing.assert_close(made.vector, (2 * made.tokens[:, 0] + 1).tanh())


def test_a_folder_says_what_it_holds(tmp_path):
    for name, holds in {"vit": "encoder", "t5_encoder": "encoder", "siglip": "vision-language"}.items():
        saved = open_folder(materialise(GOLDEN / name, tmp_path / name))
        assert saved.holds == holds
    with pytest.raises(ConfigError, match="expected a generator of text or images, found an encoder of images or text"):
        open_folder(tmp_path / "vit").expect("generator")


# Published checkpoints: every name and shape, and the number of weights

SIGLIP_BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}


def clip_config(side: int, patch: int, width: int, layers: int, text: int) -> dict[str, Any]:
    vision = {
        "image_size": side,
        "patch_size": patch,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
    }
    reader = {
        "hidden_size": text,
        "intermediate_size": 4 * text,
        "num_attention_heads": text // 64,
        "num_hidden_layers": 12,
        "max_position_embeddings": 77,
        "vocab_size": 49408,
        "eos_token_id": 2,
    }
    return {"model_type": "clip", "projection_dim": text, "vision_config": vision, "text_config": reader}


def siglip_config(side: int, patch: int, sizes: dict[str, int]) -> dict[str, Any]:
    text = dict(vocab_size=32000, max_position_embeddings=64, **sizes)
    return {
        "model_type": "siglip",
        "vision_config": {"image_size": side, "patch_size": patch, **sizes},
        "text_config": text,
    }


def dino_config(width: int, layers: int, *, registers: bool = False, **more: Any) -> dict[str, Any]:
    kind = {"model_type": "dinov2_with_registers", "num_register_tokens": 4} if registers else {"model_type": "dinov2"}
    return dict(
        **kind,
        image_size=518,
        patch_size=14,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        mlp_ratio=4,
        **more,
    )


BERT = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
MINILM = {**BERT, "hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
VIT = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 224,
    "patch_size": 16,
    "id2label": {str(i): str(i) for i in range(1000)},
}
T5 = {
    "vocab_size": 32128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 1024,
    "num_layers": 8,
    "num_heads": 6,
    "n_positions": 512,
    "relative_attention_num_buckets": 32,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
PUBLISHED = {
    "CLIP B/32": (clip, published.clip, clip_config(224, 32, 768, 12, 512), 151_277_313),
    "CLIP B/16": (clip, published.clip, clip_config(224, 16, 768, 12, 512), 149_620_737),
    "CLIP L/14": (clip, published.clip, clip_config(224, 14, 1024, 24, 768), 427_616_513),
    "CLIP L/14-336": (clip, published.clip, clip_config(336, 14, 1024, 24, 768), 427_944_193),
    "SigLIP base": (siglip, published.siglip, siglip_config(224, 16, SIGLIP_BASE), 203_155_970),
    "SigLIP so400m": (siglip, published.siglip, siglip_config(384, 14, SO400M), 877_960_498),
    "DINOv2 S": (dinov2, published.dinov2, dino_config(384, 12), 22_056_576),
    "DINOv2 S registers": (dinov2, published.dinov2, dino_config(384, 12, registers=True), 22_058_112),
    "DINOv2 B": (dinov2, published.dinov2, dino_config(768, 12), 86_580_480),
    "DINOv2 L": (dinov2, published.dinov2, dino_config(1024, 24), 304_368_640),
    "DINOv2 g": (dinov2, published.dinov2, dino_config(1536, 40, use_swiglu_ffn=True), 1_136_480_768),
    "ViT-B/16": (vit, published.vit, VIT, 86_567_656),
    "BERT base": (bert, lambda c: published.bert(c, pooler=True, words=False), BERT, 109_482_240),
    "BERT base, hidden words": (bert, lambda c: published.bert(c, pooler=False, words=True), BERT, 109_514_298),
    "MiniLM-L6": (bert, lambda c: published.bert(c, pooler=True, words=False, prefix=""), MINILM, 22_713_216),
    "T5 v1.1 small, encoder": (t5, published.t5, T5, 35_332_800),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_name_has_its_place(name):
    family, names, config, weights = PUBLISHED[name]
    shapes = names(config)
    whole = family.describe(config, frozenset(shapes))
    # Copies are compared by value, which tensors without storage have not.
    copies = {copy for copy, _ in whole.tied}
    plain = replace(whole, tied=())
    found = {
        n: torch.empty(shape, device="meta") for n, shape in shapes.items() if n.removeprefix("bert.") not in copies
    }
    checkpoint = Checkpoint(found, "published")
    plain.pack(checkpoint)
    with torch.device("meta"):
        model = plain.build()
    ours = {plain.foreign(own): tuple(value.shape) for own, value in model.state_dict().items()}
    assert ours == {n: tuple(value.shape) for n, value in checkpoint.tensors.items()}
    assert count(model) == weights
