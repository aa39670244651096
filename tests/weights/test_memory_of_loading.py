"""A large saved model is loaded in little more memory than its file has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nextmove import store
from nextmove.models.generator import TextSpec
from nextmove.models.text.gpt import ModernGpt
from nextmove.nn import Gpt

MEASURE = """
import os, sys, threading
import torch
from nextmove import store, weights
from nextmove.weights import files
import nextmove.parts, nextmove.models.text.gpt, nextmove.decoders.reach, nextmove.nn.renamed, safetensors.torch

torch.set_num_threads(1)
files.GROUP = 2 * 2**20
small, large, mapped = sys.argv[1], sys.argv[2], sys.argv[3] == "mapped"


def number(key):
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1])


store.load(small, mapped=mapped)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew
before = number("VmRSS")
model = store.load(large, mapped=mapped)
total = sum(float(p.sum()) for p in model.parameters())
assert total == total and "torch._dynamo" not in sys.modules
print(number("VmHWM") - before)
"""
"""Counts all resident memory, pages of the mapped file included, once every weight has been read."""


@pytest.mark.parametrize("mapped", ["copied", "mapped"])
def test_the_peak_is_little_more_than_the_file(tmp_path: Path, mapped: str) -> None:
    spec = TextSpec(unit="characters", length=16, vocabulary=tuple("abc"))
    for name, width in (("small", 64), ("large", 640)):
        recipe = ModernGpt()
        trunk = Gpt(width=width, layers=10, heads=8)
        model = store.create("gpt-modern", spec, recipe.__class__(decoder=recipe.decoder.__class__(trunk=trunk)))
        store.save(model.bfloat16(), tmp_path / name)
    size = (tmp_path / "large" / "model.safetensors").stat().st_size
    assert size > 90e6
    folders = [str(tmp_path / "small"), str(tmp_path / "large"), mapped]
    done = subprocess.run([sys.executable, "-c", MEASURE, *folders], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 1.15 * size
