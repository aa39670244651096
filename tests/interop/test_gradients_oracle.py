"""Gradients in the layout of transformers, beside transformers itself where it is installed: what we pack, turn or tie
included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.parity import blip, language, reference, run, towers
from benchmarks.parity.answers import compare
from benchmarks.parity.gradients import Numbered
from safetensors.torch import load_file
from tests.golden.materialise import materialise
from tests.interop.test_cases import GOLDEN
from torch.nn import functional as F

from nextmove.interop import hf

transformers = pytest.importorskip("transformers", reason="transformers, the reference, is not installed")

SIZES: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40, "vocab_size": 50,
}  # fmt: skip
LLAMA: dict[str, Any] = SIZES | {"num_key_value_heads": 2, "max_position_embeddings": 32}
GEMMA: dict[str, Any] = LLAMA | {"head_dim": 8}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", {"n_embd": 24, "n_layer": 2, "n_head": 3, "vocab_size": 50, "n_positions": 32}),
    "llama": ("LlamaForCausalLM", LLAMA),
    "tied": ("LlamaForCausalLM", LLAMA | {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2ForCausalLM", LLAMA),
    "gemma": ("GemmaForCausalLM", GEMMA),
    "gemma2": ("Gemma2ForCausalLM", GEMMA | {"sliding_window": 4, "query_pre_attn_scalar": 8}),
    "mpt": ("MptForCausalLM", {"d_model": 24, "n_heads": 6, "n_layers": 3, "vocab_size": 50, "max_seq_len": 32}),
    "bert": ("BertForMaskedLM", SIZES | {"max_position_embeddings": 32}),
}

READERS = ["blip_caption", "idefics", "idefics3", "llava", "llava-hub", "paligemma", "paligemma-hub", "smolvlm"]


def case(name: str, folder: Path) -> dict[str, torch.Tensor]:
    """A folder of transformers with random weights; inputs, the loss, and the gradient of every tensor of the file."""
    kind, sizes = CASES[name]
    torch.manual_seed(0)
    config = getattr(transformers, kind).config_class(**sizes, attn_implementation="eager")
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    ids = torch.randint(3, 50, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    labels = torch.where(mask.bool(), ids, -100)
    out = model(input_ids=ids, attention_mask=mask, labels=labels)
    out.loss.backward()
    own = dict(model.named_parameters())
    grads = {f"grad.{key}": own[key].grad for key in load_file(folder / "model.safetensors") if key in own}
    io = {"in.input_ids": ids, "in.attention_mask": mask, "in.labels": labels, "in.prompt_ids": ids[:, :4]}
    io |= {"in.token_type_ids": torch.zeros_like(ids)} if name == "bert" else {}
    return io | {"loss": out.loss.detach().reshape(1), "out.logits": out.logits.detach() * mask[..., None], **grads}


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    io = case(name, tmp_path)
    made = towers.texts(tmp_path, io) if name == "bert" else language.answers(tmp_path, io)
    result = compare(made, io)
    assert "not_compared" not in result
    assert sum(key.startswith("grad.") for key in io) > 15
    assert result["max_abs_diff"] < 1e-5
    assert result["loss_diff"] < 1e-5
    assert result["grad_diff"] < 1e-4


@pytest.mark.parametrize("name", READERS)
def test_of_golden_cases_that_record_none(name: str, tmp_path: Path) -> None:
    result = run(GOLDEN / name, tmp_path, recorded=False)
    assert result["grad_reference"] == f"transformers {transformers.__version__}"
    assert result["grad_abs_diff"] < 1e-5
    assert result["grad_diff"] < 1e-4


def test_of_matching_and_cosines(tmp_path: Path) -> None:
    folder = materialise(GOLDEN / "blip_retrieval", tmp_path)
    io, numbered = load_file(folder / "io.safetensors"), Numbered(folder)

    def loss(match: torch.Tensor, cosines: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(match, torch.tensor([1, 0])) + F.cross_entropy(cosines, torch.arange(2))

    model, theirs = hf.load(folder).model, reference.opened(folder)
    found = blip.retrieval(model, io).found
    made = loss(found["out.itm_logits"], found["out.itc_scores"])
    ours = numbered.gradients(model, made, lambda copy: hf.load(copy).model)
    given = {name: io[f"in.{name}"] for name in ("input_ids", "pixel_values", "attention_mask")}
    scores = [theirs(**given, use_itm_head=matched).itm_score for matched in (True, False)]
    expected = numbered.gradients(theirs, loss(*scores), reference.opened)
    assert set(ours) == set(expected) == {f"grad.{name}" for name in numbered.tensors}
    assert sum(float(grad.abs().max()) > 1e-6 for grad in expected.values()) > 0.8 * len(expected)
    for name, grad in expected.items():
        torch.testing.assert_close(
            ours[name], grad, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
