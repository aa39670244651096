"""pi0-FAST in LeRobot's layout, read strictly and written back, and in openpi's, read."""

from nextmove.interop.pi_fast.exporting import export
from nextmove.interop.pi_fast.loading import load
from nextmove.interop.pi_fast.openpi import load_openpi

__all__ = ["export", "load", "load_openpi"]
