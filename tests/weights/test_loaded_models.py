"""Models are built without storage for weights and take those of the file: the same as built as usual."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.test_policies import make
from torch import nn

from nextmove import store
from nextmove.codecs.byte_level import byte_tokenizer
from nextmove.models.generator import ImageSpec, PriorSpec, TextSpec
from nextmove.models.image.vqvae import VqVae
from nextmove.models.vision_language.spec import PairSpec
from nextmove.systems import SYSTEMS, find

BUILT = [system.name for system in SYSTEMS if system.state == "built"]
TEXT, IMAGE = TextSpec(unit="characters", length=16, vocabulary=tuple("abc")), ImageSpec(16, 16)
WORDS = byte_tokenizer()


def made(system: str) -> Any:
    """An untrained model of the system; policies are small and fitted."""
    family = find(system).family
    if family in ("policy", "vision-language-action"):
        return make(system)
    torch.manual_seed(0)
    if family == "vision-language":
        model = store.create(system, PairSpec(64, 64, WORDS.classes, 32, WORDS.hash))
        model.codec.adopt(WORDS)
        return model
    prior = system == "vqgan-prior"
    return store.create(system, TEXT if family == "text" else PriorSpec(IMAGE, VqVae()) if prior else IMAGE)


def contents(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every tensor that a model holds: parameters, buffers, those no file keeps, and plain attributes."""
    found = dict(itertools.chain(model.named_parameters(remove_duplicate=False), model.named_buffers()))
    for prefix, part in model.named_modules():
        for name, value in vars(part).items():
            members = value if isinstance(value, list | tuple) else [value]
            tensors = (v for v in members if isinstance(v, torch.Tensor))
            found |= {f"{prefix}.{name}.{i}": v for i, v in enumerate(tensors)}
    return found


@pytest.mark.parametrize("system", BUILT)
def test_a_loaded_model_holds_what_was_saved(system: str, tmp_path: Path) -> None:
    model = made(system)
    store.save(model, tmp_path)
    loaded = store.load(tmp_path)
    expected, found = contents(model), contents(loaded)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert found[name].requires_grad == value.requires_grad, name
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True, msg=name)
