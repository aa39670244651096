"""Other projects: their files read strictly and run with our own parts."""

from __future__ import annotations

from nextmove.interop import flowpolicy, gguf, hf, lerobot, openvla, pi, smolvla
from nextmove.interop.report import Loaded, Report

__all__ = ["Loaded", "Report", "flowpolicy", "gguf", "hf", "lerobot", "openvla", "pi", "smolvla"]
