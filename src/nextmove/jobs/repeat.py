"""What jobs have in common: the command that makes their output again, bounds of options, a place that takes it."""

from __future__ import annotations

import functools
import inspect
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from nextmove.config import ConfigError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Call:
    """A call of a job: every one of its options by name, those left at their default included."""

    job: Callable[..., Any]
    options: Mapping[str, Any]

    def command(self, always: str = "", name: str = "") -> str:
        """The command line that does the same, see `command`; `name` where it is not called as the job is."""
        kinds = {name: p.kind for name, p in inspect.signature(self.job).parameters.items()}
        places = {name for name, kind in kinds.items() if kind is not inspect.Parameter.KEYWORD_ONLY}
        given = [value for name, value in self.options.items() if name in places and value is not None]
        rest = {name: value for name, value in self.options.items() if name not in places}
        return command(self.job, given, rest, always, name)

    def leave_out(self, names: str, why: str) -> None:
        """Raises ConfigError naming the first of these options (names apart by spaces) that is not its default."""
        defaults = inspect.signature(self.job).parameters
        for name in names.split():
            if self.options[name] != defaults[name].default:
                raise ConfigError(f"{name}: {why}; leave out --{name.replace('_', '-')}")


def repeatable(job: Callable[Concatenate[Call, P], R]) -> Callable[P, R]:
    """The job as its caller sees it: without its first argument, which is the call itself.

    So a job can say what makes its output again without naming all of its options a second time.
    """
    signature = inspect.signature(job)
    shown = signature.replace(parameters=list(signature.parameters.values())[1:])

    @functools.wraps(job)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = shown.bind(*args, **kwargs)
        bound.apply_defaults()
        return job(Call(called, bound.arguments), *args, **kwargs)

    called.__signature__ = shown  # type: ignore[attr-defined]
    return called


def command(
    function: Callable[..., Any], places: Sequence[Any], options: Mapping[str, Any], always: str = "", name: str = ""
) -> str:
    """The command line that calls a job with these options: those named in `always`, and what is not the default."""
    defaults = {name: p.default for name, p in inspect.signature(function).parameters.items()}
    parts = [name or function.__name__, *map(str, places)]
    for option, value in options.items():
        if value == defaults[option] and option not in always.split():
            continue
        flag = option.replace("_", "-")
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


def writable_dir(out: Path) -> Path:
    """The folder `out`, made if need be; raises ConfigError before any work if it cannot be written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out, buffering=0) as file:
            file.write(bytes(4096))
    except OSError as problem:
        message = f"out: expected a folder that can be written to, found {out} ({problem.strerror})"
        raise ConfigError(message) from None
    return out


@contextmanager
def nothing_left(out: Path) -> Iterator[None]:
    """Removes the folder again if what happens inside fails before anything was written into it."""
    there = out.exists()
    try:
        yield
    except BaseException:
        if not there:
            # It stays where it holds something.
            with suppress(OSError):
                out.rmdir()
        raise
