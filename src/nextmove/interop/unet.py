"""The names that the code of Diffusion Policy, and all that descends from it, gives to the tensors of the 1-D U-Net."""

from __future__ import annotations

from collections.abc import Mapping

from nextmove.interop.weights import renamed

UNET = {
    "times.nets.0.0": "diffusion_step_encoder.1",
    "times.nets.0.2": "diffusion_step_encoder.3",
    "down": "down_modules",
    "middle": "mid_modules",
    "up": "up_modules",
    "final": "final_conv.0.block",
    "head": "final_conv.1",
}
LEVEL = {"first": "0", "second": "1", "resample": "2"}


def unet_name(name: str, block: Mapping[str, str], resample: str = "2") -> str | None:
    """A tensor of `nn.UNet1d` under Diffusion Policy's names; `block` names the parts of a FiLM block."""
    found = renamed(name, UNET)
    if found is None:
        return None
    place, *path = found.split(".")
    if place not in ("down_modules", "mid_modules", "up_modules"):
        return found
    head = [path.pop(0)]
    if place != "mid_modules":
        level = path.pop(0)
        if level == "resample":
            return ".".join([place, *head, resample, *path])
        head.append(LEVEL[level])
    return ".".join([place, *head, block[path[0]], *path[1:]])
