"""Models that read images, in the forms that files and rows may have: who ties a head, who caps logits, padding,
several images."""

import json

import pytest
import torch
from benchmarks.parity import run
from benchmarks.parity.reading import rows
from safetensors.torch import load_file, save_file
from tests.golden.materialise import materialise
from tests.interop.test_cases import GOLDEN
from tests.interop.test_language_models import edit

from nextmove.interop import hf
from nextmove.interop.hf import paligemma
from nextmove.weights import without_storage


@pytest.fixture
def folder(request, tmp_path):
    return materialise(GOLDEN / request.param, tmp_path / "model")


def opened(folder):
    read = hf.load(folder)
    io = load_file(folder / "io.safetensors")
    return read.model, io, read.model.seen(io["in.pixel_values"][:, None])


def retold(folder, whole, text):
    """Whether the head is tied, said by each part of a config.json."""
    data = json.loads((folder / "config.json").read_text())
    edit(folder, tie_word_embeddings=whole, text_config={**data["text_config"], "tie_word_embeddings": text})


@pytest.mark.parametrize("folder", ["llava"], indirect=True)
@pytest.mark.parametrize(("whole", "text"), [(True, False), (False, True), (True, True)])
def test_a_head_is_tied_where_either_part_says_so_and_the_file_has_none(folder, whole, text):
    path = folder / "model.safetensors"
    save_file({name: value for name, value in load_file(path).items() if "lm_head" not in name}, path)
    retold(folder, whole, text)
    model, *_ = opened(folder)
    assert model.net.language.head is None
    retold(folder, False, False)
    with pytest.raises(ValueError, match=r"missing tensor 'language_model\.lm_head\.weight'"):
        hf.load(folder)


@pytest.mark.parametrize("folder", ["llava"], indirect=True)
def test_a_head_of_its_own_decides_where_the_parts_disagree(folder):
    model, io, ctx = opened(folder)
    expected = model.net(io["in.input_ids"], ctx)[0]
    for whole, text in ((True, False), (False, True)):
        retold(folder, whole, text)
        model, _, ctx = opened(folder)
        assert torch.equal(model.net(io["in.input_ids"], ctx)[0], expected)
    retold(folder, True, True)
    with pytest.raises(ValueError, match=r"lm_head.weight: expected a copy of embed_tokens.weight"):
        hf.load(folder)


TEXT = {
    "model_type": "gemma2", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8, "final_logit_softcapping": 30.0,
}  # fmt: skip
SIGHT = {
    "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
    "num_attention_heads": 4, "image_size": 32, "patch_size": 8,
}  # fmt: skip


def described(window):
    return {
        "model_type": "paligemma", "image_token_index": 95, "projection_dim": 32, "vision_config": SIGHT,
        "text_config": TEXT | {"sliding_window": window},
    }  # fmt: skip


def test_the_head_of_the_whole_has_no_cap():
    with without_storage():
        trunk = paligemma.join(described(20)).model.net.config.trunk
    assert trunk.logit_cap == 0
    assert trunk.heads.cap == 50


def test_windows_narrower_than_an_image_are_an_error():
    with pytest.raises(ValueError, match=r"sliding_window: expected 16 or more, the tokens of an image.*, found 15"):
        paligemma.join(described(15))


def test_a_prefix_longer_than_windows_is_an_error():
    net = paligemma.join(described(20)).model.net
    ctx = paligemma.join(described(20)).model.seen(torch.zeros(1, 1, 3, 32, 32))
    ids = torch.tensor([[95] * 16 + [1, 2, 3, 4]])
    assert net(ids, ctx)[0].shape == (1, 20, 96)
    with pytest.raises(ValueError, match=r"expected at most 20 in a prefix, which sees all of itself.*found 21"):
        net(torch.cat([ids, ids[:, -1:]], 1), ctx)
    prefix = torch.arange(21)[None] < 20
    assert net.read(torch.cat([ids, ids[:, -1:]], 1), ctx, prefix=prefix)[0].shape == (1, 21, 32)


@pytest.mark.parametrize("folder", ["smolvlm"], indirect=True)
def test_keys_of_published_files(folder):
    text = json.loads((folder / "config.json").read_text())["text_config"]
    published = {
        "_flash_attn_2_enabled": True, "perceiver_config": {"resampler_depth": 6}, "pixel_shuffle_factor": 4,
        "qk_layer_norms": False, "use_resampler": False,
    }  # fmt: skip
    edit(folder, text_config=text | published, use_reentrant_checkpointing=False)
    hf.load(folder)
    for key in ("qk_layer_norms", "use_resampler"):
        edit(folder, text_config=text | {key: True})
        with pytest.raises(ValueError, match=f"{key}: .* not supported in this family; found True"):
            hf.load(folder)


@pytest.mark.parametrize("folder", ["llava", "paligemma"], indirect=True)
def test_a_placeholder_that_was_written_is_an_id_as_any_other(folder):
    model, io, ctx = opened(folder)
    net, ids = model.net, io["in.prompt_ids"]
    with torch.no_grad():
        _, state = net(ids, ctx)
        written = torch.full((len(ids), 1), net.image)
        found, after = net(written, ctx, state)
        x = net.language.embed(written)
        places = torch.tensor([ids.shape[1] + net.config.first])
        h, _ = net.language.read_embedded(x, ctx.empty(len(ids)), state.memory, positions=places)
    torch.testing.assert_close(found, net.logits(h), rtol=0, atol=0)
    assert torch.equal(after.used, state.used)


@pytest.mark.parametrize("folder", ["llava", "paligemma"], indirect=True)
def test_padding_in_front_changes_nothing(folder):
    model, io, ctx = opened(folder)
    net, ids = model.net, io["in.prompt_ids"]
    with torch.no_grad():
        expected, state = net.read(ids, ctx)
        expected = torch.cat([expected, net.read(ids[:, :1] * 0 + 5, ctx, state)[0]], 1)
        padded = torch.nn.functional.pad(ids, (2, 0), value=3)
        valid = torch.arange(padded.shape[1])[None].expand_as(padded) >= 2
        prefix = {"prefix": torch.ones_like(valid)} if net.config.whole else {}
        found, state = net.read(padded, ctx, valid=valid, **prefix)
        found = torch.cat([found[:, 2:], net.read(ids[:, :1] * 0 + 5, ctx, state)[0]], 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_images_of_all_rows_in_order():
    pixels = torch.arange(4.0)[:, None, None, None].expand(4, 3, 2, 2)
    made, valid = rows(pixels, torch.tensor([1, 0, 3]))
    assert valid.tolist() == [[True, False, False], [False] * 3, [True] * 3]
    assert made[:, :, 0, 0, 0].tolist() == [[0, 0, 0], [0, 0, 0], [1, 2, 3]]
    with pytest.raises(ValueError, match="expected 3 images, as ids have places, found 4"):
        rows(pixels, torch.tensor([1, 2]))


@pytest.mark.parametrize("folder", ["llava"], indirect=True)
def test_a_case_of_several_images_a_row(folder, tmp_path):
    path = folder / "io.safetensors"
    io = load_file(path)
    model, *_ = opened(folder)
    ids = torch.cat([io["in.input_ids"][:1], io["in.input_ids"][1:]], 1)
    ids = torch.cat([ids, torch.nn.functional.pad(io["in.input_ids"][1:] * 0 + 7, (0, ids.shape[1] // 2))])
    mask = torch.ones_like(ids)
    mask[1, 3:] = 0
    with torch.no_grad():
        ctx = model.seen(io["in.pixel_values"][None])
        logits = model.net(ids[:1], ctx)[0]
        alone = model.net(ids[1:, :3], ctx.empty(1))[0]
    out = torch.cat([logits, torch.nn.functional.pad(alone, (0, 0, 0, ids.shape[1] - 3))])
    made = {"in.pixel_values": io["in.pixel_values"], "in.input_ids": ids, "in.attention_mask": mask}
    save_file(made | {"in.labels": ids.masked_fill(mask == 0, -100), "out.logits": out}, path)
    result = run(folder, tmp_path / "unused")
    assert result["max_abs_diff"] < 1e-5


@pytest.mark.parametrize("folder", ["llama", "llava", "paligemma"], indirect=True)
def test_a_case_padded_in_front(folder, tmp_path):
    # Positions of a case count padding, so that what is rotated by distance alone stays the same.
    path = folder / "io.safetensors"
    io = {name: value for name, value in load_file(path).items() if "greedy" not in name and "prefix" not in name}
    for name in ("input_ids", "attention_mask", "labels", "token_type_ids"):
        if f"in.{name}" in io:
            pad = -100 if name == "labels" else 0
            io[f"in.{name}"] = torch.nn.functional.pad(io[f"in.{name}"], (2, 0), value=pad)
    io["in.labels"][:, 2] = -100
    io["out.logits"] = torch.nn.functional.pad(io["out.logits"], (0, 0, 2, 0))
    save_file(io, path)
    result = run(folder, tmp_path / "unused")
    assert result["max_abs_diff"] < 1e-5
    assert result["loss_diff"] < 1e-6


@pytest.mark.parametrize("folder", ["vit", "blip_caption", "blip_pretrain"], indirect=True)
def test_gradients_of_a_case_are_compared(folder, tmp_path):
    path = folder / "io.safetensors"
    weights = load_file(folder / "model.safetensors")
    known = next(name for name in weights if name.endswith("encoder.layer.0.output.dense.weight") and "_m." not in name)
    save_file(load_file(path) | {f"grad.{known}": torch.zeros_like(weights[known])}, path)
    result = run(folder, tmp_path / "unused")
    assert "not_compared" not in result
    assert result["grad_diff"] > 1


@pytest.mark.parametrize("folder", ["dinov2_registers"], indirect=True)
def test_no_registers(folder):
    edit(folder, num_register_tokens=0)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"embeddings.register_tokens": tensors["embeddings.register_tokens"][:, :0]}, path)
    read = hf.load(folder)
    assert read.report.ignored == {"embeddings.register_tokens": "of no registers"}
    assert read.model(torch.zeros(1, 3, 32, 32)).shape[1] == 17
