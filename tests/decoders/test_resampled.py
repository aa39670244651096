"""What may be chosen of how a trained decoder samples: every built system says yes, or names what it has not."""

from __future__ import annotations

from typing import Any

import pytest

from nextmove.config import ConfigError
from nextmove.contracts import ContextSpec
from nextmove.decoders import Flow, Latent
from nextmove.nn import ActVaeEncoder, Mlp
from nextmove.systems import System, built

INTEGRATED = {"ddpm", "dit", "flow", "diffusion-policy", "diffusion-transformer", "flow-policy", "pi0", "pi05"}
INTEGRATED |= {"smolvla"}
FEW_STEPS = {"meanflow", "consistency-policy", "meanflow-policy", "flow-policy-3d", "mp1", "ofp"}
SYSTEMS = [system for system in built() if hasattr(system.load()(), "decoder")]


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.name)
@pytest.mark.parametrize(("asked", "has"), [({"steps": 3}, INTEGRATED | FEW_STEPS), ({"guidance": 2.0}, INTEGRATED)])
def test_every_decoder_takes_what_it_has_and_names_what_it_has_not(
    system: System, asked: dict[str, Any], has: set[str]
) -> None:
    decoder = system.load()().decoder
    assert decoder.with_sampling() is decoder
    if system.name not in has:
        with pytest.raises(ConfigError, match=f"{next(iter(asked))}: .*leave it out"):
            decoder.with_sampling(**asked)
        return
    chosen = decoder.with_sampling(**asked)
    found = getattr(chosen, "sampler", chosen)
    assert found.steps == asked.get("steps", getattr(decoder, "sampler", decoder).steps)
    assert "guidance" not in asked or found.guidance.weight == 2.0


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.name)
def test_a_solver_is_for_what_is_integrated(system: System) -> None:
    decoder = system.load()().decoder
    if system.name in INTEGRATED:
        with pytest.raises(ConfigError, match="did you mean 'euler'"):
            decoder.with_sampling("eulr")
    else:
        with pytest.raises(ConfigError, match=r"sampler: .* is not integrated step by step"):
            decoder.with_sampling("euler")


def test_around_another_decoder_the_inner_one_is_resampled_and_the_outer_keeps_its_own() -> None:
    flow = Flow(trunk=Mlp(width=8, depth=1))
    config = Latent(flow, ActVaeEncoder(width=16, heads=2, feedforward=16, layers=1), latent=4)
    decoder = config.build(shape=(4, 2), context=ContextSpec(vector=3))
    chosen = decoder.with_sampling("heun", 3)
    assert (chosen.inner.sampler.steps, decoder.inner.sampler.steps) == (3, flow.sampler.steps)
    assert chosen.inner.net is decoder.inner.net
    assert chosen.posterior is decoder.posterior
    assert decoder.with_sampling() is decoder
    assert config.with_sampling(steps=7).inner.sampler.steps == 7
