"""What a policy looks at where the robot has cameras: their images and the robot's own state, and nothing else.

The pose of objects, which simulators know, is left out: a policy that reads it needs no camera, and no real robot has
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

from nextmove.contracts import Feature
from nextmove.encoders import Camera, Observation, State
from nextmove.nn.small_resnet import SmallResNet

R = TypeVar("R")
OWN = "observation.state"
"""LeRobot's name of what a robot measures of itself."""
WORLD = ("observation.environment_state", "observation.goal")
"""What only a simulator knows."""
SIDE = 128
"""Pixels of an image's shorter side that a CPU trains on; larger images are divided by a whole number."""
SMALL = Camera(backbone=SmallResNet(), shared=True)
"""A residual network that a CPU trains, with maps four times as fine as ResNet-18's and a third of its work."""


def cameras(inputs: Mapping[str, Feature]) -> tuple[str, ...]:
    """Names of the cameras in colour."""
    return tuple(name for name, feature in inputs.items() if feature.type == "image" and feature.width == 3)


def own_state(inputs: Mapping[str, Feature]) -> State | None:
    """The part that shows what the robot measures of itself; None where the data have nothing of it."""
    states = [name for name, feature in inputs.items() if feature.type == "state"]
    names = [OWN] if OWN in states else [name for name in states if name not in WORLD]
    return State(tuple(names), view="plain") if names else None


def named(camera: Camera, inputs: Mapping[str, Feature]) -> Camera:
    """The part that reads all cameras in colour, and no other image."""
    names = cameras(inputs)
    others = any(feature.type == "image" and name not in names for name, feature in inputs.items())
    return replace(camera, features=names if others else ())


def fitted(camera: Camera, inputs: Mapping[str, Feature]) -> Camera:
    """The part for these cameras at a size that a CPU trains on: the smallest camera's, where there are several."""
    sizes = {inputs[name].shape[:2] for name in cameras(inputs)}
    height, width = min(sizes, key=min)
    part = -(-min(height, width) // SIDE)
    size = (height // part, width // part)
    return replace(named(camera, inputs), resize=size if part > 1 or len(sizes) > 1 else None)


def cropped(camera: Camera, inputs: Mapping[str, Feature]) -> Camera:
    """The part with a crop of seven eighths of what it would read else, the published 84 of 96 px."""
    sizes = [camera.resize] if camera.resize else [inputs[name].shape[:2] for name in cameras(inputs)]
    height, width = (min(side) for side in zip(*sizes, strict=True))
    return replace(named(camera, inputs), crop=(height * 7 // 8, width * 7 // 8))


def looking(camera: Camera, inputs: Mapping[str, Feature]) -> tuple[State | Camera, ...]:
    """The parts of an encoder: the robot's own state, where there is one, then its cameras (as Diffusion Policy)."""
    state = own_state(inputs)
    return (camera,) if state is None else (state, camera)


def seeing(recipe: R, inputs: Mapping[str, Feature], *, steps: int = 1, batch: int = 64, lr: float = 5e-4) -> R:
    """A recipe of states as one that looks through cameras, at a size that a CPU trains.

    steps: observed ones, at each of which all cameras are read. Timing and optimiser are those of the recipe else.
    """
    own, parts = cast(Any, recipe), looking(cropped(fitted(SMALL, inputs), inputs), inputs)
    found: R = replace(
        own,
        timing=replace(own.timing, n_obs_steps=steps),
        encoder=Observation(parts, tokens=own.encoder.tokens),
        optim=replace(own.optim, batch=batch, lr=lr),
    )
    return found


def reading(recipe: R, inputs: Mapping[str, Feature]) -> R:
    """A recipe whose language model reads the cameras in colour, and of states what the robot measures of itself."""
    own, state = cast(Any, recipe), own_state(inputs)
    encoder = replace(own.encoder, cameras=cameras(inputs))
    if state is not None:
        encoder = replace(encoder, states=state.features)
    elif encoder.state in ("vector", "token"):
        encoder = replace(encoder, state="none")
    found: R = replace(own, encoder=encoder)
    return found
