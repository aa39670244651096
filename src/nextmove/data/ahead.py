"""Reading begun before it is asked for: while a training is imported, one processor would have nothing to do."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from nextmove.data.dataset import Dataset, open_dataset
from nextmove.data.errors import DataError
from nextmove.data.order import check_order

ALWAYS = "action"
"""What every training on a robot's data reads, whatever it looks at."""
_begun: dict[Path, Future[Dataset]] = {}


def begin(root: Path) -> None:
    """Begins to open a data set and to read its actions and counters, for the next `opened` of the same folder."""
    pool = ThreadPoolExecutor(1, "ahead")
    _begun[root] = pool.submit(_read, root)
    pool.shutdown(wait=False)


def opened(root: Path) -> Dataset:
    """The data set, with what was read of it ahead, once; raises as `open_dataset`.

    What went wrong meanwhile is found again, and said, by who reads it.
    """
    begun = _begun.pop(root, None)
    if begun is not None and begun.exception() is None:
        return begun.result()
    return open_dataset(root)


def _read(root: Path) -> Dataset:
    dataset = open_dataset(root)
    read_all(dataset, [ALWAYS])
    return dataset


def read_all(dataset: Dataset, names: list[str]) -> None:
    """Reads number features, and meanwhile the counters of the rows, which have to be those of their episodes.

    Raises DataError; what is wrong with the order of the rows is said first.
    """

    def count() -> None:
        check_order(dataset)
        dataset.column("task_index")

    with ThreadPoolExecutor(1) as beside:
        order = beside.submit(count)
        try:
            dataset.floats(names)
        except DataError:
            order.result()
            raise
        order.result()
