"""Images conditioned on the instruction: one vector a camera and step.

Shapes: B batch, T observation steps, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from nextmove.contracts import Feature
from nextmove.encoders.camera import Camera, CameraEncoder
from nextmove.encoders.instruction import Instruction, InstructionEncoder
from nextmove.nn.film import FilmedResNet
from nextmove.nn.resnet import ResNet


@dataclass(frozen=True)
class FilmedCamera:
    """Which cameras are read, and what of the instruction their networks are conditioned on."""

    camera: Camera = Camera(pool="average")
    instruction: Instruction = Instruction()

    def build(self, inputs: Mapping[str, Feature]) -> FilmedCameraEncoder:
        """The part; raises ValueError naming a camera or instruction that is absent, and for another pool."""
        if self.camera.pool != "average":
            raise ValueError(f"camera.pool: expected 'average', of maps under FiLM, found {self.camera.pool!r}")
        if not isinstance(self.camera.backbone, ResNet):
            raise ValueError(f"camera.backbone: expected ResNet, found {type(self.camera.backbone).__name__}")
        instruction = self.instruction.build(inputs)
        return FilmedCameraEncoder(self.camera, self.camera.build(inputs).cameras, instruction)


class FilmedCameraEncoder(CameraEncoder):
    """Images (B, T, height, width, 3) by name and instructions, a list of B strings -> (B, steps, W)."""

    def __init__(self, config: Camera, cameras: Mapping[str, Feature], instruction: InstructionEncoder) -> None:
        backbone = config.backbone
        assert isinstance(backbone, ResNet)
        super().__init__(config, cameras, partial(FilmedResNet, backbone, instruction.width))
        self.instruction = instruction
        self.inputs |= instruction.inputs

    def conditions(self, inputs: Mapping[str, Any], batch: int, steps: int) -> tuple[Tensor]:
        """What the instruction says, (B steps, W)."""
        return (self.instruction.vector(inputs, batch).repeat_interleave(steps, 0),)
