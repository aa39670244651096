"""Published sizes of models that read images: counts of weights, and every name of their checkpoints in its place."""

from dataclasses import replace

import pytest
import torch
from tests.interop.published import MPT1B, openflamingo

from nextmove import store
from nextmove.interop.hf import flamingo, idefics, llava, paligemma, smolvlm
from nextmove.interop.hf.joined import filled
from nextmove.interop.hf.language import FAMILIES
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.models.vision_language.flamingo import Flamingo
from nextmove.models.vision_language.llava import Llava
from nextmove.models.vision_language.paligemma import PaliGemma
from nextmove.models.vision_language.smolvlm import SmolVlm
from nextmove.models.vision_language.spec import PairSpec
from nextmove.weights import without_storage

LLAVA = {
    "model_type": "llava",
    "image_token_index": 32000,
    "projector_hidden_act": "gelu",
    "text_config": {
        "model_type": "llama",
        "vocab_size": 32064,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "torch_dtype": "float16",
    },
    "vision_config": {
        "hidden_size": 1024,
        "image_size": 336,
        "intermediate_size": 4096,
        "model_type": "clip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "projection_dim": 768,
        "vocab_size": 32000,
    },
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "torch_dtype": "float16",
    "ignore_index": -100,
    "pad_token_id": 32001,
}
LLAVA13 = LLAVA | {
    "text_config": LLAVA["text_config"]
    | {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40}
}
PALIGEMMA = {
    "model_type": "paligemma",
    "bos_token_id": 2,
    "eos_token_id": 1,
    "hidden_size": 2048,
    "ignore_index": -100,
    "image_token_index": 257152,
    "pad_token_id": 0,
    "projection_dim": 2048,
    "text_config": {
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "model_type": "gemma",
        "num_attention_heads": 8,
        "num_hidden_layers": 18,
        "num_image_tokens": 256,
        "num_key_value_heads": 1,
        "torch_dtype": "float32",
        "vocab_size": 257216,
    },
    "torch_dtype": "float32",
    "vision_config": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "num_image_tokens": 256,
        "patch_size": 14,
        "projection_dim": 2048,
        "projector_hidden_act": "gelu_fast",
        "vision_use_head": False,
    },
}


def smol(width, layers, heads, shared, hidden, vision, factor):
    text = {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": shared,
        "vocab_size": 49280,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100000.0,
    }
    return {
        "model_type": "smolvlm",
        "image_token_id": 49190,
        "scale_factor": factor,
        "text_config": text,
        "vision_config": {"model_type": "smolvlm_vision", **vision},
        "tie_word_embeddings": False,
    }


BASE = {
    "hidden_size": 768, "image_size": 512, "intermediate_size": 3072, "num_attention_heads": 12, "patch_size": 16,
    "num_hidden_layers": 12, "size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512},
    "use_base_siglip": True,
}  # fmt: skip
SO400M = {
    "hidden_size": 1152, "image_size": 384, "intermediate_size": 4304, "num_attention_heads": 16, "patch_size": 14,
    "num_hidden_layers": 27,
}  # fmt: skip
SMOL = {
    "256M": (smol(576, 30, 9, 3, 1536, BASE, 4), 256_484_928),
    "500M": (smol(960, 32, 15, 5, 2560, BASE, 4), 507_482_304),
    "2.2B": (smol(2048, 24, 32, 32, 8192, SO400M, 3), 2_246_784_880),
}
CASES = {
    "llava-1.5-7b": (llava.join, LLAVA, 7_063_427_072),
    "llava-1.5-13b": (llava.join, LLAVA13, 13_351_494_656),
    "paligemma-3b-224": (paligemma.join, PALIGEMMA, 2_923_466_480),
    **{f"smolvlm-{size}": (smolvlm.join, *found) for size, found in SMOL.items()},
}


def count(model):
    if isinstance(model, torch.nn.Parameter):
        return model.numel()
    return sum(weight.numel() for weight in {id(w): w for w in model.parameters()}.values())


@pytest.mark.parametrize("name", CASES)
def test_a_published_config_has_the_published_count(name):
    join, config, expected = CASES[name]
    with without_storage():
        assert count(join(config).model) == expected


@pytest.mark.parametrize(
    ("recipe", "classes", "side", "expected"),
    [
        (Llava.published(), 32064, 336, 7_063_427_072),
        (PaliGemma.published(), 257216, 224, 2_923_466_480),
        *((SmolVlm.published(size), 49280, 384 if size == "2.2B" else 512, found) for size, (_, found) in SMOL.items()),
    ],
)
def test_a_published_recipe_has_the_published_count(recipe, classes, side, expected):
    with without_storage():
        assert count(recipe.build(PairSpec(side, side, classes, 512))) == expected


OPENFLAMINGO = {
    "model_type": "flamingo",
    "media_token_id": 50278,
    "text": MPT1B | {"vocab_size": 50280},
}
"""Its tokenizer has 50277 ids and three more: the end of a chunk, the image, padding."""
RESAMPLER, GATED, MPT, VISION = 63_019_008, 881_000_496, 1_311_131_648, 303_966_208
"""Weights of OpenFlamingo-3B's parts: VISION is CLIP L/14's 427,616,513 without the text's 123,650,305."""
UNREAD = 768 * 1024
"""Of VISION: the map of the class token, which OpenFlamingo holds and nothing reads."""


def test_openflamingo_has_the_published_counts():
    # The image is named by an embedding beside a table that is one row shorter.
    with without_storage():
        model = store.create("flamingo", PairSpec(224, 224, 50279, 512), Flamingo.published())
        read = flamingo.join(OPENFLAMINGO).model
        language = FAMILIES["mosaic_gpt"](OPENFLAMINGO["text"]).trunk
    trained = count(model.bridge) + count(model.net.language.stream.gated) + count(model.net.mark)
    assert sum(w.numel() for w in model.parameters() if w.requires_grad) == trained == RESAMPLER + GATED + 2048
    # OpenFlamingo counts its table of 50280 embeddings as trained, of which only two rows ever change.
    assert trained + count(model.net.language.embedding) == RESAMPLER + GATED + 50_280 * 2048 == 1_046_992_944
    assert count(model.tower) == VISION - UNREAD
    assert count(model) + UNREAD == count(read) + VISION == 2_559_117_360
    assert count(read) == RESAMPLER + GATED + MPT
    assert language == replace(Flamingo.published().trunk, feedforward=language.feedforward)


@pytest.mark.parametrize("older", [True, False])
def test_every_name_of_openflamingo_has_its_place(older):
    names = openflamingo(OPENFLAMINGO["text"], 1024, older=older)
    trained = {name for name in names if "decoder_layer" not in name and "norm_f" not in name and "ln_f" not in name}
    assert sum(torch.Size(names[name]).numel() for name in trained) == 1_046_992_944
    check(flamingo.join, OPENFLAMINGO, names, RESAMPLER + GATED + MPT)


def towers(prefix, layers, wide, hidden, positions, patch, clip):
    names = {
        "embeddings.patch_embedding.weight": (wide, 3, patch, patch),
        "embeddings.position_embedding.weight": (positions, wide),
        "post_layernorm.weight": (wide,),
        "post_layernorm.bias": (wide,),
    }
    more = {"embeddings.class_embedding": (wide,), "pre_layrnorm.weight": (wide,), "pre_layrnorm.bias": (wide,)}
    names |= more if clip else {"embeddings.patch_embedding.bias": (wide,)}
    for i in range(layers):
        for part, (rows, columns) in {
            **{f"self_attn.{p}_proj": (wide, wide) for p in ("q", "k", "v", "out")},
            "mlp.fc1": (hidden, wide),
            "mlp.fc2": (wide, hidden),
        }.items():
            names[f"encoder.layers.{i}.{part}.weight"], names[f"encoder.layers.{i}.{part}.bias"] = (
                (rows, columns),
                (rows,),
            )
        for norm in ("layer_norm1", "layer_norm2"):
            names |= {f"encoder.layers.{i}.{norm}.{kind}": (wide,) for kind in ("weight", "bias")}
    return {f"{prefix}{name}": shape for name, shape in names.items()}


def decoder(prefix, layers, wide, hidden, queries, pairs, classes):
    names = {"embed_tokens.weight": (classes, wide), "norm.weight": (wide,)}
    for i in range(layers):
        names |= {f"layers.{i}.{norm}.weight": (wide,) for norm in ("input_layernorm", "post_attention_layernorm")}
        shapes = {
            "self_attn.q_proj": (queries, wide), "self_attn.k_proj": (pairs, wide), "self_attn.v_proj": (pairs, wide),
            "self_attn.o_proj": (wide, queries), "mlp.gate_proj": (hidden, wide), "mlp.up_proj": (hidden, wide),
            "mlp.down_proj": (wide, hidden),
        }  # fmt: skip
        names |= {f"layers.{i}.{part}.weight": shape for part, shape in shapes.items()}
    return {f"{prefix}{name}": shape for name, shape in names.items()}


def projectors(prefix):
    maps = {"linear_1": (4096, 1024), "linear_2": (4096, 4096)}
    weights = {f"{prefix}{name}.weight": shape for name, shape in maps.items()}
    return weights | {f"{prefix}{name}.bias": (4096,) for name in maps}


SPELLINGS = {
    "published": ("language_model.model.", "language_model.lm_head.weight", ""),
    "since 4.52": ("model.language_model.", "lm_head.weight", "model."),
    "release 5": ("model.language_model.model.", "language_model.lm_head.weight", "model."),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_name_of_llava_has_its_place(spelling):
    text, head, rest = SPELLINGS[spelling]
    names = decoder(text, 32, 4096, 11008, 4096, 4096, 32064) | {head: (32064, 4096)}
    names |= towers(f"{rest}vision_tower.vision_model.", 24, 1024, 4096, 577, 14, True)
    names |= projectors(f"{rest}multi_modal_projector.") | {
        f"{rest}vision_tower.vision_model.embeddings.position_ids": (1, 577)
    }
    check(llava.join, LLAVA, names, 7_063_427_072, left=1)


@pytest.mark.parametrize("spelling", ["published", "release 5"])
def test_every_name_of_paligemma_has_its_place(spelling):
    text, _, rest = SPELLINGS[spelling]
    names = decoder(text, 18, 2048, 16384, 2048, 256, 257216)
    names |= towers(f"{rest}vision_tower.vision_model.", 27, 1152, 4304, 256, 14, False)
    names |= {
        f"{rest}multi_modal_projector.linear.weight": (2048, 1152),
        f"{rest}multi_modal_projector.linear.bias": (2048,),
    }
    check(paligemma.join, PALIGEMMA, names, 2_923_466_480)


@pytest.mark.parametrize(
    ("size", "text", "vision", "joined"),
    [
        ("256M", (30, 576, 1536, 576, 192), (12, 768, 3072, 1024, 16), (576, 12_288)),
        ("500M", (32, 960, 2560, 960, 320), (12, 768, 3072, 1024, 16), (960, 12_288)),
        ("2.2B", (24, 2048, 8192, 2048, 2048), (27, 1152, 4304, 729, 14), (2048, 10_368)),
    ],
)
def test_every_name_of_smolvlm_has_its_place(size, text, vision, joined):
    config, expected = SMOL[size]
    names = decoder("model.text_model.", *text, 49280) | {"lm_head.weight": (49280, text[1])}
    names |= towers("model.vision_model.", *vision, False)
    names |= {"model.connector.modality_projection.proj.weight": joined}
    check(smolvlm.join, config, names, expected)


def check(join, config, names, expected, left=0):
    with without_storage():
        joined = join(config)
    tensors = {name: torch.empty(shape, device="meta") for name, shape in names.items()}
    with torch.device("meta"):
        used, ignored = filled(joined, Checkpoint(dict(tensors), "file"), None)
    assert set(used) | set(ignored) == set(tensors)
    assert len(ignored) == left
    assert sum(tensors[name].numel() for name in used) == expected
    dropped = dict(tensors)
    dropped.pop(next(name for name in tensors if "layers.3." in name))
    with pytest.raises(ValueError, match="missing tensor"):
        filled(joined, Checkpoint(dropped, "file"), None)


def test_idefics_options_build():
    with without_storage():
        for more in ({}, {"use_resampler": True}, {"alpha_type": "vector", "qk_layer_norms": True}):
            config = {"model_type": "idefics", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 4}
            small = {"embed_dim": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "image_size": 28}
            joined = idefics.join({**config, "intermediate_size": 96, "vision_config": small, **more})
            assert count(joined.model) > 0
