"""Talks with a language model: turn by turn, each reading only what is new."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError
from nextmove.contracts import Context, Rng, seeded
from nextmove.decoders.sampling import Sampling
from nextmove.jobs.computing import TextRuntime, check_runtime
from nextmove.jobs.languages import read_language
from nextmove.jobs.repeat import at_least
from nextmove.jobs.write import Computing
from nextmove.models.generator import Generator
from nextmove.models.vision_language.asking import Thread
from nextmove.models.vision_language.wording import CHAT, Turn, ending
from nextmove.runtime import Precision

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""What SmolLM2 is told first where a chat says nothing else."""


class Chat:
    """A conversation with a language model that was trained on ChatML; what was said is never read again."""

    def __init__(self, model: Generator, system: str = SYSTEM) -> None:
        """Raises ConfigError for a model whose tokenizer knows no chats."""
        codec = model.text
        if not isinstance(codec, Tokenizer) or codec.backend.token_to_id("<|im_start|>") is None:
            raise ConfigError("model: expected one that was trained on chats (<|im_start|>), found one that was not")
        self.model, self.codec = model, codec
        self.thread = Thread(model.tokens, Context.empty(1))
        self.end = ending(codec, CHAT)
        self.head = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""

    @property
    def length(self) -> int:
        """Ids of the conversation so far."""
        return self.thread.length

    def say(self, text: str, *, new: int = 256, rng: Rng, sampling: Sampling | None = None) -> Iterator[str]:
        """The answer to a text, in parts as they are certain.

        Raises ValueError for a conversation that would be over the model's context, before anything is read.
        """
        between = CHAT.after if self.thread.length else self.head
        if self.thread.length and self.thread.unread != [self.end]:
            # The last answer was broken off at its longest, so that it has no ending of its own.
            between = CHAT.end + between
        ids = self.codec.encode(between + CHAT.asked(Turn(text, images=0))).tolist()
        most, count = self.model.tokens.window or self.model.shape[0], self.thread.length + len(ids) + new
        if count > most:
            raise ValueError(
                f"text: expected at most the {most} ids of the model's context in the whole conversation, found "
                f"{count} with {new} for the answer, at {text[:60]!r}; begin a new one"
            )
        made = self.thread.answer(ids, new=new, stop=[self.end], rng=rng, sampling=sampling)
        return self.codec.stream(i for i in made if i != self.end)


def chat(
    model: str | Path = Path("smollm2"),
    *,
    say: Sequence[str] = (),
    system: str = SYSTEM,
    length: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    repetition: float = 1.0,
    seed: int = 0,
    runtime: TextRuntime = "torch",
    precision: Precision = "float32",
    threads: int = 2,
) -> list[str]:
    """Talks with a language model: a line of input is a turn, answers are written as they come about.

    Each turn reads only what is new: the memory of the conversation is kept. Returns the answers.

    Args:
        model: smollm2 (from its package), a .gguf file, or a folder of a model that was trained on chats.
        say: Turns, one after another, in place of lines of input.
        system: What the model is told first; "" for nothing.
        length: Tokens of an answer at most.
        temperature: 0 takes the likeliest token.
        top_p: Keep the likeliest tokens of this total probability.
        repetition: What a token that occurred is made less likely by; 1 is off.
        seed: Decides the draws.
        runtime: What computes the network, as of `nextmove generate`: torch, openvino or packed.
        precision: Of openvino: float32, bf16 or int8.
        threads: Threads of the arithmetic.

    Raises:
        FileNotFoundError: for a model that is not there.
        ConfigError: for one that was not trained on chats, or whose package is not installed; it says what to install.
        ValueError: for a conversation over the model's context.
    """
    at_least(1, length=length, threads=threads)
    torch.set_num_threads(threads)
    check_runtime(runtime, precision, known=TextRuntime)
    read = read_language(model, packed=runtime == "packed")
    Computing(runtime, precision).prepare(read)
    talk = Chat(read, system)
    rng, sampling = seeded(seed, 6), Sampling(temperature, 0, top_p, repetition=repetition)
    answers = []
    for text in say or _lines():
        answers.append(written(talk.say(text, new=length, rng=rng, sampling=sampling)))
    return answers


def written(parts: Iterator[str]) -> str:
    """The whole of a text that goes to the terminal part by part."""
    found: list[str] = []
    for part in parts:
        found.append(part)
        sys.stdout.write(part)
        sys.stdout.flush()
    print()
    return "".join(found)


def _lines() -> Iterator[Any]:
    """The lines of standard input that are not empty, asked for where somebody types them."""
    asks = sys.stdin.isatty()
    while True:
        if asks:
            sys.stdout.write("> ")
            sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()
