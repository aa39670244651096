"""The tokenizer that a GGUF file's metadata describe (ggml's gguf.md, `tokenizer.ggml.*`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken

from nextmove.codecs.byte_level import Split, bpe
from nextmove.codecs.sentencepiece import BLANK, sentencepiece
from nextmove.codecs.sentencepiece_file import CONTROL, NORMAL, UNKNOWN, USER_DEFINED, Piece, Pieces
from nextmove.codecs.special import around, numbered_tokens
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.codecs.wordpiece import INNER, SPECIAL, wordpiece

CUTS: Mapping[str, Split] = {
    "gpt-2": "gpt2",
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell"), "digits"),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), "qwen2"),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), "llama3"),
}
"""How texts are cut, by llama.cpp's names of it (`tokenizer.ggml.pre`)."""
NAMES = {"bos": "tokenizer.ggml.bos_token_id", "eos": "tokenizer.ggml.eos_token_id"}


def gguf_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a file's metadata: byte BPE (`gpt2`), SentencePiece's BPE (`llama`), WordPiece (`bert`).

    Raises ValueError naming the key that is absent, or has a value that is not known.
    """
    model = _value(metadata, "tokenizer.ggml.model")
    tokens = [str(token) for token in _value(metadata, "tokenizer.ggml.tokens")]
    kinds = [int(kind) for kind in metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))]
    if len(kinds) != len(tokens):
        raise ValueError(f"tokenizer.ggml.token_type: expected {len(tokens)} values, found {len(kinds)}")
    if model == "gpt2":
        return _byte_level(metadata, tokens, kinds)
    if model == "llama":
        return _sentencepiece(metadata, tokens, kinds)
    if model == "bert":
        return wordpiece([_wordpiece(token) for token in tokens])
    raise ValueError(f"tokenizer.ggml.model: expected gpt2, llama or bert, found {model!r}")


def _byte_level(metadata: Mapping[str, Any], tokens: Sequence[str], kinds: Sequence[int]) -> Tokenizer:
    pre = metadata.get("tokenizer.ggml.pre", "gpt-2")
    if pre not in CUTS:
        raise ValueError(f"tokenizer.ggml.pre: expected one of {', '.join(CUTS)}, found {pre!r}")
    made = bpe(tokens, [str(merge) for merge in _value(metadata, "tokenizer.ggml.merges")], CUTS[pre])
    added = {
        i: AddedToken(token, special=kind != USER_DEFINED, normalized=False)
        for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (UNKNOWN, CONTROL, USER_DEFINED)
    }
    return _framed(metadata, numbered_tokens(made, added), tokens)


def _framed(metadata: Mapping[str, Any], made: Tokenizer, tokens: Sequence[str]) -> Tokenizer:
    """With the tokens around texts that the file asks for, which none does by default."""
    asked = {name: metadata.get(f"tokenizer.ggml.add_{name}_token", False) for name in NAMES}
    named = {name: [tokens[int(_value(metadata, NAMES[name]))]] for name, wanted in asked.items() if wanted}
    return around(made, before=named.get("bos", ()), behind=named.get("eos", ())) if named else made


def _sentencepiece(metadata: Mapping[str, Any], tokens: Sequence[str], kinds: Sequence[int]) -> Tokenizer:
    scores = [float(score) for score in _value(metadata, "tokenizer.ggml.scores")]
    if len(scores) != len(tokens):
        raise ValueError(f"tokenizer.ggml.scores: expected {len(tokens)} values, found {len(scores)}")
    unknown = next((i for i, kind in enumerate(kinds) if kind == UNKNOWN), None)
    ids = {name: int(metadata[key]) for name, key in NAMES.items() if key in metadata}
    found = Pieces(
        tuple(Piece(*one) for one in zip(tokens, scores, kinds, strict=True)),
        "bpe",
        prefix=bool(metadata.get("tokenizer.ggml.add_space_prefix", True)),
        trim=bool(metadata.get("tokenizer.ggml.remove_extra_whitespaces", False)),
        byte_fallback=True,
        ids=ids if unknown is None else {**ids, "unk": unknown},
    )
    before = bool(metadata.get("tokenizer.ggml.add_bos_token", True))
    return sentencepiece(found, before=before, behind=bool(metadata.get("tokenizer.ggml.add_eos_token", False)))


def _wordpiece(token: str) -> str:
    """A piece as BERT's files spell it: llama.cpp marks the pieces that begin words, BERT those that do not."""
    if token in SPECIAL or (token.startswith("[") and token.endswith("]")):
        return token
    return token.removeprefix(BLANK) if token.startswith(BLANK) else INNER + token


def _value(metadata: Mapping[str, Any], key: str) -> Any:
    if key not in metadata:
        raise ValueError(f"{key}: expected a value, found none")
    return metadata[key]
