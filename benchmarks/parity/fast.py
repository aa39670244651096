"""FAST's codec: fitted, encoded and decoded as the published processor and LeRobot's tolerant decoder do.

Shapes: B chunks, T steps, D width, L ids.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from benchmarks.parity.answers import Answers
from torch import Tensor

from nextmove.codecs import fast_files
from nextmove.codecs.fast import Fast
from nextmove.codecs.tokenizer import FILE
from nextmove.config import ConfigError

CONFIG = fast_files.CONFIG


def answers(folder: Path, io: Mapping[str, Tensor]) -> Answers:
    """Integers, ids and chunks; raises ConfigError where what is fitted on the case's actions is another tokenizer."""
    published = fast_files.read(folder)
    fitted = Fast(vocabulary=published.vocabulary, scale=published.scale)
    fitted.fit(list(io["in.fit_actions"]))
    if json.loads(fitted.text) != json.loads(published.text):
        raise ConfigError(
            f"{folder / FILE}: expected the tokenizer that is fitted on the case's actions, found another"
        )
    found = {"out.min_token": torch.tensor([fitted.least]), "out.fit_max_int": torch.tensor([fitted.largest])}
    texts: dict[str, Tensor] = {}
    steps, width = io["in.actions"].shape[1:]

    def decoded(rows: Sequence[Sequence[int]], strict: str, tolerant: str) -> None:
        chunks, _, whole = fitted.decode(rows, steps=steps, width=width, literal=True)
        # The published decoder has zeros in place of what is not whole.
        found[f"out.{strict}"] = (chunks * whole[:, None, None]).float()
        found[f"out.{tolerant}"] = chunks.float()

    for name, ints, tokens, strict, tolerant in (
        ("actions", "dct_ints", "tokens", "decoded", "relaxed"),
        ("wild_actions", "wild_ints", "wild_tokens", "wild_decoded", "wild_relaxed"),
    ):
        if f"in.{name}" in io:
            rows = fitted.encode(io[f"in.{name}"])
            found[f"out.{ints}"] = torch.from_numpy(fitted.integers(io[f"in.{name}"]))
            texts[f"out.{tokens}"] = _padded(rows, io[f"out.{tokens}"].shape[1])
            decoded(rows, strict, tolerant)
    if "in.bad_tokens" in io:
        decoded([row[row >= 0].tolist() for row in io["in.bad_tokens"]], "bad_strict", "bad_relaxed")
    found = {name: value for name, value in found.items() if name in io}
    # The case holds the transform in float32, in which its last digits are others.
    return Answers(found, texts=texts, given=("out.dct", "in.actions"), exact=True)


def _padded(rows: Sequence[Sequence[int]], length: int) -> Tensor:
    """(B, L), -1 behind the last id of each row; raises ConfigError where one has more ids than the case's."""
    longest = max(map(len, rows))
    if longest > length:
        raise ConfigError(f"expected at most {length} ids a chunk, found {longest}")
    return torch.tensor([[*row, *[-1] * (length - len(row))] for row in rows])
