"""What a folder of LeRobot's says beside its weights, in one way for pi0, pi0.5 and pi0-FAST."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from nextmove.config import ConfigError, read_object
from nextmove.interop.lerobot.config import STATE, version_of
from nextmove.interop.lerobot.scaling import PROCESSORS, Scales, check_pictures, from_processors
from nextmove.interop.pi import statistics
from nextmove.interop.pi.composed import robot
from nextmove.interop.pi.config import PiShared, Sizes, sizes_of
from nextmove.interop.pi.steps import POST
from nextmove.models.policy import Policy, PolicySpec

FPS = 30.0
C = TypeVar("C", bound=PiShared)


@dataclass(frozen=True)
class Opened(Generic[C]):
    """A folder's config.json and processors, checked, and the robot that they are for."""

    config: C
    version: str
    sizes: Sizes
    spec: PolicySpec
    scales: Scales | None
    """None: observations and actions are scaled already."""
    notes: tuple[str, ...]

    def scale(self, policy: Policy) -> list[str]:
        """Gives a policy its scales; what is said of them."""
        scales = self.scales
        states, actions = statistics.unscaled(self.config) if scales is None else (scales.inputs[STATE], scales.action)
        return statistics.give(policy, states, actions)


def assumed(fps: float | None) -> list[str]:
    """That a rate which nobody gave is a guess."""
    return [] if fps is not None else [f"fps: the folder does not say, {FPS:g} assumed"]


def opened(
    folder: Path,
    parse: Callable[[Mapping[str, Any]], C],
    steps: Mapping[str, type],
    check: Callable[[C, Mapping[str, Any]], None],
    *,
    fps: float | None,
    optional: Collection[str],
    sizes: Sizes | None,
    scaled: bool,
) -> Opened[C]:
    """Reads a folder that has config.json itself.

    steps: of the preprocessor beside those of every policy, which `check` compares with config.json; the rest and
    errors as of `interop.pi.load`.
    """
    data = read_object(folder / "config.json")
    config, there = parse(data), (folder / PROCESSORS[0]).is_file()
    own = sizes or sizes_of(config.paligemma_variant, config.action_expert_variant)
    own = replace(own, tower=replace(own.tower, image=config.image_resolution[0]))
    scales = None if scaled else from_processors(folder, config, steps, POST)
    if scales is not None:
        check_pictures(scales, config)
        check(config, scales.steps)
    renamed = {} if scales is None else dict(scales.renamed)
    _known(optional, config, renamed)
    spec = robot(config, optional, renamed, FPS if fps is None else fps)
    notes = assumed(fps) + ([f"observations are renamed: {renamed}"] if renamed else [])
    return Opened(config, str(version_of(data, there)), own, spec, scales, tuple(notes))


def _known(optional: Collection[str], config: PiShared, renamed: Mapping[str, str]) -> None:
    known = {*config.cameras, *renamed}
    for name in optional:
        if name not in known:
            raise ConfigError(f"optional: expected cameras of {sorted(config.cameras)}, found {name!r}")
