"""pi0-FAST in LeRobot's layout: read strictly, and written back."""

from nextmove.interop.pi_fast.exporting import export
from nextmove.interop.pi_fast.loading import load

__all__ = ["export", "load"]
