"""The way back: tensors under our packed names as a file has them, by the tables that read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from nextmove.config import ConfigError
from nextmove.interop.hf.tensors import Checkpoint


class Unpacked(Checkpoint):
    """A checkpoint whose steps undo themselves: what a layout's `pack` would join it cuts, where it reshapes, back.

    Give it the tensors under the names that the layout's `foreign` makes, and pass it to the layout's `pack`. Prefixes
    that published files may have or leave out are the caller's.
    """

    def shorten(self, prefix: str) -> None:
        """Nothing: names are short already."""

    def ignore(self, ending: str, why: str, prefix: str = "") -> None:
        """Nothing: what a reader leaves aside is not written."""

    def tie(self, name: str, to: str) -> None:
        """Nothing: a copy is not written."""

    def reshape(self, name: str, found: tuple[int, ...], own: tuple[int, ...]) -> None:
        """Gives a tensor the file's axes."""
        super().reshape(name, own, found)

    def pack(self, name: str, parts: Mapping[str, tuple[int, ...]]) -> None:
        """Cuts a tensor into the parts that it was joined of; raises ConfigError for another number of rows."""
        if name not in self.tensors:
            raise ConfigError(f"{self.where}: missing tensor {name!r}")
        self.split(name, {part: shape[0] for part, shape in parts.items()})


def unpacked(
    tensors: Mapping[str, Tensor],
    foreign: Callable[[str], str | None],
    pack: Callable[[Checkpoint], None],
    where: str,
) -> dict[str, Tensor]:
    """A part's tensors, under our names, under the file's; those without a name there are left out."""
    named = {name: value for ours, value in tensors.items() if (name := foreign(ours)) is not None}
    checkpoint = Unpacked(named, where)
    pack(checkpoint)
    return checkpoint.tensors
