"""BLIP of transformers: golden cases, published names and sizes, names of the first implementation, what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.parity import run
from tests.golden.materialise import materialise
from tests.interop.edits import edit_tensors
from tests.interop.published import Shapes, bert_attention, linear, norm
from tests.interop.test_cases import GOLDEN

from nextmove.config import ConfigError
from nextmove.folders import open_folder
from nextmove.interop import hf
from nextmove.interop.hf import blip
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.nn import count


@pytest.mark.parametrize("name", ["blip_caption", "blip_retrieval", "blip_pretrain"])
def test_equals_the_reference(name: str, tmp_path: Path) -> None:
    result = run(GOLDEN / name, tmp_path)
    assert "error" not in result
    assert "not_compared" not in result
    assert result["max_abs_diff"] < 2e-5
    assert (result["loss_diff"] or 0) < 1e-6
    assert result.get("greedy_equal", True)
    described = json.loads((GOLDEN / name / "weights.json").read_text())["files"]["model.safetensors"]
    assert result["keys_used"] + result["keys_ignored"] == len(described)


# Published names

TEXT = {"vocab_size": 30524, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
CONFIG: dict[str, Any] = {
    "model_type": "blip",
    "text_config": {**TEXT, "model_type": "blip_text_model"},
    "vision_config": {"image_size": 384, "patch_size": 16, "hidden_size": 768, "model_type": "blip_vision_model"},
    "image_text_hidden_size": 256,
}


def sight(name: str) -> Shapes:
    found: Shapes = {
        f"{name}.embeddings.class_embedding": (1, 1, 768),
        f"{name}.embeddings.position_embedding": (1, 577, 768),
        f"{name}.embeddings.patch_embedding.weight": (768, 3, 16, 16),
        f"{name}.embeddings.patch_embedding.bias": (768,),
        **norm(f"{name}.post_layernorm", 768),
    }
    for i in range(12):
        block = f"{name}.encoder.layers.{i}"
        found |= norm(f"{block}.layer_norm1", 768) | norm(f"{block}.layer_norm2", 768)
        found |= linear(f"{block}.self_attn.qkv", 2304, 768) | linear(f"{block}.self_attn.projection", 768, 768)
        found |= linear(f"{block}.mlp.fc1", 3072, 768) | linear(f"{block}.mlp.fc2", 768, 3072)
    return found


def text(name: str) -> Shapes:
    found: Shapes = {
        f"{name}.embeddings.word_embeddings.weight": (30524, 768),
        f"{name}.embeddings.position_embeddings.weight": (512, 768),
        f"{name}.embeddings.position_ids": (1, 512),
        **norm(f"{name}.embeddings.LayerNorm", 768),
    }
    for i in range(12):
        layer = f"{name}.encoder.layer.{i}"
        for part in ("attention", "crossattention"):
            found |= bert_attention(f"{layer}.{part}", "self", 768) | norm(f"{layer}.{part}.output.LayerNorm", 768)
        found |= linear(f"{layer}.intermediate.dense", 3072, 768) | linear(f"{layer}.output.dense", 768, 3072)
        found |= norm(f"{layer}.output.LayerNorm", 768)
    return found


HEAD: Shapes = {
    "text_decoder.cls.predictions.bias": (30524,),
    **linear("text_decoder.cls.predictions.transform.dense", 768, 768),
    **norm("text_decoder.cls.predictions.transform.LayerNorm", 768),
}
CAPTION = sight("vision_model") | text("text_decoder.bert") | HEAD
RETRIEVAL = (
    sight("vision_model")
    | text("text_encoder")
    | linear("vision_proj", 256, 768)
    | linear("text_proj", 256, 768)
    | linear("itm_head", 2, 768)
)


@pytest.mark.parametrize(("shapes", "weights"), [(CAPTION, 223_971_644), (RETRIEVAL, 223_744_258)])
def test_every_published_name_has_its_place(shapes: Shapes, weights: int) -> None:
    whole = replace(blip.describe(CONFIG, frozenset(shapes)), tied=())
    checkpoint = Checkpoint({n: torch.empty(shape, device="meta") for n, shape in shapes.items()}, "published")
    whole.pack(checkpoint)
    with torch.device("meta"):
        model = whole.build()
    ours = {whole.foreign(own): tuple(value.shape) for own, value in model.state_dict().items()}
    assert ours == {n: tuple(value.shape) for n, value in checkpoint.tensors.items()}
    assert count(model) == weights


# Other spellings and other models

ORIGINAL = (
    (r"^vision_model\.embeddings\.class_embedding", "visual_encoder.cls_token"),
    (r"^vision_model\.embeddings\.position_embedding", "visual_encoder.pos_embed"),
    (r"^vision_model\.embeddings\.patch_embedding", "visual_encoder.patch_embed.proj"),
    (r"^vision_model\.post_layernorm", "visual_encoder.norm"),
    (r"^vision_model\.encoder\.layers\.(\d+)\.layer_norm", r"visual_encoder.blocks.\1.norm"),
    (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.projection", r"visual_encoder.blocks.\1.attn.proj"),
    (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn", r"visual_encoder.blocks.\1.attn"),
    (r"^vision_model\.encoder\.layers", "visual_encoder.blocks"),
)


def original(name: str) -> str:
    for new, old in ORIGINAL:
        name = re.sub(new, old, name)
    return name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return materialise(GOLDEN / "blip_caption", tmp_path / "model")


def test_names_of_the_first_implementation(folder: Path) -> None:
    expected = hf.load(folder).model
    table = "text_decoder.bert.embeddings.word_embeddings.weight"

    def change(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        spelled = {original(name): value for name, value in found.items()}
        assert {blip.spelled(name) for name in spelled} == found.keys()
        assert not any(name.startswith("vision_model") for name in spelled)
        copies = {"text_decoder.cls.predictions.decoder.weight": table}
        copies["text_decoder.cls.predictions.decoder.bias"] = "text_decoder.cls.predictions.bias"
        return spelled | {copy: found[of].clone() for copy, of in copies.items()}

    edit_tensors(folder, change)
    loaded = hf.load(folder)
    for name, value in expected.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value)
    assert sum("copy of" in why for why in loaded.report.ignored.values()) == 2


def test_a_folder_of_captions_says_what_it_is_for(folder: Path) -> None:
    saved = open_folder(folder)
    assert saved.holds == "vision-language"
    model = saved.foreign().model
    assert model.marks() == blip.Marks(join=99, write=98, end=97)
    with pytest.raises(ValueError, match="expected one that compares images and texts"):
        model.embed_texts(["a"])


def test_what_is_wrong_is_named(folder: Path) -> None:
    def without(name: str) -> Any:
        return lambda found: {n: v for n, v in found.items() if n != name}

    cross = "text_decoder.bert.encoder.layer.1.crossattention.self.key.weight"
    edit_tensors(folder, without(cross))
    with pytest.raises(ConfigError, match=f"missing tensor '{re.escape(cross)}'"):
        hf.load(folder)


def test_models_of_two_towers_and_of_answers_are_refused(folder: Path) -> None:
    edit_tensors(folder, lambda found: {n.replace("text_decoder", "text_model"): v for n, v in found.items()})
    with pytest.raises(ConfigError, match="expected BLIP for captions, for retrieval or its pretraining"):
        hf.load(folder)
