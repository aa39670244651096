"""The parts of policies and generators are protocols, which the parts there are obey."""

import typing

import pytest
from torch import nn

from nextmove import decoders, parts
from nextmove.codecs import Text
from nextmove.codecs.byte_level import byte_tokenizer
from nextmove.codecs.palette import Palette
from nextmove.codecs.pixels import Continuous, Pixels
from nextmove.contracts import ImageCodec, TextCodec, TokenTrunk, Trunk
from nextmove.contracts.saved import Filed, files
from nextmove.models.generator import Generator
from nextmove.models.policy import Policy
from nextmove.systems import built


@pytest.mark.parametrize("model", [Generator, Policy])
def test_no_part_is_of_any_type(model):
    hints = typing.get_type_hints(model)
    for part in ("codec", "decoder", "encoder"):
        kinds = typing.get_args(hints[part]) or (hints[part],)
        assert all(kind is type(None) or getattr(kind, "_is_protocol", False) for kind in kinds), (part, hints[part])


def test_codecs_are_what_generators_ask_for():
    for codec in (Text("bytes"), byte_tokenizer()):
        assert isinstance(codec, TextCodec)
    grid = {"height": 2, "width": 2}
    for codec in (Palette(**grid), Pixels(**grid, channels=1, levels=4), Continuous(levels=4)):
        assert isinstance(codec, ImageCodec)
        assert not isinstance(codec, TextCodec)


def test_files_of_parts_have_one_content_a_name():
    one, other = byte_tokenizer(), byte_tokenizer()
    assert isinstance(one, Filed)
    assert files(nn.ModuleList([one, nn.Linear(1, 1), other])) == {"tokenizer.json": one.text}
    other.text += " "
    with pytest.raises(ValueError, match=r"tokenizer\.json: expected one file of this name in a model, found two"):
        files(nn.ModuleList([one, other]))


@pytest.mark.parametrize("config", [*parts.DECODERS.values(), decoders.Autoregressive], ids=lambda c: c.__name__)
def test_networks_of_decoders_are_what_the_protocol_says(config):
    assert typing.get_type_hints(config)["trunk"] in (Trunk, TokenTrunk)


@pytest.mark.parametrize("system", built("policy"), ids=lambda s: s.name)
def test_what_a_recipe_is_made_of_is_typed(system):
    assert typing.Any not in typing.get_type_hints(system.load()).values()
