"""Other projects: their files read strictly and run with our own parts, and OpenVINO to compute our networks."""

from __future__ import annotations

from pathlib import Path

from nextmove.interop import flowpolicy, hf, lerobot
from nextmove.interop.report import Loaded, Report
from nextmove.interop.weights import read_json

__all__ = ["Loaded", "Report", "flowpolicy", "hf", "lerobot", "load"]


def load(folder: Path | str, *, fps: float | None = None) -> Loaded:
    """The policy of a foreign folder, LeRobot's or FlowPolicy's, told apart by config.json."""
    path = Path(folder) / "config.json"
    foreign = flowpolicy.load if path.is_file() and "type" not in read_json(path) else lerobot.load
    return foreign(folder, fps=fps)
