"""Towers of other shapes than the golden cases', beside transformers itself where it is installed: values, gradients,
names."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.interop.test_towers import PUBLISHED
from torch.nn import functional as F

from nextmove.encoders.prepared import Prepared
from nextmove.interop import hf

transformers = pytest.importorskip("transformers", reason="transformers, the reference, is not installed")

SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 40}


def saved(model, tmp_path):
    """The model with weights that are nowhere 0 or 1, and its folder."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    model.eval().save_pretrained(tmp_path)
    return model, hf.load(tmp_path)


def same_gradients(model, read, loss, other):
    """Every weight's gradient of the two losses."""
    loss.backward()
    other.backward()
    own = dict(read.model.named_parameters())
    theirs = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    plain = {name: ours for name, ours in read.names.items() if own[ours].shape == theirs.get(name, own[ours]).shape}
    assert len(plain) > len(read.names) / 3
    for name, ours in plain.items():
        if name in theirs:
            torch.testing.assert_close(own[ours].grad, theirs[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("eos", [2, 7])
def test_clip(eos, tmp_path):
    config = transformers.CLIPConfig(
        vision_config=dict(SIZES, image_size=30, patch_size=7),
        text_config=dict(SIZES, vocab_size=50, max_position_embeddings=11, eos_token_id=eos, hidden_act="gelu"),
        projection_dim=18,
    )
    model, read = saved(transformers.CLIPModel(config), tmp_path)
    images, ids = torch.randn(4, 3, 30, 30), torch.randint(8, 50, (4, 9))
    ids[:, 6], mask = 7, torch.ones(4, 9, dtype=torch.long)
    mask[1, 8:] = 0
    theirs = model(pixel_values=images, input_ids=ids, attention_mask=mask, return_loss=True)
    logits = read.model.logits(read.model.images(images), read.model.texts(ids, mask))
    torch.testing.assert_close(logits, theirs.logits_per_image, atol=1e-5, rtol=0)
    own = torch.arange(4)
    loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.mT, own)) / 2
    torch.testing.assert_close(loss, theirs.loss)
    same_gradients(model, read, loss, theirs.loss)


def test_siglip(tmp_path):
    text = dict(SIZES, vocab_size=50, max_position_embeddings=9, bos_token_id=1, eos_token_id=2)
    config = transformers.SiglipConfig(vision_config=dict(SIZES, image_size=30, patch_size=7), text_config=text)
    model, read = saved(transformers.SiglipModel(config), tmp_path)
    images, ids = torch.randn(3, 3, 30, 30), torch.randint(50, (3, 9))
    theirs = model(pixel_values=images, input_ids=ids, return_loss=True)
    logits = read.model.logits(read.model.images(images), read.model.texts(ids))
    torch.testing.assert_close(logits, theirs.logits_per_image, atol=1e-5, rtol=0)
    loss = -F.logsigmoid(logits * (2 * torch.eye(3) - 1)).sum() / 3
    same_gradients(model, read, loss, theirs.loss)


@pytest.mark.parametrize("swiglu", [False, True])
@pytest.mark.parametrize("registers", [False, True])
def test_dinov2(swiglu, registers, tmp_path):
    sizes = {name: value for name, value in SIZES.items() if name != "intermediate_size"}
    options = dict(sizes, image_size=35, patch_size=7, use_swiglu_ffn=swiglu)
    kind = transformers.Dinov2WithRegistersModel if registers else transformers.Dinov2Model
    made = transformers.Dinov2WithRegistersConfig if registers else transformers.Dinov2Config
    model, read = saved(kind(made(**options)), tmp_path)
    for size in ((35, 35), (28, 63), (20, 50)):
        images = torch.randn(2, 3, *size)
        tokens, theirs = read.model(images), model(images)
        torch.testing.assert_close(tokens, theirs.last_hidden_state, atol=1e-5, rtol=0)
        torch.testing.assert_close(read.model.pooled(tokens), theirs.pooler_output, atol=1e-5, rtol=0)
    masked = torch.rand(2, 25) > 0.5
    images = torch.randn(2, 3, 35, 35)
    theirs = model(images, bool_masked_pos=masked).last_hidden_state
    tokens = read.model(images, hidden=masked)
    torch.testing.assert_close(tokens, theirs, atol=1e-5, rtol=0)
    same_gradients(model, read, tokens.square().mean(), theirs.square().mean())


def test_vit(tmp_path):
    config = transformers.ViTConfig(**SIZES, image_size=30, patch_size=7, qkv_bias=False, num_labels=5)
    model, read = saved(transformers.ViTForImageClassification(config), tmp_path / "classes")
    images, labels = torch.randn(3, 3, 30, 30), torch.tensor([0, 4, 2])
    theirs = model(images, labels=labels)
    logits = read.model(images)
    torch.testing.assert_close(logits, theirs.logits, atol=1e-5, rtol=0)
    same_gradients(model, read, F.cross_entropy(logits, labels), theirs.loss)
    model, read = saved(transformers.ViTModel(config), tmp_path / "pooler")
    torch.testing.assert_close(read.model(images), model(images).pooler_output, atol=1e-5, rtol=0)


def test_bert(tmp_path):
    config = transformers.BertConfig(**SIZES, vocab_size=60, max_position_embeddings=20, hidden_act="gelu")
    model, read = saved(transformers.BertForPreTraining(config), tmp_path)
    ids, types = torch.randint(60, (3, 13)), torch.randint(2, (3, 13))
    mask = torch.ones(3, 13, dtype=torch.long)
    mask[2, 7:] = 0
    theirs = model(ids, attention_mask=mask, token_type_ids=types)
    made = read.model(ids, mask, types)
    logits = read.model.logits(made.tokens)
    torch.testing.assert_close(logits[mask > 0], theirs.prediction_logits[mask > 0], atol=1e-5, rtol=0)
    pooled = model.bert(ids, attention_mask=mask, token_type_ids=types).pooler_output
    torch.testing.assert_close(made.vector, pooled, atol=1e-5, rtol=0)
    assert set(read.report.ignored) == {"cls.seq_relationship.weight", "cls.seq_relationship.bias"}


@pytest.mark.parametrize("kind", ["relu", "gated-gelu", "gated-silu"])
def test_t5(kind, tmp_path):
    config = transformers.T5Config(
        vocab_size=50, d_model=24, d_kv=10, d_ff=40, num_layers=2, num_heads=3, feed_forward_proj=kind
    )
    whole, read = saved(transformers.T5ForConditionalGeneration(config), tmp_path)
    model = whole.encoder
    for length in (5, 150):
        ids, mask = torch.randint(50, (2, length)), torch.ones(2, length, dtype=torch.long)
        mask[1, 4:] = 0
        theirs = model(ids, attention_mask=mask).last_hidden_state
        tokens = read.model(ids, mask).tokens
        torch.testing.assert_close(tokens[mask > 0], theirs[mask > 0], atol=1e-5, rtol=1e-5)
    assert all("decoder" in name or "lm_head" in name for name in read.report.ignored)
    same_gradients(whole, read, tokens[mask > 0].square().mean(), theirs[mask > 0].square().mean())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_names_are_those_of_transformers(name):
    _, names, config, weights = PUBLISHED[name]
    kinds = {
        "CLIP": "CLIPModel", "SigLIP": "SiglipModel", "ViT": "ViTForImageClassification", "MiniLM": "BertModel",
        "BERT base": "BertModel", "BERT base, hidden words": "BertForMaskedLM", "T5": "T5EncoderModel",
    }  # fmt: skip
    kind = kinds.get(name) or next((kinds[k] for k in kinds if name.startswith(k)), "")
    if name.startswith("DINO"):
        kind = "Dinov2WithRegistersModel" if "registers" in name else "Dinov2Model"
    cls = getattr(transformers, kind)
    with torch.device("meta"):
        model = cls(cls.config_class(**json.loads(json.dumps(config))))
    ids = {"position_ids", "decoder.", "lm_head", "cls.seq_relationship"}
    # A tower that is saved alone has no prefix; either way is read.
    prefix = "bert." if name == "BERT base" else ""
    theirs = {prefix + n: tuple(value.shape) for n, value in model.state_dict().items()}
    own = {n: shape for n, shape in names(config).items() if n in theirs or not any(part in n for part in ids)}
    assert own == theirs
    assert sum(weight.numel() for weight in model.parameters()) == weights


SQUARED = replace(Prepared.clip(30), square=True)


@pytest.mark.parametrize(
    ("kind", "options", "own"),
    [
        ("clip", {"size": {"shortest_edge": 30}, "crop_size": 30}, Prepared.clip(30)),
        ("siglip", {"size": {"height": 30, "width": 30}}, Prepared.stretched(30)),
        ("blip", {"size": {"height": 30, "width": 30}}, Prepared.stretched(30, "clip")),
        ("vit", {"size": {"height": 30, "width": 30}}, Prepared.stretched(30, filter="bilinear")),
        ("llava", {"size": {"shortest_edge": 30}, "crop_size": 30, "do_pad": True}, SQUARED),
    ],
)
def test_pictures(kind, options, own):
    # Release 5.5.4 has BLIP's two in each other's files.
    file = "image_processing_blip" if kind == "blip" else f"image_processing_pil_{kind}"
    module = importlib.import_module(f"transformers.models.{kind}.{file}")
    processor = next(v for n, v in vars(module).items() if n.endswith("Pil") and n != "PilBackend")(**options)
    draw = np.random.default_rng(0)
    pictures = [draw.integers(0, 256, (*size, 3), np.uint8) for size in ((45, 71), (71, 46), (17, 29), (30, 30))]
    expected = processor([Image.fromarray(x) for x in pictures], return_tensors="np")["pixel_values"]
    torch.testing.assert_close(own(pictures), torch.from_numpy(np.array(list(expected))), atol=1e-5, rtol=0)
