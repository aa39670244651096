"""Models of several parts, each with a layout of its own: sight, a language model and what joins them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove.config import ConfigError, nearest, read_object
from nextmove.interop.hf.config import expect
from nextmove.interop.hf.family import Family
from nextmove.interop.hf.language import FAMILIES
from nextmove.interop.hf.reading import Read
from nextmove.interop.hf.tensors import Checkpoint, read_folder
from nextmove.interop.hf.words import read_tokenizer, stop_ids
from nextmove.interop.report import Report
from nextmove.interop.weights import building, fill, naming
from nextmove.weights import check_filled

TIED, HEAD, TABLE = "tie_word_embeddings", "lm_head.weight", "embed_tokens.weight"


@dataclass(frozen=True)
class Part:
    """Where the tensors of one part are, in the file and in our model."""

    name: str
    """Beginning of its canonical names in the file (`canonical`), without the dot."""
    ours: str
    """Path of our module."""
    foreign: Callable[[str], str | None]
    """The name within the part of one of our module's tensors."""
    pack: Callable[[Checkpoint], None] = lambda checkpoint: None
    """Brings the part's tensors into our shapes, under the names that `foreign` gives."""
    also: tuple[str, ...] = ()
    """Beginnings of further names that belong to it, kept as they are."""


@dataclass(frozen=True)
class Joined:
    """A model built from a config.json alone, and its parts."""

    name: str
    config: Any
    model: Any
    """A `Reader`, or a policy whose parts have these layouts."""
    parts: tuple[Part, ...]
    aside: tuple[str, ...] = ()
    """Keys of config.json that change no logits."""
    canonical: Callable[[str], str] | None = None
    """Names of the file -> names by parts; None: `canonical`."""


def family_of(
    whole: Mapping[str, Any], text: Mapping[str, Any], *, default: str, tied: bool = False, key: str = "text_config"
) -> Family:
    """The language model of a config.json's text_config, or of what stands at another `key`.

    Its head is the whole model's: tied where either of them says so, and without the cap of the language model's own,
    as in transformers. default: its model_type where it names none; tied: what the whole says.
    """
    kind = str(text.get("model_type", default))
    expect(f"{key}.model_type", kind, *FAMILIES)
    own = {"transformers_version": whole.get("transformers_version"), **text}
    family = FAMILIES[kind](own | {TIED: True} if tied else own)
    return replace(family, trunk=replace(family.trunk, logit_cap=0.0))


def _headed(data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Mapping[str, Any]:
    """A config.json without a tied head where one of its two parts says so and the file has a head of its own."""
    text = data.get("text_config")
    if not isinstance(text, Mapping) or False not in (data.get(TIED), text.get(TIED)):
        return data
    head, table = (next((x for n, x in tensors.items() if n.endswith(end)), None) for end in (HEAD, TABLE))
    if head is None or (table is not None and torch.equal(head, table)):
        return data
    return {**data, TIED: False, "text_config": {**text, TIED: False}}


def canonical(name: str) -> str:
    """One name for the three spellings of transformers: published, since 4.52, and as release 5 writes them."""
    name = name.removeprefix("model.")
    name = name.replace("language_model.model.", "language_model.", 1) if name.startswith("language_model.") else name
    return name.removeprefix("language_model.") if name.startswith("language_model.lm_head.") else name


def load(folder: Path | str, join: Callable[[Mapping[str, Any]], Joined], dtype: torch.dtype | None) -> Read:
    """The model of a folder; dtype: of the weights, None: as the file has them.

    Raises FileNotFoundError, or ConfigError (a ValueError) naming the key or tensor that is wrong.
    """
    folder = Path(folder)
    with naming(folder):
        data = read_object(folder / "config.json")
        whole = Checkpoint(read_folder(folder, dtype), str(folder))
        with building():
            joined = join(_headed(data, whole.tensors))
        names, ignored = filled(joined, whole, dtype)
        check_filled(joined.model, str(folder))
        return _read(folder, data, joined, names, ignored)


def filled(joined: Joined, whole: Checkpoint, dtype: torch.dtype | None) -> tuple[dict[str, str], dict[str, str]]:
    """Gives the model the file's tensors; tensor of the file -> ours, and those left aside with the reason."""
    spelled, where = whole.part(joined.canonical or canonical), whole.where
    tensors, names, ignored = dict[str, Tensor](), dict[str, str](), dict[str, str]()
    packed: list[tuple[Part, Checkpoint]] = []
    for part in joined.parts:
        own = spelled.part(lambda name, part=part: _within(part, name))  # type: ignore[misc]
        part.pack(own)
        tensors |= {f"{part.name}.{name}": value for name, value in own.tensors.items()}
        ignored |= own.ignored
        packed.append((part, own))
    if spelled.tensors:
        name = next(iter(spelled.tensors))
        known = [spelled.names.get(name, name), *tensors]
        raise ConfigError(f"{where}: tensor {known[0]!r} belongs to no part of the model{nearest(name, known[1:])}")

    def foreign(ours: str) -> str | None:
        for part in joined.parts:
            if ours.startswith(part.ours + "."):
                inside = part.foreign(ours[len(part.ours) + 1 :])
                return None if inside is None else f"{part.name}.{inside}"
        return None

    used = fill(joined.model, tensors, foreign, where=where, dtype=dtype)
    for part, own in packed:
        inside = {name.removeprefix(f"{part.name}."): ours for name, ours in used.items() if _of(part, name)}
        names |= own.used(inside)
    return names, ignored


def _of(part: Part, name: str) -> bool:
    return name.startswith(f"{part.name}.")


def _within(part: Part, name: str) -> str | None:
    if name.startswith(f"{part.name}."):
        return name[len(part.name) + 1 :]
    return name if name.startswith(part.also) and part.also else None


def _read(
    folder: Path, data: Mapping[str, Any], joined: Joined, names: Mapping[str, str], ignored: Mapping[str, str]
) -> Read:
    model = joined.model
    codec = read_tokenizer(folder, model.spec.classes)
    notes: Sequence[str] = [f"config.json: no effect: {', '.join(joined.aside)}"] if joined.aside else []
    if codec.files():
        model.codec = codec
    else:
        notes = [*notes, "no tokenizer.json: it reads and writes ids, no text"]
    model.stop = stop_ids(folder, data)
    version = f"transformers {data.get('transformers_version', 'no version')}"
    report = Report(joined.name, version, tuple(names), ignored, (), tuple(notes))
    return Read(model.eval(), report, joined.config, names)
