"""A frozen sentence encoder reads instructions: nothing of it is trained, and it stays in the saved model."""

from __future__ import annotations

import pytest
import torch

from nextmove.codecs.byte_level import byte_tokenizer
from nextmove.contracts import TASK, Feature
from nextmove.encoders.sentence import Sentence, SentenceEncoder
from nextmove.nn.text_encoder import TextEncoder

TINY = Sentence("tiny", TextEncoder(8, 1, 2), classes=byte_tokenizer().classes, positions=32, length=24)
INPUTS = {TASK: Feature("text")}


def begun() -> SentenceEncoder:
    torch.manual_seed(0)
    own = TINY.build(INPUTS)
    own.begin(TINY.network.build(classes=TINY.classes, length=TINY.positions), byte_tokenizer())
    return own


def test_it_says_what_it_lacks() -> None:
    own = TINY.build(INPUTS)
    with pytest.raises(
        ValueError, match="instruction: expected the weights of the sentence encoder 'tiny', found none"
    ):
        own({TASK: ["push"]}, batch=1, steps=1)
    with pytest.raises(ValueError, match="tiny: expected a sentence encoder of the sizes of"):
        own.begin(TINY.network.build(classes=5, length=32), byte_tokenizer())
    with pytest.raises(ValueError, match="instruction: expected 'task', an input of type text, found none"):
        TINY.build({})
    with pytest.raises(ValueError, match="observation: expected an instruction"):
        begun()({}, batch=1, steps=1)


def test_every_text_is_read_once_and_the_same_at_every_step() -> None:
    own, calls = begun(), []
    own.network.register_forward_hook(lambda module, args, output: calls.append(len(args[0])))
    with torch.inference_mode():
        own({TASK: ["open the door"]}, batch=1, steps=1)
    found = own({TASK: ["push", "open the door", "push"]}, batch=3, steps=2)
    assert calls == [1, 1]
    assert found.shape == (3, 2, 8)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3, 2))
    torch.testing.assert_close(found[0], found[2])
    assert not torch.allclose(found[0], found[1])
    # What acting has kept can be trained behind.
    layer = torch.nn.Linear(8, 1)
    layer(found).sum().backward()
    assert layer.weight.grad is not None
    other = begun()
    other({TASK: ["close"]}, batch=1, steps=1)
    other.double()
    assert other({TASK: ["close"]}, batch=1, steps=1).dtype == torch.float64


def test_nothing_of_it_is_trained() -> None:
    own = begun().train()
    assert not own.training
    assert not any(p.requires_grad for p in own.parameters())


def test_an_optional_instruction_that_is_absent_is_zeros() -> None:
    own = TINY.build({TASK: Feature("text", optional=True)})
    assert own({}, batch=2, steps=3).tolist() == [[[0.0] * 8] * 3] * 2
