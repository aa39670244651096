"""Other projects: their files read strictly and run with our own parts.

Each project's rooms are imported when they are asked for, since who trains or loads a policy of this house needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nextmove.host.lazy import lazy

if TYPE_CHECKING:
    from nextmove.interop import flowpolicy, gguf, hf, lerobot, openvla, pi, smolvla
    from nextmove.interop.report import Loaded, Report

__all__ = ["Loaded", "Report", "flowpolicy", "gguf", "hf", "lerobot", "openvla", "pi", "smolvla"]

_names = lazy(__name__, dict.fromkeys(__all__) | dict.fromkeys(("Loaded", "Report"), "report"))


def __getattr__(name: str) -> Any:
    return _names(name)
