"""SentencePiece's models as a tokenizer (Kudo and Richardson 2018): Llama's, Gemma's, T5's, SigLIP's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from nextmove.codecs.sentencepiece_file import CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, Piece, Pieces
from nextmove.codecs.tokenizer import Tokenizer

BLANK = "\u2581"
PUNCTUATION = "".join(f"\\{c}" for c in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


def sentencepiece(
    found: Pieces, *, before: bool, behind: bool, once: bool = False, more: Sequence[str] = (), canonical: bool = False
) -> Tokenizer:
    """The tokenizer of a model; of plain text its ids are those of SentencePiece itself.

    before, behind: puts the model's `bos` in front of a text, its `eos` behind it. once: the blank in front of a text
    comes once, and not where there is one; otherwise in front of every stretch between special tokens. more: special
    tokens that are numbered on behind the pieces. canonical: letters small and without punctuation (SigLIP).

    Raises ValueError for a model that is not to be had so, naming what it has.
    """
    spaced = [p.text for p in found.pieces if p.kind == USER_DEFINED and BLANK in p.text and found.prefix]
    if spaced:
        raise ValueError(f"expected no blank in the pieces that the user defined, found {spaced[0]!r}")
    whole = Backend(_model(found))
    whole.normalizer = normalizers.Sequence(_steps(found, once, canonical))
    if found.prefix and once:
        whole.pre_tokenizer = pre_tokenizers.Metaspace(BLANK, prepend_scheme="first", split=False)
    blanks = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    whole.decoder = decoders.Sequence([*blanks, decoders.Strip(" ", 1, 0)] if found.prefix else blanks)
    for piece in found.pieces:
        if piece.kind == USER_DEFINED:
            whole.add_tokens([AddedToken(piece.text, normalized=not found.prefix, special=False)])
    special = [piece.text for piece in found.pieces if piece.kind in (UNKNOWN, CONTROL)]
    whole.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (*special, *more)])
    _around(whole, found, before, behind)
    return Tokenizer(whole.to_str())


def _model(found: Pieces) -> Any:
    unknown = found.ids.get("unk")
    if found.kind == "unigram":
        scores = [(piece.text, piece.score) for piece in found.pieces]
        return models.Unigram(scores, unk_id=unknown, byte_fallback=found.byte_fallback)
    table = {piece.text: i for i, piece in enumerate(found.pieces)}
    return models.BPE(
        table,
        _merges(found.pieces, table),
        unk_token=None if unknown is None else found.pieces[unknown].text,
        fuse_unk=True,
        byte_fallback=found.byte_fallback,
    )


def _merges(pieces: Sequence[Piece], table: dict[str, int]) -> list[tuple[str, str]]:
    """Pairs in the order in which they are joined: by the score of what they make, the higher first."""
    plain = {piece.text for piece in pieces if piece.kind in (NORMAL, UNUSED)}
    merges: list[tuple[str, str]] = []
    for piece in sorted((p for p in pieces if p.kind == NORMAL), key=lambda p: -p.score):
        text = piece.text
        splits = [(text[:i], text[i:]) for i in range(1, len(text)) if text[:i] in plain and text[i:] in plain]
        merges += sorted(splits, key=lambda pair: (table[pair[0]], table[pair[1]]))
    return merges


def _steps(found: Pieces, once: bool, canonical: bool) -> list[Any]:
    """How a text becomes what the pieces are pieces of."""
    steps: list[Any] = []
    if canonical:
        steps += [normalizers.Lowercase(), normalizers.Replace(Regex(f"[{PUNCTUATION}]"), "")]
        steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    if found.charsmap:
        steps.append(normalizers.Precompiled(found.charsmap))
    if found.trim:
        steps += [normalizers.Replace(Regex("^ +| +$"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if found.prefix and once:
        return steps
    return [*steps, *([normalizers.Prepend(BLANK)] if found.prefix else []), normalizers.Replace(" ", BLANK)]


def _around(whole: Backend, found: Pieces, before: bool, behind: bool) -> None:
    """Puts the tokens around a text that are asked for."""
    template, special = "$A", []
    for name, wanted in (("bos", before), ("eos", behind)):
        if not wanted:
            continue
        if name not in found.ids:
            raise ValueError(f"expected an id of {name}, found none")
        token = found.pieces[found.ids[name]].text
        template = f"{token} {template}" if name == "bos" else f"{template} {token}"
        special.append((token, found.ids[name]))
    if special:
        whole.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
