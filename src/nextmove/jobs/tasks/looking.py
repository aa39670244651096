"""Which recipe a system has for a robot: that of its cameras where it has any, and what was asked for instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nextmove.config import ConfigError, nearest
from nextmove.contracts import Feature
from nextmove.contracts.features import listed
from nextmove.data.layout import read_info
from nextmove.encoders import Camera, Instruction, State, StateEstimator
from nextmove.encoders.camera import CameraEncoder
from nextmove.encoders.pictures import Values
from nextmove.encoders.planner import Planner
from nextmove.encoders.reading import ReadingEncoder
from nextmove.encoders.sentence import Sentence
from nextmove.jobs.robot import inputs_of
from nextmove.models.policy import sight
from nextmove.models.policy.policy import Policy
from nextmove.nn.efficientnet import EfficientNetLite
from nextmove.parts import BACKBONES, INSTRUCTIONS, VIEWS
from nextmove.systems import find

SEES = ("camera", "filmed-camera")
"""Parts that read images."""
PLANNER = "planner"
"""The part that writes sub-tasks, which may be named alone where a language model reads all else."""
SIZES = {
    "published": "the sizes of the paper",
    "insulated": "with a language model that learns to write the same actions and is not changed by the expert",
    "lerobot": "in the form that LeRobot has too (`nextmove export-lerobot`)",
}
"""What `--size` takes, by the constructor of a recipe that gives it."""


def recipe_for(
    system: str,
    inputs: Mapping[str, Feature] | None = None,
    *,
    size: str | None = None,
    parts: str | None = None,
    backbone: str | None = None,
    instruction: str | None = None,
) -> Any:
    """The recipe of a system for what a robot shows.

    Args:
        system: Name of a built system.
        inputs: The robot's, as far as they are known.
        size: One of `SIZES`.
        parts: Names of parts with commas between. None: cameras and the robot's own state where there are cameras, else
            states.
        backbone: Name of the cameras' network. None: the recipe's own.
        instruction: Name of what reads the instruction. None: the recipe's own.

    Raises:
        ConfigError: for a size, part, network or reader that there is not.
    """
    kind, known = find(system).load(), inputs or {}
    names = None if parts is None else _names(kind(), parts)
    # A language model reads all there is, and plans beside that.
    reads = hasattr(kind(), "encoder") and not hasattr(kind().encoder, "parts")
    sees = bool(sight.cameras(known)) and (names is None or reads or any(name in SEES for name in names))
    shown = {name: feature for name, feature in known.items() if sees or feature.type != "image"}
    recipe = _sized(system, kind, size, shown)
    if sees and size is None and hasattr(recipe, "seeing"):
        recipe = recipe.seeing(known)
    recipe = recipe if names is None else _looking(recipe, names, known)
    recipe = recipe if backbone is None else _through(recipe, backbone)
    return recipe if instruction is None else _told(recipe, instruction)


def inputs_in(source: Path) -> dict[str, Feature] | None:
    """What the robot of a data set shows; None where it cannot be read: training will say what is wrong."""
    try:
        features = read_info(source).features
    except (OSError, ValueError):
        return None
    observed = {name: column for name, column in features.items() if name.startswith("observation.")}
    return inputs_of(observed)


def described(policy: Policy) -> str:
    """A sentence on what a policy that sees looks at; nothing of one that does not."""
    seen = {name: feature for name, feature in policy.inputs.items() if feature.type == "image"}
    if not seen:
        return ""
    parts = [part.sizes for part in policy.modules() if isinstance(part, CameraEncoder)]
    read = {name: {part[name] for part in parts if name in part} - {seen[name].shape[:2]} for name in seen}
    shown = [f"{name} ({_px(f.shape)} px{''.join(f', read at {_px(own)}' for own in sorted(read[name]))})"
             if name in seen else name for name, f in policy.inputs.items()]  # fmt: skip
    choice = chosen_by(policy) if isinstance(policy.encoder, ReadingEncoder) else "--parts state: at states alone"
    return f"looks at {', '.join(shown)} ({choice})"


def _px(size: Sequence[int]) -> str:
    return f"{size[0]} x {size[1]}"


def chosen_by(policy: Policy) -> str:
    """Which options say what a policy looks at."""
    if isinstance(policy.encoder, ReadingEncoder):
        return "--recipe.encoder.cameras and .states say at what"
    return "recipe.encoder.parts says what the policy looks at"


def _sized(system: str, kind: Any, size: str | None, inputs: Mapping[str, Feature]) -> Any:
    if size is None:
        return kind()
    if size not in SIZES:
        expected = " or ".join(map(repr, SIZES))
        raise ConfigError(f"--size: expected {expected}, found {size!r}; the size of images is --side")
    if not hasattr(kind, size):
        raise ConfigError(f"{system}: there is no {size} size; leave out --size")
    make = getattr(kind, size)
    return make(inputs) if inputs else make()


def _names(recipe: Any, parts: str) -> list[str]:
    if not hasattr(recipe, "encoder"):
        raise ConfigError(f"--parts: {type(recipe).__name__} looks at nothing; leave it out")
    if not hasattr(recipe.encoder, "parts"):
        if parts.strip() == PLANNER and hasattr(recipe, "planning"):
            return [PLANNER]
        alone = f", or name {PLANNER} alone, which says its next sub-task" if hasattr(recipe, "planning") else ""
        raise ConfigError(
            f"--parts: {type(recipe).__name__} reads cameras, instruction and state by a language model; leave it out "
            f"(--recipe.encoder.cameras names the cameras){alone}"
        )
    names = [name.strip() for name in parts.split(",")]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"--parts: expected each part once, found {twice} twice in {parts!r}")
    for name in names:
        if name not in VIEWS:
            raise ConfigError(f"--parts: expected one of {', '.join(VIEWS)}; found {name!r}{nearest(name, VIEWS)}")
    return names


def _looking(recipe: Any, names: list[str], inputs: Mapping[str, Feature]) -> Any:
    """The recipe with these parts: its own where it has one of the kind, and beside a camera the robot's own state."""
    if not hasattr(recipe.encoder, "parts"):
        return recipe.planning()
    sees = any(name in SEES for name in names)
    chosen: list[Any] = []
    estimator, planner = None, None
    for name in names:
        if VIEWS[name] is StateEstimator:
            estimator = StateEstimator(words=Instruction() if name == "named-state" else None)
            continue
        if VIEWS[name] is Planner:
            planner = Planner()
            continue
        own = next((part for part in recipe.encoder.parts if type(part) is VIEWS[name]), None)
        if name == "state":
            own = sight.own_state(inputs or _STATE) if sees else State()
            if own is None:
                raise ConfigError(f"--parts: state: expected one of the robot itself, found {listed(inputs)}")
        chosen.append(own or VIEWS[name]())
    if planner:  # sub-tasks are read behind the instruction
        length = Instruction().length + planner.length
        chosen = [replace(part, length=length) if isinstance(part, Instruction) else part for part in chosen]
    parts = tuple(chosen) or (State(),)
    return replace(recipe, encoder=replace(recipe.encoder, parts=parts, estimator=estimator, planner=planner))


def _through(recipe: Any, name: str) -> Any:
    """The recipe with another network in its cameras, and values scaled as its weights want them."""
    if name not in BACKBONES:
        known = ", ".join(BACKBONES)
        raise ConfigError(f"--backbone: expected one of {known}; found {name!r}{nearest(name, BACKBONES)}")
    backbone = BACKBONES[name]
    values: Values = "efficientnet-lite" if isinstance(backbone, EfficientNetLite) else "imagenet"

    def exchanged(part: Any) -> Any:
        if isinstance(part, Camera):
            return replace(part, backbone=backbone, values=values)
        return replace(part, camera=exchanged(part.camera)) if hasattr(part, "camera") else part

    encoder: Any = getattr(recipe, "encoder", None)
    looked = (*encoder.parts, encoder.estimator) if hasattr(encoder, "parts") else ()
    if not any(isinstance(part, Camera) or hasattr(part, "camera") for part in looked):
        raise ConfigError(f"--backbone: {type(recipe).__name__} looks at no camera here; leave it out, or add --parts")
    parts, estimator = tuple(map(exchanged, encoder.parts)), exchanged(encoder.estimator)
    return replace(recipe, encoder=replace(encoder, parts=parts, estimator=estimator))


def _told(recipe: Any, name: str) -> Any:
    """The recipe with another network that reads its instruction."""
    if name not in INSTRUCTIONS:
        known = ", ".join(INSTRUCTIONS)
        raise ConfigError(f"--instruction: expected one of {known}; found {name!r}{nearest(name, INSTRUCTIONS)}")
    reader, encoder, readers = INSTRUCTIONS[name], getattr(recipe, "encoder", None), (Instruction, Sentence)

    def exchanged(part: Any) -> Any:
        if isinstance(part, readers):
            return reader
        return replace(part, instruction=reader) if hasattr(part, "instruction") else part

    parts = tuple(map(exchanged, getattr(encoder, "parts", ())))
    if not any(isinstance(part, readers) or hasattr(part, "instruction") for part in parts):
        raise ConfigError(f"--instruction: {type(recipe).__name__} reads none here; leave it out, or add --parts")
    return replace(recipe, encoder=replace(encoder, parts=parts))  # type: ignore[type-var]


_STATE = {sight.OWN: Feature("state", (1,))}
"""What a robot shows of itself, where its data are not there to tell."""
