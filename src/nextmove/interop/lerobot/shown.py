"""What a policy of ours looks at, in LeRobot's terms: the way back of `seen`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from nextmove.encoders import Camera, ObservationEncoder, Plain, StateEncoder
from nextmove.encoders.camera import CameraEncoder, TokenCameraEncoder
from nextmove.interop.lerobot.config import ENV, STATE
from nextmove.interop.lerobot.refused import Refused
from nextmove.interop.lerobot.statistics import EPS, Columns, columns
from nextmove.interop.renamed import Renamed
from nextmove.nn.resnet import ResNet

CAMERA = "observation.image"
"""The name of a lone camera, and the beginning of all names under which LeRobot takes images."""


@dataclass
class Shown:
    """The parts of an encoder that LeRobot has too."""

    states: dict[str, Columns] = field(default_factory=dict)
    cameras: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Height and width."""
    colours: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Mean and deviation of each camera's channels, values in [0, 1]."""
    looking: Camera | None = None
    backbone: ResNet = ResNet()
    place: int = 0
    """Number of the part with the cameras."""
    vector: list[tuple[str, int]] = field(default_factory=list)
    """Features in the order in which a step shows them, with their widths."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Raw name -> name the policy knows."""

    def width(self, name: str) -> int:
        """Of a state, 0 where it is not shown."""
        return dict(self.vector).get(name, 0)

    @property
    def order(self) -> list[int]:
        """Which of our columns LeRobot's vector of one step has at each place: state, cameras, environment."""
        starts, at = {}, 0
        for name, width in self.vector:
            starts[name] = range(at, at + width)
            at += width
        names = [n for n in (STATE, *self.cameras, ENV) if n in starts]
        return [column for name in names for column in starts[name]]


def shown(encoder: Any, refused: Refused) -> Shown:
    """The encoder's parts; what does not fit is added to `refused`."""
    found = Shown()
    if isinstance(encoder, Renamed):
        found.renamed, encoder = encoder.names, encoder.encoder
    if not isinstance(encoder, ObservationEncoder):
        refused.unless(False, f"encoder {type(encoder).__name__}; train with --parts state or state,camera")
        return found
    refused.unless(not encoder.tokens, "observed steps as tokens; train with --recipe.encoder.no-tokens")
    for i, part in enumerate(encoder.parts):
        option = f"--recipe.encoder.parts.{i}"
        if isinstance(part, StateEncoder):
            _state(part, option, found, refused)
        elif isinstance(part, CameraEncoder) and type(part) in (CameraEncoder, TokenCameraEncoder):
            refused.unless(found.looking is None, f"a second part with cameras ({option}); one part reads them all")
            found.looking, found.place = part.config, i
            _cameras(part, option, found, refused)
        else:
            name = type(part).__name__.removesuffix("Encoder")
            refused.unless(False, f"a part {name} ({option}); train with --parts state or state,camera")
    refused.unless(STATE in found.states, f"an observation without {STATE!r}, which its policies need")
    sees = bool(found.cameras) or ENV in found.states
    refused.unless(sees, f"an observation without a camera or {ENV!r}: its policies need one of them")
    return found


def _state(part: StateEncoder, option: str, found: Shown, refused: Refused) -> None:
    names = list(part.inputs)
    refused.unless(
        isinstance(part.view, Plain), f"points seen from the robot; train with {option}.view plain, and "
        f"{option}.features {STATE} {ENV}"
    )  # fmt: skip
    refused.unless(not len(part.mlp), f"an MLP over the states; train without {option}.hidden")
    others = [name for name in names if name not in (STATE, ENV)]
    refused.unless(not others, f"states {', '.join(others)}; train with {option}.features {STATE} {ENV}")
    absent = [name for name, feature in part.inputs.items() if feature.optional]
    refused.unless(not absent, f"observations that may be absent ({', '.join(absent)})")
    if isinstance(part.view, Plain):
        found.states |= columns(part.scale, part.widths)
        found.vector += list(part.widths.items())


def _cameras(part: CameraEncoder, option: str, found: Shown, refused: Refused) -> None:
    backbone = part.config.backbone
    if isinstance(backbone, ResNet):
        found.backbone = backbone
    else:
        refused.unless(False, f"a network {type(backbone).__name__}; train with {option}.backbone ResNet")
    for i, (name, feature) in enumerate(part.cameras.items()):
        fits = name == CAMERA or name.startswith(f"{CAMERA}s.")
        refused.unless(fits, f"a camera called {name!r}; it takes {CAMERA!r} and names like '{CAMERA}s.top'")
        refused.unless(not feature.optional, f"observations that may be absent ({name})")
        found.cameras[name] = (feature.shape[0], feature.shape[1])
        pictures: Any = part.pictures[i]
        found.colours[name] = (pictures.mean, pictures.std - EPS)
        if not isinstance(part, TokenCameraEncoder):
            found.vector.append((name, part.out))
