"""The training task of a model of images and texts: captions, or questions and answers, of a folder of images."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nextmove import store
from nextmove.codecs.byte_level import byte_tokenizer, train_captions
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError
from nextmove.data import DataError, identity
from nextmove.data.image_fit import Fit
from nextmove.data.pairs import Pairs
from nextmove.data.together import Together
from nextmove.evaluation.progress import counted_bar
from nextmove.jobs.fit import Task, held_batches
from nextmove.jobs.languages import LANGUAGE, begin_language, read_language, speaking
from nextmove.jobs.repeat import at_least
from nextmove.jobs.tasks.asked import Asked
from nextmove.jobs.tasks.pair_checks import check_lengths, check_rows, check_side, check_vocabulary, side_of
from nextmove.jobs.towers import TOWER, begin_tower, read_tower, seeing
from nextmove.models.generator import Generator
from nextmove.models.vision_language.dual import Dual
from nextmove.models.vision_language.spec import PairSpec
from nextmove.systems import find

VALIDATED = 512
"""Rows of the validation loss at most."""


@dataclass(frozen=True)
class Options:
    """How images and texts are read; the source is a folder of images with captions.jsonl or captions.csv."""

    side: int = 0
    """Height and width at which images are kept and seen, pixels; 0: those that the image tower is for."""
    fit: Fit = "stretch"
    """How an image comes to that size: stretched (SigLIP, BLIP), its middle square (CLIP), or padded (LLaVA)."""
    tokenizer: str = "captions"
    """captions: fitted on the texts that are trained on; bytes; or a file or folder: tokenizer.json, vocab.txt, .model
    of SentencePiece, CLIP's .txt.gz, .gguf."""
    vocabulary: int = 1024
    """Ids of a tokenizer fitted on the texts, at most."""
    length: int = 64
    """Most ids of a text, special ones counted."""
    together: int = 1
    """Rows of one image that come together in a batch: models that read images as a prefix read it once for all."""
    kinds: tuple[str, ...] = ()
    """Kinds of rows that are learned and judged, as `kind` of the captions file says; none: all."""
    leave_out_broken: bool = False
    """Leave out rows whose images are absent or cannot be read, which are counted and named."""

    def __post_init__(self) -> None:
        at_least(0, side=self.side)
        at_least(4, length=self.length)
        at_least(1, together=self.together)


def task(asked: Asked, options: Options) -> Task:
    """A model of images and texts and the rows of a folder's captions file.

    What the file keeps for tests is never trained on; the validation loss is of whole images out of the rest. Raises
    DataError for a folder without captions, for images that cannot be read, and for texts that are too long.
    """
    own = find(asked.system).load()
    language, tower, begun = None, None, dict[str, Any]()
    recipe = own() if asked.recipe is None else asked.recipe
    if source := asked.start.get(LANGUAGE):
        language = read_language(source)
        recipe = speaking(recipe, language, source)
    if source := asked.start.get(TOWER):
        tower = read_tower(source)
        recipe = seeing(recipe, tower, source)
    options = replace(options, side=options.side or side_of(recipe))
    check_side(options.side, recipe, tower, asked.start.get(TOWER, ""))
    train, test = _rows(asked, options, alone=getattr(recipe, "CAPTIONS", False))
    codec = tokenizer(options, train) if language is None else tokenizer_of(language, options)
    check_lengths(train, codec, options.length, asked.source)
    spec = PairSpec(options.side, options.side, codec.classes, options.length, codec.hash, train.index.shape[1])
    model = store.create(asked.system, spec, recipe)
    model.codec.adopt(codec)
    if language is not None:
        begun = {LANGUAGE: begin_language(model, language, asked.start[LANGUAGE])}
    if tower is not None:
        begun[TOWER] = begin_tower(model, tower, asked.start[TOWER])
    seen, kept = _parted(train, asked, isinstance(model, Dual))
    facts = {
        "data": asked.source,
        "rows_trained": len(seen),
        "kinds": dict(sorted(Counter(row.kind for row in seen.rows).items())),
        "tokenizer": options.tokenizer,
        "fit": options.fit,
        **({"only": list(options.kinds)} if options.kinds else {}),
        **({"together": options.together} if options.together > 1 else {}),
        "content": content(seen, test),
        **({"start": begun} if begun else {}),
    }
    rows = seen if options.together == 1 else Together(seen, options.together, model.card.recipe.optim.batch)
    return Task(model, rows, held_batches(kept, 64, VALIDATED), facts)


def _parted(train: Pairs, asked: Asked, compares: bool) -> tuple[Pairs, Pairs]:
    """Rows to train on and rows of the validation loss; of the latter none where texts are compared and all alike."""
    seen, kept = train.parted(asked.holdout, asked.seed)
    if compares and len(kept) and len({row.text for row in kept.rows}) == 1:
        print(
            f"{asked.source}: no validation loss: what is held out for it says one thing alone, {kept.rows[0].text!r}, "
            f"and texts are compared (--holdout, {asked.holdout:g} of {len(train)} rows)"
        )
        kept = kept.take(np.zeros(len(kept), bool))
    return seen, kept


def _rows(asked: Asked, options: Options, *, alone: bool) -> tuple[Pairs, Pairs]:
    """The rows to train on and those for tests; alone: captions, whose one image is compared with them."""
    train, test = read(asked.source, options).of_kinds(options.kinds, asked.source).split()
    for note in train.notes:
        print(f"{asked.source}: {note}")
    if alone:
        train, test = captions(train, asked.source), captions(test)
    for part in (train, test):
        check_rows(part, asked.system, asked.source, alone=alone)
    return train, test


def captions(pairs: Pairs, source: str = "") -> Pairs:
    """The rows that are captions; raises DataError naming the source, where one is given, if there are none."""
    kept = pairs.take(np.array([not row.prompt for row in pairs.rows], bool))
    if source and not len(kept):
        raise DataError(f"{source}: expected captions to learn from, found {len(pairs)} questions and no caption")
    if source and len(kept) < len(pairs):
        print(f"{source}: {len(kept)} captions of {len(pairs)} rows are learned from, questions are left out")
    return kept


def read(source: str | Path, options: Options) -> Pairs:
    """The rows of a folder as these options say."""
    size = (options.side, options.side)
    return Pairs.read(
        source, size=size, fit=options.fit, leave_out_broken=options.leave_out_broken, bar=counted_bar("images decoded")
    )


def tokenizer_of(language: Generator, options: Options) -> Tokenizer:
    """The tokenizer of a language model to begin with; raises ConfigError where another is asked for."""
    if options.tokenizer != "captions":
        raise ConfigError(f"tokenizer: the language model brings its own, found {options.tokenizer!r}; leave it out")
    codec = language.text
    if not isinstance(codec, Tokenizer):
        raise ConfigError(f"--from language: expected a model with a tokenizer, found one of {language.spec}")
    return codec


def tokenizer(options: Options, train: Pairs) -> Tokenizer:
    """The tokenizer that is asked for; raises FileNotFoundError or ConfigError for a file without one, or too small."""
    if options.tokenizer == "captions":
        check_vocabulary(options.vocabulary)
        return train_captions(train.texts, options.vocabulary)
    if options.tokenizer == "bytes":
        return byte_tokenizer()
    from nextmove.interop.hf.words import open_tokenizer

    return open_tokenizer(options.tokenizer)


def content(trained: Pairs, held: Pairs) -> dict[str, Any]:
    """What a saved model keeps of its data: hashes of images, and one of all that is said."""
    said = "\n".join(f"{row.prompt}\t{row.text}" for row in trained.rows)
    whole = {"image": f"{identity.hashed(trained.ids):016x}", "text": f"{identity.hashed(said):016x}"}
    parts = {"trained": trained.ids, "held": held.ids}
    return {"features": whole, **{name: identity.to_hex(np.unique(ids)) for name, ids in parts.items()}}
