"""Another head around a recipe's network: by name, and saved as it was trained."""

from __future__ import annotations

import pytest

from nextmove.config import ConfigError, decode, encode
from nextmove.decoders import Autoregressive
from nextmove.jobs.tasks.exchanged import exchange, heads, wraps
from nextmove.parts import PARTS
from nextmove.systems import System, built, find


def test_decoder_and_trunk_are_exchanged_by_name() -> None:
    recipe = exchange(find("flow-policy").load()(), "diffusion", "unet1d")
    assert type(recipe.decoder).__name__ == "Diffusion"
    assert type(recipe.decoder.trunk).__name__ == "UNet1d"
    with pytest.raises(ConfigError, match="did you mean 'diffusion'"):
        exchange(recipe, "difusion", None)
    with pytest.raises(ConfigError, match="more than one rule"):
        exchange(find("act").load()(), "flow", None)


def test_a_recipe_with_heads_of_its_own_is_given_those() -> None:
    recipe = find("openvla-oft").load()()
    for name in ("l1", "diffusion", "flow"):
        assert exchange(recipe, name, None) == recipe.headed(name)


def numbers(system: System) -> bool:
    """Whether the system's network may generate numbers: texts and codes are ids, and pi0-FAST's actions are FAST's."""
    recipe = system.load()()
    fits = wraps(recipe) and hasattr(recipe.decoder.trunk, "build")
    written = isinstance(getattr(recipe, "decoder", None), Autoregressive) and not hasattr(recipe, "actions")
    return fits and not written and system.name != "pi0-fast"


@pytest.mark.parametrize("system", [s for s in built() if numbers(s)], ids=lambda s: s.name)
def test_every_head_is_read_from_a_saved_config(system: System) -> None:
    own = system.load()()
    for name in heads(own):
        recipe = exchange(own, name, None)
        assert decode(type(own), encode(recipe), parts=PARTS) == recipe


def test_numbers_in_place_of_ids_are_read_from_a_saved_config() -> None:
    own = find("action-tokens").load()()
    recipe = exchange(own, "flow", "mlp")
    assert decode(type(own), encode(recipe), parts=PARTS) == recipe
