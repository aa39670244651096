"""Keys of episodes, task and seed, and ranges of them as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Key = tuple[str, int]
"""The task's name (empty where there is one task without a name) and the seed."""


def ranges(seeds: Sequence[int]) -> str:
    """1, 2, 3, 7 as 1–3, 7."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1][1:] = [seed]
        else:
            parts.append([seed])
    return ", ".join("–".join(map(str, part)) for part in parts)


def by_task(keys: Iterable[Key]) -> dict[str, list[int]]:
    """Seeds by task, both in the order given."""
    found: dict[str, list[int]] = {}
    for task, seed in keys:
        found.setdefault(task, []).append(seed)
    return found


def episodes(keys: Iterable[Key]) -> str:
    """seeds 1–3, 7; with several tasks, or one that has a name: reach seeds 1–3, push seed 7."""
    return ", ".join(
        f"{task} {'seed' if len(seeds) == 1 else 'seeds'} {ranges(seeds)}".strip()
        for task, seeds in by_task(keys).items()
    )
