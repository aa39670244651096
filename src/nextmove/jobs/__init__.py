"""The jobs of a user: record, train, evaluate, compare, generate, ask and so on. The command line calls these.

A job is imported when it is asked for: all of them are half a second, and a command needs one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nextmove.host.lazy import lazy

if TYPE_CHECKING:
    from nextmove.jobs.ask import ask
    from nextmove.jobs.caption import caption
    from nextmove.jobs.chat import chat
    from nextmove.jobs.compare import compare
    from nextmove.jobs.demo import demo
    from nextmove.jobs.evaluate import evaluate, load_policy
    from nextmove.jobs.export_lerobot import export_lerobot
    from nextmove.jobs.generate import generate
    from nextmove.jobs.inspect import inspect
    from nextmove.jobs.judge import judge_generator
    from nextmove.jobs.judge_pairs import judge_pairs
    from nextmove.jobs.judge_reader import judge_reader
    from nextmove.jobs.label import label
    from nextmove.jobs.record import record
    from nextmove.jobs.scenes import scenes
    from nextmove.jobs.search import search
    from nextmove.jobs.train import train

__all__ = [
    "ask",
    "caption",
    "chat",
    "compare",
    "demo",
    "evaluate",
    "export_lerobot",
    "generate",
    "inspect",
    "judge_generator",
    "judge_pairs",
    "judge_reader",
    "label",
    "load_policy",
    "record",
    "scenes",
    "search",
    "train",
]
_names = lazy(__name__, {name: name for name in __all__} | {"load_policy": "evaluate", "judge_generator": "judge"})


def __getattr__(name: str) -> Any:
    return _names(name)
