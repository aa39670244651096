"""Language models that read images: golden cases of their own code, and that a changed weight shows."""

import json

import pytest
import torch
from benchmarks.parity import run
from safetensors.torch import load_file, save_file
from tests.golden.materialise import materialise
from tests.interop.published import openflamingo
from tests.interop.test_cases import GOLDEN

from nextmove.config import ConfigError
from nextmove.contracts import Context
from nextmove.interop import hf

CASES = ["flamingo", "idefics", "idefics3", "llava", "llava-hub", "paligemma", "paligemma-hub", "smolvlm"]


@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name, tmp_path):
    result = run(GOLDEN / name, tmp_path)
    assert "error" not in result
    assert "not_compared" not in result
    assert result["max_abs_diff"] < 1e-5
    assert result["loss_diff"] < 1e-6
    assert result["greedy_equal"]
    written = json.loads((GOLDEN / name / "weights.json").read_text())["files"]["model.safetensors"]
    assert result["keys_used"] == len(written)


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_used_or_an_error(name, tmp_path):
    folder = materialise(GOLDEN / name, tmp_path / "model")
    path = folder / "model.safetensors"
    found = load_file(path)
    first, last = min(found), max(found)
    for one in (first, last):
        save_file({n: v for n, v in found.items() if n != one} | {"kept": found[one].clone()}, path)
        with pytest.raises(ValueError, match=r"missing tensor|belongs to no part"):
            hf.load(folder)
    save_file({**found, last: torch.zeros(3, 5, 7)}, path)
    with pytest.raises(ValueError, match=r"shape|rows"):
        hf.load(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "model-00001-of-00001.safetensors"])
@pytest.mark.parametrize("kept", [0, 7, 500, 0.5, -1])
def test_a_file_that_is_cut_off_anywhere_is_named(kept, file, tmp_path):
    folder = materialise(GOLDEN / "llava", tmp_path / "model")
    path = (folder / "model.safetensors").rename(folder / file)
    index = {"weight_map": dict.fromkeys(load_file(path), file)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    hf.load(folder)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(ConfigError, match=rf"model/{file}: not a valid safetensors file"):
        hf.load(folder)


def test_gates_at_zero_leave_the_language_model(tmp_path):
    folder = materialise(GOLDEN / "flamingo", tmp_path)
    model, io = hf.load(folder).model, load_file(folder / "io.safetensors")
    ids, images = io["in.input_ids"], io["in.vision_features"]
    with torch.no_grad():
        shown, blind = model.shown(images), Context.empty(len(ids))
        assert (model.net(ids, shown)[0] - model.net(ids, blind)[0]).abs().max() > 0.1
        gates = [value for name, value in model.net.named_parameters() if name.endswith("gate")]
        assert len(gates) == 4
        for gate in gates:
            gate.zero_()
        torch.testing.assert_close(model.net(ids, shown)[0], model.net(ids, blind)[0], rtol=0, atol=0)


def test_openflamingo_around_mpt_begins_as_mpt(tmp_path):
    folder = materialise(GOLDEN / "mpt", tmp_path)
    io, path = load_file(folder / "io.safetensors"), folder / "model.safetensors"
    text = json.loads((folder / "config.json").read_text())
    data = {"model_type": "flamingo", "media_token_id": 49, "vision_dim": 16, "perceiver_depth": 1, "text": text}
    (folder / "config.json").write_text(json.dumps(data))
    torch.manual_seed(0)
    shapes = openflamingo(text, 16, depth=1, older=False)
    own = {name.replace(".decoder_layer.", ".").removeprefix("lang_encoder."): name for name in shapes}
    tensors = load_file(path)
    save_file({n: tensors.get(o, torch.rand(shapes[n]) * (0 if "gate" in o[-5:] else 1)) for o, n in own.items()}, path)
    model = hf.load(folder).model
    ids, mask = io["in.input_ids"].clamp(max=48), io["in.attention_mask"].bool()
    same = (ids == io["in.input_ids"]).cumprod(1).bool() & mask
    ids[:, 0] = torch.where(same[:, 0], ids[:, 0], 3)
    with torch.no_grad():
        made = model.net(ids, model.shown(torch.randn(len(ids), 1, 5, 16)))[0]
        torch.testing.assert_close(made[same], io["out.logits"][same], rtol=0, atol=1e-5)
        ids[:, 0] = 49
        before = model.net(ids, model.shown(torch.randn(len(ids), 1, 5, 16)))[0]
        model.net.language.stream.gated["0"].cross_branch.gate.fill_(1.0)
        after = model.net(ids, model.shown(torch.randn(len(ids), 1, 5, 16)))[0]
    assert (after - before).abs().max() > 1e-3


def test_text_sees_the_image_last_named_alone(tmp_path):
    folder = materialise(GOLDEN / "flamingo", tmp_path)
    model, io = hf.load(folder).model, load_file(folder / "io.safetensors")
    images, media = io["in.vision_features"][:1], int(io["in.media_id"])
    ids = torch.tensor([[5, media, 7, 8, media, 9, 10]])
    with torch.no_grad():
        before = model.net(ids, model.shown(images))[0]
        # Text in front of the first image sees none, text behind the second one reads the first through text alone.
        changed = images.clone()
        changed[:, 1] = images[:, 0].flip(-1)
        after = model.net(ids, model.shown(changed))[0]
    apart = (after - before).abs().amax(-1)[0]
    assert apart[:4].max() == 0
    assert apart[4:].min() > 1e-3


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_reading_in_parts_equals_reading_at_once(cut, tmp_path):
    folder = materialise(GOLDEN / "flamingo", tmp_path)
    model, io = hf.load(folder).model, load_file(folder / "io.safetensors")
    ids, ctx = io["in.input_ids"], model.shown(io["in.vision_features"])
    with torch.no_grad():
        whole = model.net(ids, ctx)[0]
        first, state = model.net(ids[:, :cut], ctx)
        rest, _ = model.net(ids[:, cut:], ctx, state)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole, rtol=0, atol=1e-5)
