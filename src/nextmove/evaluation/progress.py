"""Progress of an evaluation: a bar on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager


@contextmanager
def progress_bar(show: bool, text: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """A callback of the number done and a text; draws a bar with the time left if asked for."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not show) as bar:
        task = bar.add_task(text, total=total)
        yield lambda count, now: bar.update(task, advance=count, description=now)


def counted_bar(what: str) -> Callable[[int], AbstractContextManager[Callable[[int], None]]]:
    """Given a total, a bar of one unchanging text, moved by numbers; none where there is nothing to do."""

    @contextmanager
    def bar(total: int) -> Iterator[Callable[[int], None]]:
        with progress_bar(bool(total), what, total) as move:
            yield lambda count: move(count, what)

    return bar
