"""Who reads and writes which of LeRobot's policies, by the `type` of their config.json."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nextmove.config import ConfigError, read_object
from nextmove.encoders.reading import ReadingEncoder
from nextmove.interop import lerobot, pi, pi_fast, smolvla
from nextmove.interop.report import Loaded
from nextmove.models.policy import Policy

LOADS: dict[str, Callable[..., Loaded]] = {
    "pi0": pi.load,
    "pi05": pi.load,
    "smolvla": smolvla.load,
    "pi0_fast": pi_fast.load,
}
"""Vision-language-action models; all others are `lerobot`'s."""


def load(folder: Path | str, *, fps: float | None = None) -> Loaded:
    """The policy of a folder whose config.json is LeRobot's; fps and errors as of `lerobot.load`."""
    kind = str(read_object(Path(folder) / "config.json").get("type"))
    return LOADS.get(kind, lerobot.load)(folder, fps=fps)


def export(policy: Policy, folder: Path | str) -> Any:
    """Writes a policy as a new folder of LeRobot's and returns its config; raises ConfigError for one it has not."""
    if not isinstance(policy.encoder, ReadingEncoder):
        return lerobot.export(policy, folder)
    trunk: Any = getattr(getattr(policy.decoder, "config", None), "trunk", None)
    fast = getattr(policy.codec, "fast", None) is not None
    # Of policies that read words, SmolVLA's alone writes moves in order.
    if not fast and getattr(trunk, "causal", True):
        system = policy.card.system if policy.card is not None else ""
        if system.startswith("openvla"):
            raise ConfigError(
                f"export: LeRobot has no {system}; nextmove.interop.openvla.export(policy, OUT) writes the layout of "
                "its own project"
            )
        return smolvla.export(policy, folder)
    pi.check_named(policy)
    return (pi_fast if fast else pi).export(policy, folder)
