"""Tokenizers from files, whatever they are written in, and the ids that end a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nextmove.codecs.byte_level import bpe
from nextmove.codecs.clip_words import SUFFIX, clip_bpe, read_clip
from nextmove.codecs.gguf_words import gguf_tokenizer
from nextmove.codecs.sentencepiece import sentencepiece
from nextmove.codecs.sentencepiece_file import USER_DEFINED, read_pieces
from nextmove.codecs.special import numbered_tokens
from nextmove.codecs.tokenizer import FILE, Tokenizer
from nextmove.codecs.wordpiece import wordpiece
from nextmove.config import ConfigError, read_object
from nextmove.interop.hf.tokenizer_config import TokenizerConfig, check_matches, read_config
from nextmove.weights.gguf import read_gguf

PIECES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
CLIP = "bpe_simple_vocab_16e6.txt.gz"
WORDS = (FILE, *PIECES, "vocab.json", "vocab.txt", CLIP)
"""Names under which folders have tokenizers, in the order in which they are looked for."""
BEHIND = ("T5", "Siglip")
"""Whose texts end in a token where the file does not say; those of others begin with one."""
EXTRA = 100
"""T5's tokens for what is left out of a text, behind its pieces and numbered from the last."""


def open_tokenizer(path: Path | str, classes: int = 0) -> Tokenizer:
    """The tokenizer of a file or folder.

    Files: tokenizer.json, a SentencePiece .model, a WordPiece vocab.txt, CLIP's .txt.gz, a .gguf; folders: those of
    transformers, or a saved model's. classes: ids of the model that it is for, 0 = as many as there are.

    Raises FileNotFoundError where there is none, and ConfigError naming a file that is damaged or does not fit.
    """
    path = Path(path)
    if path.is_dir():
        inner = path / "model" if (path / "model" / FILE).is_file() else path
        found = read_tokenizer(inner, classes)
        if not found.files():
            raise FileNotFoundError(f"{path}: expected a tokenizer ({', '.join(WORDS)}), found none")
        return found
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a tokenizer's file or folder, found nothing there")
    return _sized(_read(path, TokenizerConfig()), classes, path)


def read_tokenizer(folder: Path, classes: int) -> Tokenizer:
    """The tokenizer of a model's folder, see `WORDS`; one that is absent where none is.

    Raises ConfigError naming the file for one that is damaged, or does not match the model: one of more ids than its
    `classes` or of far fewer, or whose special tokens have other ids than the model's config says.
    """
    path = next((folder / name for name in WORDS if (folder / name).is_file()), None)
    if path is None or (path.name == "vocab.json" and not (folder / "merges.txt").is_file()):
        return Tokenizer.absent(classes)
    config = read_config(folder)
    made = _read(path, config)
    if path.name != FILE and config.added:
        with _naming(path):
            made = numbered_tokens(made, config.added)
    made = _sized(made, classes, path)
    if classes:
        check_matches(made, config, folder, classes)
    return made


def _read(path: Path, config: TokenizerConfig) -> Tokenizer:
    with _naming(path):
        if path.suffix == ".gz":
            return read_clip(path)
        if path.suffix == ".model":
            return _sentencepiece(path, config)
        if path.suffix == ".gguf":
            return gguf_tokenizer(read_gguf(path).metadata)
        if path.name == "vocab.json":
            return _bpe(path, config)
        if path.suffix == ".txt":
            lowercase, accents = config.flag("do_lower_case", True), config.values.get("strip_accents")
            chinese = config.flag("tokenize_chinese_chars", True)
            lines = path.read_text(encoding="utf-8").split("\n")
            pieces = lines[:-1] if not lines[-1] else lines
            return wordpiece(
                [piece.rstrip("\r") for piece in pieces], lowercase=lowercase, strip_accents=accents, chinese=chinese
            )
        return Tokenizer.open(path)


def _sentencepiece(path: Path, config: TokenizerConfig) -> Tokenizer:
    found = read_pieces(path)
    ends = config.kind in BEHIND or (not config.kind and found.kind == "unigram")
    once = not config.flag("legacy", True) or any(piece.kind == USER_DEFINED for piece in found.pieces)
    return sentencepiece(
        found,
        before=config.flag("add_bos_token", not ends and "bos" in found.ids),
        behind=config.flag("add_eos_token", ends and "eos" in found.ids),
        once=once,
        more=[f"<extra_id_{i}>" for i in reversed(range(int(config.values.get("extra_ids", EXTRA))))]
        if config.kind == "T5"
        else (),
        canonical=config.kind == "Siglip",
    )


def _bpe(path: Path, config: TokenizerConfig) -> Tokenizer:
    """GPT-2's vocab.json and merges.txt, or CLIP's."""
    ids = read_object(path)
    pieces = sorted(ids, key=lambda token: int(ids[token]))
    if [ids[token] for token in pieces] != list(range(len(pieces))):
        raise ValueError("expected ids 0, 1, 2 ..., found others")
    lines = (path.parent / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [line for line in lines if line and not line.startswith("#version")]
    clip = config.kind == "CLIP" or any(piece.endswith(SUFFIX) for piece in pieces[:512])
    return clip_bpe(pieces, merges) if clip else bpe(pieces, merges)


def _sized(made: Tokenizer, classes: int, path: Path) -> Tokenizer:
    """The tokenizer of a model of so many ids."""
    if not classes:
        return made
    with _naming(path):
        return Tokenizer(made.text, classes=classes)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What is wrong with a file is said with its name."""
    try:
        yield
    except ValueError as problem:
        if isinstance(problem, ConfigError) and str(path.parent) in str(problem):
            raise
        raise ConfigError(f"{path}: {problem}") from None


def stop_ids(folder: Path, config: Mapping[str, Any]) -> tuple[int, ...]:
    """The ids that end a text: those of generation_config.json, else of config.json."""
    path = folder / "generation_config.json"
    own = read_object(path) if path.is_file() else {}
    found = own.get("eos_token_id", config.get("eos_token_id"))
    return tuple(found) if isinstance(found, list) else () if found is None else (int(found),)
