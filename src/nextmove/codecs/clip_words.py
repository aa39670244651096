"""CLIP's tokenizer (Radford et al. 2021): lowercase BPE over bytes whose pieces know where a word ends.

Texts are brought to NFC, blanks become one space and letters small, as transformers does; OpenAI's own code mends
wrongly decoded characters and HTML entities besides (`ftfy`, `html.unescape`), which is left to who has such texts.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from nextmove.codecs.spelling import spelling
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError

START, END, SUFFIX = "<|startoftext|>", "<|endoftext|>", "</w>"
MERGES = 49152 - 256 - 2
"""Merges of the published file that are used, of 262144."""
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
"""A contraction, letters, one digit, or anything else that is not blank."""


def read_clip(path: Path) -> Tokenizer:
    """The tokenizer of `bpe_simple_vocab_16e6.txt.gz`, which open_clip and OpenAI's CLIP come with: ids 0 to 49407.

    Raises ConfigError naming the file where it is damaged or another one.
    """
    try:
        lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path}: expected a text packed by gzip, found {problem}") from None
    if len(lines) < MERGES + 1:
        raise ConfigError(f"{path}: expected {MERGES} merges behind a first line, found {len(lines) - 1}")
    try:
        return clip_bpe(vocabulary(lines[1 : MERGES + 1]), lines[1 : MERGES + 1])
    except ValueError as problem:
        raise ConfigError(f"{path}: {problem}") from None


def vocabulary(merges: Sequence[str]) -> list[str]:
    """CLIP's pieces by id: the bytes, the bytes at a word's end, what each merge joins, start and end of a text."""
    prints = [c for byte, c in enumerate(spelling()) if c == chr(byte)]
    bytes_ = prints + [c for byte, c in enumerate(spelling()) if c != chr(byte)]
    joined = [merge.replace(" ", "", 1) for merge in merges]
    return [*bytes_, *(c + SUFFIX for c in bytes_), *joined, START, END]


def clip_bpe(pieces: Sequence[str], merges: Sequence[str]) -> Tokenizer:
    """The tokenizer of pieces by id, the last two of which begin and end a text, and of pairs "a b" in their order.

    Raises ValueError for pieces that come twice, and for pairs that are none of pieces.
    """
    table = {piece: i for i, piece in enumerate(pieces)}
    if len(table) != len(pieces):
        raise ValueError("vocabulary: expected every piece once, found one twice")
    for token in (START, END):
        if token not in table:
            raise ValueError(f"vocabulary: expected a token {token!r}, found none")
    pairs = []
    for merge in merges:
        first, blank, second = merge.partition(" ")
        if not blank or any(part not in table for part in (first, second, first + second)):
            raise ValueError(f"merges: expected pairs of pieces whose join is a piece, found {merge!r}")
        pairs.append((first, second))
    whole = Backend(models.BPE(table, pairs, end_of_word_suffix=SUFFIX, unk_token=END, continuing_subword_prefix=""))
    whole.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    whole.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    whole.decoder = decoders.ByteLevel()
    whole.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (START, END)])
    whole.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, table[START]), (END, table[END])]
    )
    return Tokenizer(whole.to_str())
