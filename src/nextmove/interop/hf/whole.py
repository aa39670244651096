"""Reads a folder whose model is made of towers, and of a few tensors beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nextmove.config import read_object
from nextmove.interop.hf.reading import Read
from nextmove.interop.hf.tensors import Checkpoint, read_folder
from nextmove.interop.hf.tower import Tower
from nextmove.interop.report import Report
from nextmove.interop.weights import building, fill, naming, renamed
from nextmove.weights import check_filled


@dataclass(frozen=True)
class Whole:
    """A model and where its tensors are in a file."""

    name: str
    config: Any
    build: Callable[[], nn.Module]
    towers: tuple[tuple[str, str, Tower], ...]
    """Path of our module and beginning of the names in the file, each with its dot, and the tower."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Ours -> theirs, beside the towers."""
    prefix: str = ""
    """What names in the file may begin with or not."""
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Endings of names that are left aside -> why."""
    tied: tuple[tuple[str, str], ...] = ()
    """Copies and what they are copies of."""
    spelled: Callable[[str], str] | None = None
    """Today's spelling of a name of older files."""
    aside: tuple[str, ...] = ()
    """Keys of config.json that change no numbers."""
    absent: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Tensors that the file may lack, and their values then."""

    def foreign(self, name: str) -> str | None:
        """The name in the file of one of our tensors."""
        for ours, theirs, tower in self.towers:
            if name.startswith(ours) and (found := tower.foreign(name[len(ours) :])) is not None:
                return theirs + found
        return renamed(name, self.names)

    def pack(self, checkpoint: Checkpoint) -> None:
        """Brings the file's tensors into our shapes."""
        if self.spelled is not None:
            checkpoint.respell(self.spelled)
        checkpoint.shorten(self.prefix)
        for ending, why in self.ignored.items():
            checkpoint.ignore(ending, why)
        for copy, original in self.tied:
            checkpoint.tie(copy, original)
        for name, value in self.absent.items():
            checkpoint.tensors.setdefault(name, value)
        for _, theirs, tower in self.towers:
            tower.pack(checkpoint, theirs)


def load(
    folder: Path | str,
    describe: Callable[[Mapping[str, Any], frozenset[str]], Whole],
    dtype: torch.dtype | None = torch.float32,
) -> Read:
    """The model of a folder, in evaluation mode.

    describe: what a config.json and the names in the file make; dtype: of the weights, None: as the file has them.
    Raises FileNotFoundError, or ConfigError (a ValueError) naming the key or tensor that is wrong.
    """
    folder = Path(folder)
    with naming(folder):
        data = read_object(folder / "config.json")
        checkpoint = Checkpoint(read_folder(folder, dtype), str(folder))
        with building():
            whole = describe(data, frozenset(checkpoint.tensors))
            model = whole.build()
        whole.pack(checkpoint)
        used = fill(model, checkpoint.tensors, whole.foreign, where=str(folder), dtype=dtype, whole="model")
        check_filled(model, str(folder))
        lacking = tuple(name for name in whole.absent if name not in checkpoint.names)
        names = {name: ours for name, ours in checkpoint.used(used).items() if name not in lacking}
        aside = (*whole.aside, *(key for _, _, tower in whole.towers for key in tower.aside))
        notes = (f"config.json: no effect on the numbers: {', '.join(dict.fromkeys(aside))}",) if aside else ()
        version = f"transformers {data.get('transformers_version', 'no version')}"
        report = Report(whole.name, version, tuple(names), checkpoint.ignored, lacking, notes)
        return Read(model.eval(), report, whole.config, names)
