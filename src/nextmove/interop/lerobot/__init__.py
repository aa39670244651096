"""Policies of LeRobot: ACT and Diffusion Policy checkpoints of every release, read and written."""

from nextmove.interop.lerobot.exporting import export
from nextmove.interop.lerobot.loading import load

__all__ = ["export", "load"]
