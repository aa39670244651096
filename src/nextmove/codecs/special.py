"""Special tokens of a tokenizer: named, added, put around texts.

A tokenizer's text is never changed in place: what is made is another tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tokenizers import AddedToken, processors
from tokenizers import Tokenizer as Backend

from nextmove.codecs.tokenizer import Tokenizer


def special_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """Ids of the special tokens by name, in order of the ids."""
    found = tokenizer.backend.get_added_tokens_decoder()
    return {str(token.content): int(i) for i, token in sorted(found.items()) if token.special}


def with_tokens(tokenizer: Tokenizer, names: Sequence[str], *, special: bool = True) -> Tokenizer:
    """The tokenizer with these tokens too: what it has keeps its id, the others are numbered on behind it."""
    whole = Backend.from_str(tokenizer.text)
    whole.add_tokens([AddedToken(name, special=special, normalized=False) for name in names])
    return Tokenizer(whole.to_str())


def numbered_tokens(tokenizer: Tokenizer, tokens: Mapping[int, AddedToken]) -> Tokenizer:
    """The tokenizer with these tokens too, at these ids.

    Raises ValueError naming a token for whose id another number is the next free one, or that it has at another id.
    """
    whole = Backend.from_str(tokenizer.text)
    for i, token in sorted(tokens.items()):
        whole.add_tokens([token])
        found = whole.token_to_id(token.content)
        if found != i:
            raise ValueError(f"token {token.content!r}: expected id {i}, found {found}")
    return Tokenizer(whole.to_str())


def around(tokenizer: Tokenizer, *, before: Sequence[str] = (), behind: Sequence[str] = ()) -> Tokenizer:
    """The tokenizer that puts these of its tokens in front of texts and behind them, in place of what it does now."""
    whole = Backend.from_str(tokenizer.text)
    ids = [(name, tokenizer.id_of(name)) for name in dict.fromkeys((*before, *behind))]
    whole.post_processor = processors.TemplateProcessing(single=[*before, "$A", *behind], special_tokens=ids)
    return Tokenizer(whole.to_str())
