"""Cameras, clouds and optional inputs: what is shown, in which order, how crops are drawn, and named errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nextmove.codecs.batches import Batches
from nextmove.contracts import Feature, seeded
from nextmove.encoders import Camera, Cloud, FilmedCamera, Instruction, Observation, State
from nextmove.encoders.camera import CameraEncoder
from nextmove.encoders.pictures import SCALES
from nextmove.nn.pointnet import Points3d

INPUTS = {
    "observation.state": Feature("state", (3,)),
    "observation.images.top": Feature("image", (40, 48, 3)),
    "observation.images.wrist": Feature("image", (50, 34, 3)),
    "point_cloud": Feature("points", (0, 6)),
    "task": Feature("text"),
}


def seen(batch: int = 2, steps: int = 2) -> dict[str, Any]:
    rng = seeded(0)
    picture = {n: torch.randint(256, (batch, steps, *f.shape), generator=rng, dtype=torch.uint8)
               for n, f in INPUTS.items() if f.type == "image"}  # fmt: skip
    return {
        **picture,
        "observation.state": torch.randn(batch, steps, 3, generator=rng),
        "point_cloud": torch.randn(batch, steps, 17, 6, generator=rng),
        "task": ["push"] * batch,
    }


def build(*parts: Any, steps: int = 2, inputs: Any = INPUTS, tokens: bool = False) -> Any:
    torch.manual_seed(0)
    encoder = Observation(parts, tokens).build(inputs, steps=steps)
    if any(isinstance(part, State | Cloud) for part in parts):
        encoder.fit(Batches([seen(8)]))
    return encoder.eval()


def test_parts_are_joined_step_by_step_in_their_order() -> None:
    state, cloud = State(noise=0), Cloud()
    joined, obs = build(cloud, state), seen()
    vector = joined(obs, batch=2).vector.view(2, 2, -1)
    assert joined.spec.vector == 2 * (64 + 3)
    own = build(state)(obs, batch=2).vector.view(2, 2, 3)
    assert torch.equal(vector[..., 64:], own)
    assert not torch.equal(build(state, cloud)(obs, batch=2).vector.view(2, 2, -1)[..., :3], vector[..., :3])
    tokens = build(cloud, state, tokens=True)(obs, batch=2).tokens
    assert torch.equal(tokens, vector)
    assert list(joined.inputs) == ["point_cloud", "observation.state"]


def test_a_cloud_is_a_set_without_colours() -> None:
    encoder, obs = build(Cloud()), seen()
    before = encoder(obs, batch=2).vector
    turned = {**obs, "point_cloud": obs["point_cloud"].flip(2)}
    turned["point_cloud"] = torch.cat([turned["point_cloud"][..., :3], torch.zeros(2, 2, 17, 3)], -1)
    torch.testing.assert_close(encoder(turned, batch=2).vector, before)
    coloured = build(Cloud(network=Points3d(color=True)))
    assert not torch.allclose(coloured(obs, batch=2).vector, coloured(turned, batch=2).vector)


def test_every_camera_has_its_network_unless_they_share_one() -> None:
    encoder, obs = build(Camera()), seen()
    assert encoder.spec.vector == 2 * 2 * 64
    before = encoder(obs, batch=2).vector.view(2, 2, 2, 64)
    dark = {**obs, "observation.images.wrist": torch.zeros_like(obs["observation.images.wrist"])}
    after = encoder(dark, batch=2).vector.view(2, 2, 2, 64)
    assert torch.equal(before[:, :, 0], after[:, :, 0])
    assert not torch.equal(before[:, :, 1], after[:, :, 1])
    assert len(build(Camera(shared=True)).parts[0].networks) == 1
    only = build(Camera(("observation.images.wrist",), pool="average"))
    assert only.spec.vector == 2 * 512


def prepared(camera: Camera, image: torch.Tensor, **draws: Any) -> torch.Tensor:
    encoder: CameraEncoder = camera.build({"observation.images.top": Feature("image", tuple(image.shape[2:]))})
    return encoder.pictures[0](image, draws.get("rng"))


def test_pictures_are_scaled_and_cropped_in_the_middle() -> None:
    image = seen()["observation.images.top"]
    x = prepared(Camera(), image)
    assert x.shape == (4, 3, 40, 48)
    mean, std = SCALES["imagenet"]
    expected = (image[1, 0, 5, 7].double() / 255 - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(x[2, :, 5, 7], expected.float())
    assert torch.equal(prepared(Camera(crop=(34, 40)), image), x[:, :, 3:37, 4:44])


def test_crops_are_drawn_by_row_and_kept_over_its_steps() -> None:
    image = seen(6)["observation.images.top"]
    whole = prepared(Camera(), image).unflatten(0, (6, 2))
    drawn = prepared(Camera(crop=(33, 40)), image, rng=seeded(1)).unflatten(0, (6, 2))
    places = set()
    for row in range(6):
        found = [(y, x) for y in range(8) for x in range(9)
                 if torch.equal(whole[row, :, :, y : y + 33, x : x + 40], drawn[row])]  # fmt: skip
        assert len(found) == 1
        places |= set(found)
    assert len(places) > 3
    assert torch.equal(drawn.flatten(0, 1), prepared(Camera(crop=(33, 40)), image, rng=seeded(1)))


def test_resizing_averages_what_it_joins() -> None:
    image = torch.zeros(1, 1, 4, 4, 3, dtype=torch.uint8)
    image[..., ::2, :] = 200
    x = prepared(Camera(resize=(2, 2), pool="average"), image)
    assert x.shape == (1, 3, 2, 2)
    assert x[0, 0].std() < 0.5


def test_what_is_optional_may_be_absent() -> None:
    inputs = {**INPUTS, "observation.images.wrist": Feature("image", (50, 34, 3), optional=True)}
    inputs["observation.state"] = Feature("state", (3,), optional=True)
    encoder, obs = build(State(noise=0), Camera(), inputs=inputs), seen()
    with_both = encoder(obs, batch=2).vector.view(2, 2, -1)
    del obs["observation.images.wrist"], obs["observation.state"]
    without = encoder(obs, batch=2).vector.view(2, 2, -1)
    assert without[..., :3].eq(0).all()
    assert without[..., -64:].eq(0).all()
    assert torch.equal(without[..., 3:67], with_both[..., 3:67])


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Camera(("observation.images.left",)), r"camera: expected 'observation.images.left', an input of type image, "
         r"found observation.state \(state \[3\]\), observation.images.top"),
        (Camera(crop=(41, 20)), r"observation.images.top: expected a crop of at most \(40, 48\), found \(41, 20\)"),
        (Camera(resize=(32, 64)), r"observation.images.top: expected more than 32 x 32 px for keypoints.*\(32, 64\)"),
        (State(("observation.images.top",)), "state: expected 'observation.images.top', an input of type state"),
        (State(view="points"), "state.view: 'points' needs 'observation.environment_state'"),
    ],
)  # fmt: skip
def test_a_part_that_does_not_fit_is_named(part: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Observation((part,)).build(INPUTS, steps=1)


def test_what_is_absent_is_named_with_what_is_there() -> None:
    with pytest.raises(ValueError, match=r"camera: expected an input of type image, found observation.state"):
        Observation((Camera(),)).build({"observation.state": Feature("state", (3,))}, steps=1)
    with pytest.raises(ValueError, match="cloud: point_cloud: expected points of width 6, found 3"):
        Observation((Cloud(network=Points3d(color=True)),)).build({"point_cloud": Feature("points", (9, 3))}, steps=1)
    encoder, obs = build(Camera()), seen()
    del obs["observation.images.top"]
    with pytest.raises(ValueError, match=r"expected feature 'observation.images.top', found \['observation.images.w"):
        encoder(obs, batch=2)
    with pytest.raises(ValueError, match=r"encoder.parts: expected at least one"):
        Observation(())


@pytest.mark.parametrize(
    ("kind", "shape", "axes"), [("image", (3,), 3), ("state", (2, 3), 1), ("text", (1,), 0), ("points", (3,), 2)]
)
def test_a_feature_has_its_types_axes(kind: Any, shape: tuple[int, ...], axes: int) -> None:
    with pytest.raises(ValueError, match=f"shape: expected {axes} axes of a feature of type {kind}"):
        Feature(kind, shape)


def test_an_instruction_is_shown_at_every_step_and_read_once() -> None:
    encoder = build(State(noise=0), Instruction())
    obs = {**seen(3), "task": ["push the T", "lift the cube", "push the T"]}
    calls = []
    encoder.parts[1].network.register_forward_hook(lambda *call: calls.append(call[1][0].shape))
    shown = encoder(obs, batch=3).vector.view(3, 2, -1)[..., 3:]
    assert torch.equal(shown[:, 0], shown[:, 1])
    assert torch.equal(shown[0], shown[2])
    assert not torch.allclose(shown[0], shown[1], atol=1e-3)
    assert [shape[0] for shape in calls] == [2]
    alone = encoder({name: value[1:2] for name, value in obs.items()}, batch=1).vector.view(1, 2, -1)[..., 3:]
    torch.testing.assert_close(alone[0], shown[1], rtol=1e-4, atol=1e-5)
    with pytest.warns(UserWarning, match=r"task: only 96 of 152 ids of an instruction are read: 'push push"):
        encoder({**obs, "task": ["push " * 30] * 3}, batch=3)
    with pytest.raises(ValueError, match="instruction: expected 'task', an input of type text, found observation"):
        build(Instruction(), inputs={"observation.state": INPUTS["observation.state"]})
    with pytest.raises(ValueError, match=r"expected an instruction, found \['observation"):
        encoder({"observation.state": obs["observation.state"]}, batch=3)


def test_what_a_filmed_camera_finds_depends_on_the_instruction() -> None:
    encoder, obs = build(FilmedCamera(), State(noise=0)), seen()
    assert list(encoder.inputs) == ["observation.images.top", "observation.images.wrist", "task", "observation.state"]
    assert encoder.spec.vector == 2 * (2 * 512 + 3)
    before = encoder(obs, batch=2).vector
    other = {**obs, "task": ["push", "lift"]}
    assert torch.equal(encoder(other, batch=2).vector, before)  # it begins as a camera
    for name, parameter in encoder.named_parameters():
        if ".film." in name:
            torch.nn.init.normal_(parameter, std=0.1)
    before, after = encoder(obs, batch=2).vector, encoder(other, batch=2).vector
    torch.testing.assert_close(after[0], before[0])
    assert not torch.allclose(after[1], before[1], atol=1e-2)
    with pytest.raises(ValueError, match=r"camera.pool: expected 'average'"):
        build(FilmedCamera(Camera()))
