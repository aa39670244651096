"""Which episodes have to be played for so many successes, of one task or of several that take turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class RecordingError(RuntimeError):
    """Recording stopped; what was finished is kept and the same call goes on from there."""

    def __init__(self, message: str, *, resumable: bool = True) -> None:
        super().__init__(message)
        self.resumable = resumable


class Numbers:
    """Which episode is due: the smallest numbers that give `wanted` successes, never one too many."""

    def __init__(self, done: Mapping[int, bool], wanted: int) -> None:
        self.wanted = wanted
        self._good = {number for number, success in done.items() if success}
        self._bad = {number for number, success in done.items() if not success}
        self._next = 0

    @property
    def end(self) -> int:
        """Episodes 0 .. end - 1 have to be played, as far as is known: one more for each of them that failed."""
        end = self.wanted
        for number in sorted(self._bad):
            end += number < end
        return end

    def next_task(self) -> int | None:
        """The next free number, None if there is nothing to do (until another fails)."""
        end = self.end
        while self._next < end:
            self._next += 1
            if self._next - 1 not in self._good and self._next - 1 not in self._bad:
                return self._next - 1
        return None

    def finish(self, number: int, success: bool) -> None:
        """Episode `number` has been played. Raises RecordingError when too many have failed."""
        (self._good if success else self._bad).add(number)
        failed = len(self.failed())
        if failed > max(10, self.wanted):
            message = f"{failed} of {self.end} episodes failed; is this the right expert?"
            raise RecordingError(message, resumable=False)

    def succeeded(self) -> list[int]:
        """The numbers to keep, in order."""
        end = self.end
        return sorted(number for number in self._good if number < end)

    def failed(self) -> list[int]:
        """The numbers passed over, in order."""
        end = self.end
        return sorted(number for number in self._bad if number < end)


class Turns:
    """The same of several tasks that take turns: number n is of task n % count; each is to have `wanted` successes."""

    def __init__(self, done: Mapping[int, bool], wanted: int, tasks: Sequence[str]) -> None:
        """tasks: their instructions, for errors."""
        self._tasks, count = tasks, len(tasks)
        self.wanted = wanted * count
        self._each = [
            Numbers({number // count: good for number, good in done.items() if number % count == task}, wanted)
            for task in range(count)
        ]

    def next_task(self) -> int | None:
        """The next free number, None if there is nothing to do (until another fails).

        Those of one task come before those of the next, so that a process seldom needs another world.
        """
        for task, numbers in enumerate(self._each):
            number = numbers.next_task()
            if number is not None:
                return number * len(self._each) + task
        return None

    def finish(self, number: int, success: bool) -> None:
        """Episode `number` has been played. Raises RecordingError when too many of its task have failed."""
        count = len(self._each)
        try:
            self._each[number % count].finish(number // count, success)
        except RecordingError as problem:
            if count == 1:
                raise
            raise RecordingError(f"{self._tasks[number % count]!r}: {problem}", resumable=False) from None

    def succeeded(self) -> list[int]:
        """The numbers to keep, in order: task after task, then again."""
        return self._numbers([each.succeeded() for each in self._each])

    def failed(self) -> list[int]:
        """The numbers passed over, in order."""
        return self._numbers([each.failed() for each in self._each])

    def _numbers(self, found: Sequence[Sequence[int]]) -> list[int]:
        count = len(self._each)
        return sorted(number * count + task for task, numbers in enumerate(found) for number in numbers)
