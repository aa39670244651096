"""GGUF files: formats equal to the reference's values, and files that are cut off, damaged or of formats we lack."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.weights.gguf_files import float32, q8_0, write_gguf

from nextmove.weights.gguf import KINDS, read_gguf
from nextmove.weights.packed import FORMATS, PLAIN, Packed, joined, row_bytes

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "gguf_blocks.safetensors")
PACKED = [name for name in FORMATS if name not in PLAIN]


def golden(kind):
    want = GOLDEN[f"{kind}.values"]
    return Packed(kind, tuple(want.shape), GOLDEN[f"{kind}.raw"]), want


@pytest.mark.parametrize("kind", PACKED)
def test_unpacking_equals_the_reference_to_the_last_bit(kind):
    packed, want = golden(kind)
    assert torch.equal(packed.values(), want)
    assert packed.values(torch.bfloat16).equal(want.bfloat16())
    assert packed.nbytes == math.prod(packed.shape[:-1]) * row_bytes(kind, packed.shape[-1])


@pytest.mark.parametrize("kind", PACKED)
def test_the_oracle_agrees(kind):
    quants = pytest.importorskip("gguf.quants", reason="the package gguf, the reference of the formats, is absent")
    from gguf import GGMLQuantizationType

    packed, _ = golden(kind)
    want = quants.dequantize(packed.raw.numpy(), GGMLQuantizationType[kind])
    assert np.array_equal(packed.values().numpy(), want)


def test_plain_numbers_and_large_tensors_are_unpacked_in_pieces(monkeypatch):
    for kind, dtype in PLAIN.items():
        numbers = torch.arange(12).view(3, 4).to(dtype)
        packed = Packed(kind, (3, 4), numbers.view(torch.uint8).view(3, -1))
        assert torch.equal(packed.values(), numbers.float())
    packed, want = golden("Q4_1")
    monkeypatch.setattr("nextmove.weights.packed.AT_ONCE", 33)
    assert torch.equal(packed.values(), want)


def test_rows_are_joined_permuted_and_cut_without_unpacking():
    packed, want = golden("Q5_K")
    order = torch.tensor([1, 0])
    assert torch.equal(packed.rows(order).values(), want[order])
    whole = joined([packed, packed.cut(1, 1)])
    assert whole.shape == (3, 256)
    assert torch.equal(whole.values(), torch.cat([want, want[1:]]))
    assert packed.blocks.shape == (2, 1, 176)
    with pytest.raises(ValueError, match="parts: expected one format, found Q4_K, Q5_K"):
        joined([packed, golden("Q4_K")[0]])


METADATA = {
    "general.architecture": ("text", "llama"),
    "llama.block_count": ("u32", 2),
    "llama.eps": ("f32", 0.5),
    "flag": ("bool", True),
    "tokens": ("list", ("text", ["a", "ü"])),
    "scores": ("list", ("f32", [0.5, -1.0])),
}


def small(path, **options):
    numbers = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    return write_gguf(path / "a.gguf", METADATA, {"w": q8_0(numbers), "norm": float32([1.0, 2, 3])}, **options), numbers


@pytest.mark.parametrize("options", [{}, {"version": 2}])
def test_metadata_and_tensors(tmp_path, options):
    path, numbers = small(tmp_path, **options)
    found = read_gguf(path)
    assert dict(found.metadata) == {
        "general.architecture": "llama", "llama.block_count": 2, "llama.eps": 0.5, "flag": True,
        "tokens": ["a", "ü"], "scores": [0.5, -1.0],
    }  # fmt: skip
    assert found.tensors["w"].shape == (4, 64)
    assert np.abs(found.tensors["w"].values().numpy() - numbers).max() < 0.02
    assert found.tensors["norm"].values().tolist() == [1, 2, 3]
    assert found.kinds == {"F32": 1, "Q8_0": 1}
    assert found.nbytes == 4 * 2 * 34 + 12
    assert found.get("llama.block_count", int) == 2
    with pytest.raises(ValueError, match=r"llama.block_count: expected str, found int"):
        found.get("llama.block_count", str)
    with pytest.raises(ValueError, match=r"a.gguf: llama.width: expected a value, found none"):
        found.get("llama.width", int)


def test_another_alignment_is_heeded(tmp_path):
    metadata = {**METADATA, "general.alignment": ("u32", 64)}
    path = write_gguf(tmp_path / "a.gguf", metadata, {"a": float32([1.0]), "b": float32([2.0])}, align=64)
    assert read_gguf(path).tensors["b"].values().tolist() == [2]


def test_a_file_that_is_cut_off_anywhere_is_an_error(tmp_path):
    path, _ = small(tmp_path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"a\.gguf: (cut off|expected a GGUF file)"):
            read_gguf(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"cut off: norm ends at byte \d+, found \d+ bytes"):
        read_gguf(path)


def test_what_is_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a GGUF file, found none"):
        read_gguf(tmp_path / "a.gguf")
    path, _ = small(tmp_path, version=1)
    with pytest.raises(ValueError, match="version: expected 2 or 3, found 1"):
        read_gguf(path)
    path, _ = small(tmp_path, version=3 << 24)
    with pytest.raises(ValueError, match="of a machine of the other byte order"):
        read_gguf(path)
    path.write_bytes(b"PK\3\4" * 9)
    with pytest.raises(ValueError, match="expected a GGUF file, which begins with"):
        read_gguf(path)


@pytest.mark.parametrize(("kind", "name"), [("IQ2_XXS", "IQ2_XXS"), (77, "number 77")])
def test_formats_that_we_lack_are_named_with_those_we_have(tmp_path, kind, name):
    path = write_gguf(tmp_path / "a.gguf", METADATA, {"blk.0.w": (kind, (1, 256), np.zeros(66, np.uint8))})
    with pytest.raises(ValueError, match=rf"blk.0.w: expected one of the formats F32, .*Q4_K, .*, found {name}"):
        read_gguf(path)


def test_rows_that_are_no_whole_blocks_are_an_error(tmp_path):
    path = write_gguf(tmp_path / "a.gguf", METADATA, {"w": ("Q8_0", (1, 40), np.zeros(68, np.uint8))})
    with pytest.raises(ValueError, match="w: expected a multiple of the 32 values of a block of Q8_0"):
        read_gguf(path)


def test_every_format_we_have_has_a_number():
    assert set(FORMATS) <= set(KINDS.values())
