"""What a policy is shown: hand-computed points, velocities, widths, and named errors."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from nextmove.codecs import Scaled
from nextmove.codecs.batches import Batches
from nextmove.contracts import ContextSpec, seeded
from nextmove.contracts.features import states
from nextmove.encoders import ObservationEncoder, Plain, Points, StateEncoder

FEATURES = {"observation.state": 2, "observation.environment_state": 4, "observation.goal": 4}


def scene() -> dict[str, torch.Tensor]:
    return {
        "observation.state": torch.tensor([[[1.0, 2.0], [3.0, 5.0]]]),
        "observation.environment_state": torch.tensor([[[10.0, 20, 30, 40], [11.0, 20, 30, 44]]]),
        "observation.goal": torch.tensor([[[1.0, 0, 30, 34]] * 2]),
    }


def build(view: Plain | Points, *, steps: int, tokens: bool = False, noise: float = 0.0) -> Any:
    scale = Scaled(view.width(FEATURES), mode="identity")
    encoder = ObservationEncoder([StateEncoder(view, scale, states(FEATURES), noise=noise)], steps=steps, tokens=tokens)
    return partial(encoder, batch=1)


def test_points_by_hand() -> None:
    found = build(Points(near_scale=10.0), steps=1)(scene()).vector
    assert found is not None
    error = np.array([10, 20, 0, 10.0])
    expected = np.concatenate(
        [[3, 5], [11 - 3, 20 - 5, 30 - 3, 44 - 5], error, np.tanh(error / 10), [2, 3], [1, 0, 0, 4]]
    )
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def test_velocity_of_the_first_step_is_zero() -> None:
    tokens = build(Points(), steps=2, tokens=True)(scene()).tokens
    assert tokens is not None
    assert tokens.shape == (1, 2, 20)
    assert tokens[0, 0, -6:].eq(0).all()


def test_plain_is_side_by_side_and_spec_fits() -> None:
    encoder = build(Plain(), steps=2)
    ctx = encoder(scene())
    assert encoder.func.spec == ContextSpec(vector=20)
    assert ctx.vector is not None
    assert ctx.vector[0, :10].tolist() == [1, 2, 10, 20, 30, 40, 1, 0, 30, 34]
    assert build(Plain(), steps=2, tokens=True).func.spec == ContextSpec(token=10, tokens=2)


def test_noise_only_with_a_generator() -> None:
    encoder = build(Plain(), steps=1, noise=0.1)
    clean, noisy, again = encoder(scene()), encoder(scene(), rng=seeded(1)), encoder(scene(), rng=seeded(1))
    assert torch.equal(noisy.vector, again.vector)
    assert 0 < (noisy.vector - clean.vector).abs().max() < 1


def test_errors_name_the_feature() -> None:
    encoder = build(Plain(), steps=1)
    with pytest.raises(ValueError, match=r"expected feature 'observation\.goal'"):
        encoder({k: v for k, v in scene().items() if k != "observation.goal"})
    with pytest.raises(ValueError, match=r"observation\.state: expected width 2, found 3"):
        encoder({**scene(), "observation.state": torch.zeros(1, 2, 3)})


def test_in_the_objects_frame_a_turned_scene_looks_the_same_but_for_the_robots_place() -> None:
    view = Points(near_scale=10.0, frame="object")
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    shift = torch.tensor([7.0, -3.0])
    seen = scene()
    elsewhere = {n: (v.unflatten(-1, (-1, 2)) @ turn + shift).flatten(-2) for n, v in seen.items()}
    first, second = (build(view, steps=2)(o).vector for o in (seen, elsewhere))
    assert first is not None
    assert second is not None
    rows = first.view(2, -1)[:, 2:], second.view(2, -1)[:, 2:]
    # tanh is taken along the object's axes, so it turns with them too.
    torch.testing.assert_close(*rows, rtol=1e-5, atol=1e-4)
    plain = build(Points(near_scale=10.0), steps=2)(elsewhere).vector
    assert plain is not None
    assert not torch.allclose(plain.view(2, -1)[:, 2:], rows[0], atol=1.0)


def test_points_in_one_place_have_a_heading() -> None:
    from nextmove.geometry import heading

    assert torch.equal(heading(torch.ones(3, 6)), torch.tensor([[1.0, 0.0]] * 3))


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e6])
def test_a_heading_does_not_depend_on_the_unit(unit: float) -> None:
    from nextmove.geometry import heading

    points = torch.tensor([[30.0, 10.0, 20.0, 40.0, 10.0, 10.0]])
    torch.testing.assert_close(heading(points * unit), heading(points))
    assert torch.equal(heading(unit * torch.full((1, 6), 0.1)), torch.tensor([[1.0, 0.0]]))


@pytest.mark.parametrize("frame", ["world", "object"])
def test_points_that_stand_still_are_constant_whatever_rounding_says(frame: str) -> None:
    seen = {name: value.repeat(50, 1, 1) for name, value in scene().items()}
    seen["observation.state"] = seen["observation.state"] + 100 * torch.rand(50, 1, 2, generator=seeded(0))
    view = Points(near_scale=10.0, frame=frame)  # type: ignore[arg-type]
    encoder = StateEncoder(view, Scaled(view.width(FEATURES)), states(FEATURES))
    shown = encoder.show(seen, 1).flatten(0, 1).numpy()
    # All but the robot's place and the points as seen from it.
    assert encoder.scale.fit(shown, size=view.size(seen, FEATURES).numpy()) == list(range(6, 20))
    encoder.fit(Batches([seen]), 1)
    assert view.size(seen, FEATURES).shape == (20,)
    assert torch.equal(encoder(seen, batch=50, steps=1)[:, 0, 6:], torch.zeros(50, 14))
