"""pi0 and pi0.5 in LeRobot's layout and openpi's: read strictly, and written back."""

from nextmove.interop.pi.described import check_named
from nextmove.interop.pi.exporting import export, export_openpi
from nextmove.interop.pi.loading import load
from nextmove.interop.pi.openpi import load_openpi

__all__ = ["check_named", "export", "export_openpi", "load", "load_openpi"]
