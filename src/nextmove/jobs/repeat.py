"""What jobs have in common: the command that makes their output again, bounds of options, a place that takes it."""

from __future__ import annotations

import inspect
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nextmove.config import ConfigError


def command(function: Callable[..., Any], places: Sequence[Any], options: Mapping[str, Any], always: str = "") -> str:
    """The command line that calls a job with these options: those named in `always`, and what is not the default."""
    defaults = {name: p.default for name, p in inspect.signature(function).parameters.items()}
    parts = [function.__name__, *map(str, places)]
    for name, value in options.items():
        if value == defaults[name] and name not in always.split():
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            parts.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            parts += [f"--{flag}", *(map(str, value) if isinstance(value, list | tuple) else [_plain(value)])]
    return f"nextmove {shlex.join(parts)}"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def at_least(least: int, **values: int) -> None:
    """Raises ConfigError naming the first of these options that is smaller."""
    for name, value in values.items():
        if value < least:
            raise ConfigError(f"{name}: expected at least {least}, found {value}")


def share(**values: float) -> None:
    """Raises ConfigError naming the first of these options that is no share of a whole that leaves something."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ConfigError(f"{name}: expected 0 to less than 1, found {value:g}")


def left_out(function: Callable[..., Any], options: Mapping[str, Any], names: str, why: str) -> None:
    """Raises ConfigError naming the first of these options (names apart by spaces) that is not the job's default."""
    defaults = inspect.signature(function).parameters
    for name in names.split():
        if options[name] != defaults[name].default:
            raise ConfigError(f"{name}: {why}; leave out --{name.replace('_', '-')}")


def place(out: Path) -> Path:
    """The folder `out`, made if need be and written to once, for no long work shall end at a disk that takes nothing.

    Raises ConfigError naming it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out, buffering=0) as file:
            file.write(bytes(4096))
    except OSError as problem:
        told = f"out: expected a folder that can be written to, found {out} ({problem.strerror})"
        raise ConfigError(told) from None
    return out
