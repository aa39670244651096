"""Words of a policy that reads: by a tokenizer's file in place of bytes, and where its actions' ids then stand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, cast

from nextmove.codecs.tokenizer import Tokenizer
from nextmove.encoders.planner import BETWEEN
from nextmove.encoders.spoken import Spoken
from nextmove.models.vision_language.wording import PLAIN, ending

R = TypeVar("R")
SPOKEN = Spoken("prompt")
"""How a sub-task is asked for by the prompt of the actions; over bytes it ends with their own end."""
BEGINS = ("<bos>", "<s>", "<|im_start|>", "<|endoftext|>", "[CLS]")
"""Names of the token that a text begins with; of several that a tokenizer has, the first."""
ACTION, BAR = "Action: ", "|"
"""What stands in front of a chunk's ids and behind them (FAST)."""


class Around(NamedTuple):
    """Where ids of actions stand: the first and the step to the next, the ids in front of them and the one behind."""

    first: int
    step: int
    lead: tuple[int, ...]
    end: int


def worded(recipe: R, words: Tokenizer, more: int = 0) -> R:
    """A recipe whose language model reads words by a tokenizer; its table has a row for each id, and `more` behind.

    Sub-tasks that it says end with the tokenizer's own end.
    """
    own = cast(Any, recipe)
    if own.encoder.planner is not None:
        planner = replace(own.encoder.planner, end=ending(words, PLAIN))
        own = replace(own, encoder=replace(own.encoder, planner=planner))
    prompt = replace(own.encoder.prompt, classes=words.classes, hash=words.hash)
    found: R = replace(own, encoder=replace(own.encoder, prompt=prompt, ids=words.classes + more))
    return found


def asked(recipe: R, planner: Spoken, end: int) -> R:
    """A recipe that is asked for its next sub-task first, which is then read behind the instruction (pi0.5).

    end: the id behind a text of the published tokenizer, in place of that over bytes where the recipe reads by it.
    """
    own = cast(Any, recipe)
    prompt = own.encoder.prompt
    if prompt.classes and planner.end == SPOKEN.end:
        planner = replace(planner, end=end)
    prompt = replace(prompt, length=prompt.length + planner.length + len(BETWEEN))
    found: R = replace(own, encoder=replace(own.encoder, prompt=prompt, planner=planner))
    return found


def behind(words: Tokenizer) -> Around:
    """Ids of actions behind all of a tokenizer's; raises ValueError where it has not what stands around them."""
    return Around(words.classes, 1, (begin(words), *words.encode(ACTION).tolist()), words.id_of(BAR))


def among(words: Tokenizer, pieces: int, skipped: int) -> Around:
    """`pieces` ids of actions among a tokenizer's last, going down, `skipped` of which are left out (PaliGemma's).

    Raises ValueError for a tokenizer that has too few, or not what stands around them.
    """
    first, found = words.backend.get_vocab_size(with_added_tokens=False) - 1 - skipped, behind(words)
    if first - pieces + 1 <= max(*found.lead, found.end):
        raise ValueError(
            f"vocabulary: expected {pieces} ids for actions from {first} down that are none of {ACTION!r} and {BAR!r}, "
            f"found {sorted({*found.lead, found.end})} and {first + 1} ids"
        )
    return found._replace(first=first, step=-1)


def begin(words: Tokenizer) -> int:
    """The id that a text begins with; raises ValueError where a tokenizer has none of `BEGINS`."""
    for token in BEGINS:
        found = words.backend.token_to_id(token)
        if found is not None:
            return int(found)
    raise ValueError(f"tokenizer: expected a token that a text begins with, one of {', '.join(BEGINS)}, found none")
