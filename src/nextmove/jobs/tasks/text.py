"""The training task of a language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nextmove import store
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.data import texts
from nextmove.jobs import provenance
from nextmove.jobs.fit import Task, held_batches
from nextmove.jobs.repeat import at_least
from nextmove.jobs.tasks.asked import Asked
from nextmove.models.text.assemble import fit_codec, spec_of


@dataclass(frozen=True)
class Options:
    """How a text becomes tokens and windows; the source is shakespeare, stdlib, a file or a folder of .txt files."""

    unit: Literal["bytes", "characters", "bpe"] = "characters"
    """What a token is."""
    vocabulary: int = 1024
    """Pieces of a BPE vocabulary."""
    length: int = 128
    """Tokens of a training window."""

    def __post_init__(self) -> None:
        at_least(4, length=self.length)


def task(asked: Asked, options: Options) -> Task:
    """A language model and the windows of a text; raises DataError for a source that is no text."""
    whole = texts.text(asked.source)
    train, test = texts.split_text(whole)
    # An alphabet is no statistic: it is the whole text's, or a character of the test part would have no id.
    codec = fit_codec(options.unit, whole if options.unit == "characters" else train, size=options.vocabulary)
    model = store.create(asked.system, spec_of(codec, options.length), asked.recipe)
    if isinstance(codec, Tokenizer):
        model.codec.adopt(codec)
    ids, length = codec.encode(train), options.length
    kept = len(ids) - int(len(ids) * asked.holdout)
    held = texts.windows(ids[kept:], length, training=False) if len(ids) - kept >= length else ()
    facts = {"data": asked.source, "tokens": kept, "unit": options.unit, "vocabulary": codec.classes}
    facts["content"] = provenance.text_content(train, test)
    return Task(
        model, texts.windows(ids[:kept], length, training=True), held_batches(held, 64, 512) if held else [], facts
    )
