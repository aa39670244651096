"""A text on the terminal as it is written, how fast, and how far from float32."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nextmove.contracts import Context
from nextmove.decoders.sampling import Sampling
from nextmove.host.files import write_text
from nextmove.jobs.computing import TextRuntime
from nextmove.models.generator import Generator
from nextmove.runtime import Precision, agreement, compiled, packed


@dataclass(frozen=True)
class Computing:
    """What computes the network; `again` gives the model once more, as torch computes it."""

    runtime: TextRuntime
    precision: Precision
    again: Callable[[], Any] | None = None

    def prepare(self, generator: Generator) -> float:
        """Has the runtime compute the model's network; the seconds until it can."""
        begin = time.perf_counter()
        if self.runtime != "torch":
            packed(generator) if self.runtime == "packed" else compiled(generator, self.precision)
            with torch.no_grad():
                generator.tokens.net(torch.zeros(1, 1, dtype=torch.long), Context.empty(1), None)
        return time.perf_counter() - begin


class Clock:
    """When each id was drawn, and which."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.ids: list[int] = []
        self.at: list[float] = []

    def __call__(self, i: int) -> None:
        self.ids.append(i)
        self.at.append(time.perf_counter() - self.begin)

    def spoken(self, prompt: int) -> str:
        """How fast the prompt was read and the rest was written, apart."""
        read = f"{prompt} tokens read in {self.at[0]:.2f} s"
        later = len(self.at) - 1
        took = self.at[-1] - self.at[0]
        return f"{read}, {later} more written at {later / took:.1f} a second" if later and took else read


def write(
    generator: Generator,
    prompt: str,
    length: int,
    sampling: Sampling,
    rng: Any,
    out: str | Path | None,
    computing: Computing,
) -> str:
    """The text, the prompt in front; what is printed behind it says what it took."""
    ready, clock, written = computing.prepare(generator), Clock(), []
    rows = generator.write(prompt, new=length, rng=rng, sampling=sampling, watch=clock)
    for piece in itertools.chain([prompt], rows):
        written.append(piece)
        sys.stdout.write(piece)
        sys.stdout.flush()
    print()
    text = "".join(written)
    if out is not None:
        write_text(Path(out), text)
    if computing.runtime != "torch" and clock.ids:
        _told(generator, prompt, clock, computing, ready)
    return text


def _told(generator: Generator, prompt: str, clock: Clock, computing: Computing, ready: float) -> None:
    ids = generator.text.prompt(prompt)
    name = f"{computing.runtime}, {computing.precision}"
    print(f"{name}: ready in {ready:.1f} s; {clock.spoken(len(ids))}", file=sys.stderr)
    if name == "openvino, float32":
        return
    net, start = generator.tokens, torch.tensor([generator.tokens.config.classes] * int(generator.tokens.config.start))
    whole = torch.cat([start, ids, torch.tensor(clock.ids[:-1], dtype=torch.long)])
    whole = whole[-net.window :] if net.window else whole
    first = max(len(whole) - len(clock.ids) + 1, 1)
    assert computing.again is not None
    found = agreement(net.net, computing.again().tokens.net, whole[None], first)
    print(f"{name}: {found}", file=sys.stderr)
