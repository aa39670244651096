"""Which of openpi's policies a folder holds, and its loader."""

from __future__ import annotations

from pathlib import Path

from nextmove.interop import pi, pi_fast
from nextmove.interop.hf.tensors import WEIGHTS
from nextmove.interop.pi import tree
from nextmove.interop.report import Loaded
from nextmove.weights import read


def load(folder: Path | str, *, fps: float | None = None) -> Loaded:
    """The policy of a folder of openpi's; fps and errors as of `pi.load_openpi`."""
    return (pi if acts(Path(folder)) else pi_fast).load_openpi(folder, fps=fps)


def acts(folder: Path) -> bool:
    """Whether an expert acts (pi0, pi0.5), in place of the language model (pi0-FAST)."""
    found = tree.place(folder)
    if found is not None:
        return tree.acts(found)
    file = folder / WEIGHTS
    return not file.is_file() or any("action_in_proj" in name for name in read(file, mapped=True))
