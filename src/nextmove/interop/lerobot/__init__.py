"""Policies of LeRobot: ACT and Diffusion Policy checkpoints of every release."""

from nextmove.interop.lerobot.loading import load

__all__ = ["load"]
