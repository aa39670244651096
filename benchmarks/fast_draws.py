"""How many rows of FAST's ids that are drawn at random under its rule cannot be decoded: of 100,000, none.

    python benchmarks/fast_draws.py

Codecs are fitted on random walks, with pieces of one, two and three bytes a character, with few ids left, and for a
chunk of one number. Each id is drawn among those that the rule allows, evenly or by random scores, until the end's. A
row is whole where the tokenizer's own decoder gives the chunk's number of characters, all of the fitted range. The
table goes to docs/data/fast-draws.json.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from kept_table import keep
from nextmove.codecs.fast import Fast
from nextmove.codecs.fast_tokens import FastTokens
from nextmove.contracts import normal, seeded

CODECS = (
    # steps, width, pieces, scale, most ids (0: as many as fit), thousands of rows
    (8, 3, 128, 8.0, 0, 50),
    (10, 2, 1500, 100.0, 0, 4),
    (6, 2, 4500, 400.0, 0, 1),
    (12, 3, 300, 10.0, 24, 40),
    (1, 1, 64, 10.0, 0, 5),
)
PART = 1000
SHARPNESS = (0.0, 2.0, 4.0)
"""Of the scores that ids are drawn by."""


def fitted(steps: int, width: int, pieces: int, scale: float, length: int) -> FastTokens:
    """A codec of random walks."""
    walks = normal((60, steps, width), seeded(0)).cumsum(1) / steps**0.5
    tokens = FastTokens(Fast(vocabulary=pieces, scale=scale), horizon=steps, width=width, length=length)
    tokens.fit([walks])
    return tokens


def drawn(tokens: FastTokens, seed: int, sharpness: float) -> Tensor:
    """Rows of ids, each drawn at random among what the rule allows."""
    draws, ids = seeded(seed), torch.zeros(PART, 0, dtype=torch.long)
    for i in range(tokens.length):
        scores = sharpness * torch.randn(PART, tokens.classes, generator=draws)
        shares = scores.masked_fill(~tokens.rule(i, ids), -torch.inf).softmax(-1)
        ids = torch.cat([ids, shares.multinomial(1, generator=draws)], 1)
        if bool((ids == tokens.end).any(1).all()):
            break
    return ids


def broken(tokens: FastTokens, ids: Tensor) -> int:
    """How many rows have no end or are not exactly the characters of a chunk, in the fitted range."""
    numbers, top = tokens.horizon * tokens.width, tokens.fast.largest - tokens.fast.least
    rows = [row[: row.index(tokens.end)] for row in ids.tolist() if tokens.end in row]
    texts = tokens.fast.backend.decode_batch(rows)
    whole = sum(len(text) == numbers and max(map(ord, text)) <= top for text in texts)
    return len(ids) - whole


def main() -> None:
    """All codecs."""
    rows: list[list[Any]] = []
    for n, (steps, width, pieces, scale, length, parts) in enumerate(CODECS):
        began, tokens = time.process_time(), fitted(steps, width, pieces, scale, length)
        found = sum(
            broken(tokens, drawn(tokens, 100 * n + part, SHARPNESS[part % len(SHARPNESS)])) for part in range(parts)
        )
        rows.append([f"{steps} x {width}", tokens.fast.pieces, tokens.length, parts * PART, found])
        print(*rows[-1], f"{time.process_time() - began:.0f} s", flush=True)
    rows.append(["all", "", "", sum(row[3] for row in rows), sum(row[4] for row in rows)])
    keep(
        "fast-draws",
        title="FAST's ids drawn at random",
        command="python benchmarks/fast_draws.py",
        note=(
            "Ids drawn at random, evenly or by random scores, among those that the rule of a codec of chunks allows "
            "(`codecs/fast_rule.py`), until each row ends. A row that the tokenizer does not decode to exactly the "
            "numbers of a chunk, in the fitted range, counts as not decodable."
        ),
        columns=["chunk", "pieces", "most ids", "rows drawn", "not decodable"],
        rows=rows,
    )


if __name__ == "__main__":
    main()
