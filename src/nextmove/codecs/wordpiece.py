"""BERT's tokenizer (Devlin et al. 2019; WordPiece, Schuster and Nakajima 2012): longest pieces of words first."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from nextmove.codecs.tokenizer import Tokenizer

UNKNOWN, FIRST, LAST = "[UNK]", "[CLS]", "[SEP]"
SPECIAL = ("[PAD]", UNKNOWN, FIRST, LAST, "[MASK]")
INNER = "##"
"""In front of a piece that begins no word."""


def wordpiece(
    pieces: Sequence[str], *, lowercase: bool = True, strip_accents: bool | None = None, chinese: bool = True
) -> Tokenizer:
    """The tokenizer of pieces by id, with [CLS] in front of a text and [SEP] behind it.

    strip_accents: None = as `lowercase`; chinese: its characters are words of their own. Words of more than 100
    characters are [UNK]. Raises ValueError for pieces that come twice, and where [UNK], [CLS] or [SEP] is absent.
    """
    table = {piece: i for i, piece in enumerate(pieces)}
    if len(table) != len(pieces):
        twice = next(piece for i, piece in enumerate(pieces) if table[piece] != i)
        raise ValueError(f"vocabulary: expected every piece once, found {twice!r} twice")
    for token in (UNKNOWN, FIRST, LAST):
        if token not in table:
            raise ValueError(f"vocabulary: expected a token {token!r}, found none")
    whole = Backend(models.WordPiece(table, unk_token=UNKNOWN, max_input_chars_per_word=100))
    whole.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese, strip_accents=strip_accents, lowercase=lowercase
    )
    whole.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    whole.decoder = decoders.WordPiece(INNER)
    whole.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL if token in table])
    whole.post_processor = processors.TemplateProcessing(
        single=f"{FIRST} $A {LAST}", special_tokens=[(token, table[token]) for token in (FIRST, LAST)]
    )
    return Tokenizer(whole.to_str())
