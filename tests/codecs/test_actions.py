"""Action windows there and back, in every space."""

from __future__ import annotations

import pytest
import torch

from nextmove.codecs import Actions, Bins, Scaled
from nextmove.codecs.relative import Relative
from nextmove.contracts import normal, seeded
from nextmove.geometry import back, heading

B, T, H, A = 5, 2, 4, 3


def windows() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return 100 * normal((B, H, A), seeded(1)), {"observation.state": 50 * normal((B, T, A), seeded(2))}


@pytest.mark.parametrize("reference", [None, "observation.state"])
@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("mode", ["mean_std", "min_max"])
def test_round_trip(reference: str | None, per_step: bool, mode: str) -> None:
    action, obs = windows()
    relative = Relative(A, "relative" if reference else "absolute")
    codec = Actions(Scaled(H * A if per_step else A, mode=mode), relative, per_step=per_step)  # type: ignore[arg-type]
    codec.scale.fit(codec.values(action, obs).numpy())
    x = codec.encode(action, obs)
    assert x.shape == (B, H, A)
    if mode == "min_max":
        assert x.min() == pytest.approx(-1, abs=1e-5)
        assert x.max() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(codec.decode(x, obs), action, rtol=1e-5, atol=1e-4)


def test_relative_is_seen_from_now_or_from_its_own_step() -> None:
    action, obs = windows()
    now = Relative(A, "relative").apply(action, obs)
    torch.testing.assert_close(now, action - obs["observation.state"][:, -1:])
    own = Relative(A, "relative", stepwise=True).apply(action[:, :T], obs)
    torch.testing.assert_close(own, action[:, :T] - obs["observation.state"])


def test_bins_are_within_half_a_bin() -> None:
    action, obs = windows()
    codec = Actions(Scaled(A, mode="min_max"), bins=Bins(bins=256, width=A))
    codec.scale.fit(codec.values(action, obs).numpy())
    ids = codec.encode(action, obs)
    assert ids.shape == (B, H * A)
    assert ids.dtype == torch.int64
    half = codec.scale.scale * (2 / 256) / 2
    assert ((codec.decode(ids, obs) - action).abs() <= half * 1.001).all()


@pytest.mark.parametrize("bins", [0, 16])
@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("mode", ["mean_std", "min_max", "quantiles"])
@pytest.mark.parametrize("frame", [None, "points"])
@pytest.mark.parametrize("space", ["absolute", "relative"])
def test_what_never_moves_is_planned_as_it_is(
    space: str, frame: str | None, mode: str, per_step: bool, bins: int
) -> None:
    """In the space of the statistics: an offset from the robot that is always the same is kept to rounding."""
    rows = 200
    obs = {
        "observation.state": 300 + 50 * normal((rows, T, 2), seeded(2)),
        "points": 80 * normal((rows, T, 6), seeded(3)),
    }
    reference = None if space == "absolute" else "observation.state"
    frame = frame if reference else None
    codec = Actions(
        Scaled(H * 2 if per_step else 2, mode=mode),  # type: ignore[arg-type]
        Relative(2, "relative" if reference else "absolute", frame=frame), per_step=per_step,
        bins=Bins(bins=bins, width=2) if bins else None,
    )  # fmt: skip
    fixed = torch.tensor([0.04, 0.3]).expand(rows, H, 2)
    if frame:
        fixed = back(fixed, heading(obs["points"][:, -1:]))
    action = fixed + obs["observation.state"][:, -1:] if reference else fixed
    size = codec.size(action, obs).numpy()
    assert len(codec.scale.fit(codec.values(action, obs).numpy(), size=size)) == codec.scale.width
    x = torch.randint(0, bins, (rows, H * 2), generator=seeded(4)) if bins else 3 * normal((rows, H, 2), seeded(4))
    torch.testing.assert_close(codec.decode(x, obs), action, rtol=0, atol=1e-4 if reference else 0)
    assert codec.encode(action, obs).isfinite().all()


def test_errors_name_the_anchor() -> None:
    action, obs = windows()
    codec = Actions(Scaled(A, mode="identity"), Relative(A, "relative", "observation.pose"))
    with pytest.raises(ValueError, match=r"expected feature 'observation\.pose'"):
        codec.encode(action, obs)
    with pytest.raises(ValueError, match=r"observation\.state: expected the width of the action, 3, found 2"):
        Relative(A, "relative").apply(action, {"observation.state": torch.zeros(B, T, 2)})


def turned(x: torch.Tensor, angle: float, about: torch.Tensor) -> torch.Tensor:
    c, s = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
    xy = x.unflatten(-1, (-1, 2)) - about
    return (xy @ torch.tensor([[c, s], [-s, c]]) + about).flatten(-2)


@pytest.mark.parametrize("stepwise", [False, True])
def test_in_the_objects_frame_a_turned_scene_is_the_same_and_comes_back(stepwise: bool) -> None:
    steps = T if stepwise else H
    action = 100 * normal((B, steps, 2), seeded(1))
    obs = {"observation.state": 50 * normal((B, T, 2), seeded(2)), "points": 80 * normal((B, T, 6), seeded(3))}
    relative = Relative(2, "relative", frame="points", stepwise=stepwise)
    codec = Actions(Scaled(2, mode="identity"), relative)
    x = codec.encode(action, obs)
    torch.testing.assert_close(codec.decode(x, obs), action, rtol=1e-5, atol=1e-3)
    about = torch.tensor([300.0, -40.0])
    elsewhere = {name: turned(value, 2.1, about) for name, value in obs.items()}
    torch.testing.assert_close(codec.encode(turned(action, 2.1, about), elsewhere), x, rtol=1e-4, atol=1e-2)
    assert not torch.allclose(codec.encode(action, elsewhere), x, atol=1.0)
    assert codec.space == "relative to observation.state along points"
    with pytest.raises(ValueError, match="expected feature 'points'"):
        codec.encode(action, {"observation.state": obs["observation.state"]})
