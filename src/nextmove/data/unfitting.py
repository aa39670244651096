"""Windows of which some are told another task's instruction and teach to stay: so that a policy listens.

Where every scene belongs to one task, what is seen tells what to do, and an instruction says nothing more: a policy
trained so does the scene's task whatever it is told. A row that is told what does not fit the scene learns not to move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextmove.contracts import PLAN, TASK
from nextmove.data.errors import DataError
from nextmove.data.tables import Array
from nextmove.data.windows import Windows

WAIT = "Wait."
"""The sub-task of such a row."""


class Unfitting:
    """The same rows, a share of them told another of the set's instructions; which and what is decided by row and seed.

    Their actions are zeros, which displacements and velocities are at rest, but where a dimension has the name of a
    state's: there what that state is. Raises DataError for a share outside [0, 1) and a set of one instruction.
    """

    def __init__(self, windows: Windows, share: float, seed: int, held: Sequence[tuple[str, int]] = ()) -> None:
        """held: for each dimension of the action the state and its dimension that it is at rest, ("", 0) for zero."""
        self.windows, self.share, self.seed, self.held = windows, share, seed, list(held)
        self.texts = sorted({windows.dataset.tasks[i] for i in windows.task_numbers()})
        if not 0 <= share < 1:
            raise DataError(f"unfitting: expected a share in [0, 1), found {share}")
        if len(self.texts) < 2:
            raise DataError(f"unfitting: expected a data set of several instructions, found {len(self.texts)}")

    @property
    def decodes(self) -> bool:
        """As the windows."""
        return self.windows.decodes

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, indices: Sequence[int] | Array | Tensor) -> dict[str, Any]:
        """As `Windows.batch`."""
        out = self.windows.batch(indices)
        told, action = list(out[TASK]), out[self.windows.action].clone()
        for row, number in enumerate(out["index"].tolist()):
            rng = np.random.default_rng((self.seed, number))
            if rng.random() >= self.share:
                continue
            others = [text for text in self.texts if text != told[row]]
            told[row] = others[int(rng.integers(len(others)))]
            action[row] = torch.tensor(
                [float(out[name][row, -1, dim]) if name else 0.0 for name, dim in self.held] or [0.0] * action.shape[-1]
            )
            if PLAN in out:
                out[PLAN][row] = WAIT
        return {**out, TASK: told, self.windows.action: action}
