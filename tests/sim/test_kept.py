"""What a process keeps open from one demonstration to the next."""

from __future__ import annotations

from typing import Any

from nextmove.sim import kept


class Opened:
    def __init__(self, name: str) -> None:
        self.name, self.open = name, True

    def close(self) -> None:
        self.open = False


def test_the_last_few_stay_open_and_the_one_used_longest_ago_is_closed(monkeypatch) -> None:
    monkeypatch.setattr(kept, "KEPT", 2)
    make: Any = kept.kept_open(Opened)  # type: ignore[arg-type]
    first, second = make("a"), make("b")
    assert make("a") is first, "kept"
    third = make("c")
    assert [one.open for one in (first, second, third)] == [True, False, True]
    assert make("b") is not second, "made anew"
    assert [one.open for one in (first, third)] == [False, True]
