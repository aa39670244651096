"""Tokenizers over bytes (BPE as in GPT-2; Sennrich et al. 2016): trained, from tables, or without any training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from nextmove.codecs.spelling import spelling, utf8
from nextmove.codecs.tokenizer import Tokenizer


def train_bpe(corpus: str, size: int) -> Tokenizer:
    """`size` pieces joined from bytes by how often they stand side by side in a corpus; the same at every call.

    Raises ValueError for an empty corpus or fewer pieces than bytes.
    """
    if not corpus:
        raise ValueError("corpus: expected text, found none")
    if size < 256:
        raise ValueError(f"size: expected at least the 256 bytes, found {size}")
    utf8(corpus)
    whole = byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=sorted(spelling()), show_progress=False, special_tokens=[]
    )
    whole.train_from_iterator(corpus.splitlines(keepends=True), trainer)
    return Tokenizer(whole.to_str())


CAPTION_TOKENS = ("<pad>", "<s>", "</s>", "<enc>", "<dec>", "<image>", "<|endofchunk|>")
"""Special tokens of a tokenizer fitted on captions, ids 0 to 6: padding, begin and end of a text, BLIP's two modes, the
place of an image and the end of an example (Flamingo)."""


def train_captions(texts: Sequence[str], size: int) -> Tokenizer:
    """A tokenizer of at most `size` ids fitted on texts: bytes joined by frequency, <s> in front and </s> behind.

    Raises ValueError for no text and for fewer ids than the 256 bytes and the special tokens.
    """
    made = train_bpe("\n".join(texts), size - len(CAPTION_TOKENS)).backend
    whole = json.loads(made.to_str())
    table = {token: i + len(CAPTION_TOKENS) for token, i in whole["model"]["vocab"].items()}
    pairs = [tuple(pair) for pair in whole["model"]["merges"]]
    numbered = {token: i for i, token in enumerate(CAPTION_TOKENS)}
    out = byte_level(models.BPE({**numbered, **table}, pairs))
    out.add_special_tokens([AddedToken(token, special=True) for token in CAPTION_TOKENS])
    out.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", numbered["<s>"]), ("</s>", numbered["</s>"])]
    )
    return Tokenizer(out.to_str())


Split = Literal["gpt2", "digits", "qwen2", "llama3"]
"""How texts are cut before pieces are joined: as GPT-2 does, the same with digits one by one (SmolLM2, StarCoder), or
with Qwen2's or Llama 3's rules, of which the latter takes up to three digits together, and whole words that are pieces
as they are."""
CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,%d}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def bpe(vocabulary: Sequence[str], merges: Sequence[str], split: Split = "gpt2") -> Tokenizer:
    """The tokenizer of tables in GPT-2's spelling: tokens by id, and pairs "a b" in the order they are joined.

    Raises ValueError for tokens that come twice and for pairs that are none of tokens.
    """
    table = {token: i for i, token in enumerate(vocabulary)}
    if len(table) != len(vocabulary):
        raise ValueError("vocabulary: expected every token once, found one twice")
    pairs = []
    for merge in merges:
        pair = merge.split(" ")
        if len(pair) != 2 or any(part not in table for part in (*pair, "".join(pair))):
            raise ValueError(f"merges: expected pairs of pieces whose join is a piece, found {merge!r}")
        pairs.append((pair[0], pair[1]))
    whole = byte_level(models.BPE(table, pairs, ignore_merges=split == "llama3"))
    own = whole.pre_tokenizer
    if split == "digits":
        whole.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), own])
    elif split != "gpt2":
        cut = pre_tokenizers.Split(Regex(CUT % (1 if split == "qwen2" else 3)), behavior="isolated")
        own = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        whole.pre_tokenizer = pre_tokenizers.Sequence([cut, own])
    if split == "qwen2":
        whole.normalizer = normalizers.NFC()
    return Tokenizer(whole.to_str())


def byte_tokenizer() -> Tokenizer:
    """A tokenizer that needs no training: ids 0 to 255 are the bytes, then <pad>, <s> in front and </s> behind."""
    whole = byte_level(models.BPE({c: i for i, c in enumerate(spelling())}, []))
    whole.add_special_tokens([AddedToken(token, special=True) for token in ("<pad>", "<s>", "</s>")])
    whole.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 257), ("</s>", 258)]
    )
    return Tokenizer(whole.to_str())


def byte_level(model: Any) -> Backend:
    """A tokenizer over bytes that adds nothing to the text."""
    whole = Backend(model)
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.decoder = decoders.ByteLevel()
    return whole
