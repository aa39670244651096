"""Images conditioned on the instruction: one vector a camera and step, or a few tokens.

Shapes: B batch, T observation steps, S tokens, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from torch import Tensor, nn

from nextmove.contracts import Feature, Numbers, Rng
from nextmove.encoders.camera import Camera, CameraEncoder
from nextmove.encoders.instruction import Instruction, InstructionEncoder
from nextmove.encoders.learned_tokens import LearnedTokenEncoder
from nextmove.encoders.sentence import Sentence, SentenceEncoder
from nextmove.encoders.state import State, StateEncoder
from nextmove.nn.film import Filmable, Filmed, FilmedTokens


@dataclass(frozen=True)
class FilmedCamera:
    """Which cameras are read, and what their networks are conditioned on."""

    camera: Camera = Camera(pool="average")
    instruction: Instruction | Sentence | State = Instruction()
    """What reads the instruction; or the state that holds its vector already, as RT-1's data do."""

    def build(self, inputs: Mapping[str, Feature]) -> FilmedCameraEncoder:
        """The part; raises ValueError naming a camera or instruction that is absent, and for another pool."""
        camera = self.camera
        if camera.pool not in ("average", "learned"):
            raise ValueError(f"camera.pool: expected 'average' or 'learned', of maps under FiLM, found {camera.pool!r}")
        if not isinstance(camera.backbone, Filmable):
            kinds = " or ".join(kind.__name__ for kind in get_args(Filmable))
            raise ValueError(f"camera.backbone: expected {kinds}, found {type(camera.backbone).__name__}")
        kind = FilmedTokenEncoder if camera.pool == "learned" else FilmedCameraEncoder
        return kind(camera, camera.build(inputs).cameras, self.instruction.build(inputs))


class FilmedCameraEncoder(CameraEncoder):
    """Images (B, T, height, width, 3) by name and instructions, a list of B strings -> (B, steps, W)."""

    def __init__(
        self,
        config: Camera,
        cameras: Mapping[str, Feature],
        instruction: InstructionEncoder | SentenceEncoder | StateEncoder,
    ) -> None:
        super().__init__(config, cameras, self._network(config, instruction.width))
        self.instruction = instruction
        self.inputs |= dict(instruction.inputs)

    @staticmethod
    def _network(config: Camera, condition: int) -> Callable[[], nn.Module]:
        backbone: Any = config.backbone
        return lambda: Filmed(backbone, condition)

    def fit(self, numbers: Numbers, steps: int) -> None:
        """Fits what conditions them, where that is a state."""
        self.instruction.fit(numbers, steps)

    def conditions(self, inputs: Mapping[str, Any], batch: int, steps: int, rng: Rng | None) -> tuple[Tensor]:
        """What the instruction says, (B steps, W)."""
        return (self.instruction(inputs, batch=batch, steps=steps, rng=rng).reshape(batch * steps, -1),)


class FilmedTokenEncoder(FilmedCameraEncoder, LearnedTokenEncoder):
    """The same -> tokens (B, S, W) with positions: RT-1's (Brohan et al. 2022, section 5.1)."""

    @staticmethod
    def _network(config: Camera, condition: int) -> Callable[[], nn.Module]:
        backbone: Any = config.backbone
        return lambda: FilmedTokens(backbone, condition, config.width, config.learned)
