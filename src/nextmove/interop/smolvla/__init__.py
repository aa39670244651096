"""SmolVLA in LeRobot's layout: read strictly, and written back."""

from nextmove.interop.smolvla.exporting import export
from nextmove.interop.smolvla.loading import load

__all__ = ["export", "load"]
