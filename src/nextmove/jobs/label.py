"""Writes what demonstrations are about to do, step by step, into their data set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from nextmove import data, sim
from nextmove.contracts import PLAN
from nextmove.data.labelled import add_texts
from nextmove.data.record import RECORDING
from nextmove.host.files import read_json
from nextmove.sim.subtasks import subtasks


def label(folder: str | Path) -> Path:
    """Writes the next sub-task of every step into a recorded data set, in words, as its column `plan`.

    The words are those of the phases of the scripted expert that was recorded, as far as its tasks have any
    (Meta-World's `metaworld/mt10`). A policy whose `--parts` name `planner` learns to write them before it acts.

    Args:
        folder: A data set that `nextmove record` wrote.

    Raises:
        DataError: for a folder that is no data set, or was not recorded from a simulator.
        SimulatorError: for a task without words for its sub-tasks.
    """
    root = Path(folder)
    dataset = data.open_dataset(root)
    sources = read_json(root / "meta" / RECORDING).get("sources") if (root / "meta" / RECORDING).is_file() else None
    if not sources or len(sources) != dataset.num_episodes:
        raise data.DataError(
            f"{root}: expected a data set recorded from a simulator, whose meta/{RECORDING} tells the task of each of "
            f"{dataset.num_episodes} episodes, found {len(sources or [])}; record it with nextmove record"
        )
    texts: list[str] = []
    for episode, source in enumerate(sources):
        task = sim.task(source["task"])
        names = [name for name in task.features if name != "action"]
        rows = slice(int(dataset.episode_from[episode]), int(dataset.episode_to[episode]))
        columns = {name: column[rows] for name, column in dataset.floats(names).items()}
        texts += subtasks(task, columns)
    add_texts(root, PLAN, texts)
    counts = Counter(texts)
    print(f"{root}: {len(texts)} steps, {len(counts)} sub-tasks")
    for text, count in counts.most_common():
        print(f"  {count:8} {text}")
    return root
