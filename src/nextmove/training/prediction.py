"""What a run will take, foreseen from a few rows before its first step, and what it took.

Memory at its most is what the process holds, AdamW's two moments, and the most that loss and gradients of a part of the
batch hold at once: tensors by what a few rows tell (`training.live`), and on a CPU what the whole process took while
all rows were timed, since operators take memory of their own (oneDNN's copies of what it multiplies). Pages of mapped
files, such as stores of frames, are not counted: the system takes them back at need. A step takes its parts' gradients,
which are timed once, and the update, which reads and writes each trained number a few times. Waiting for data,
validation and saving are counted apart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from nextmove.contracts import Batch
from nextmove.host import memory
from nextmove.training.config import TrainConfig
from nextmove.training.live import most
from nextmove.training.parts import batch_size, first_rows, tensors
from nextmove.training.step import Step

ROUNDS, QUICK = 3, 0.25
"""How often gradients that take less than these seconds are timed."""
TOUCHED = 13
"""Numbers read or written for each that is trained: norm, clipping, AdamW and the average."""
PROBE = 1 << 24
"""Bytes that are copied to time the memory."""
LOOK = 0.05
"""Seconds of steps after which the memory of the process is looked at again."""


@dataclass(frozen=True)
class Taken:
    """Memory at its most (bytes; None: not known) and seconds of a step without waiting for data."""

    bytes: float | None
    seconds: float

    def __str__(self) -> str:
        return f"{duration(self.seconds)} a step" + ("" if self.bytes is None else f", {size(self.bytes)} of memory")


class Forecast:
    """What the steps of one sitting will take, and what they took."""

    def __init__(self, take: Step, config: TrainConfig) -> None:
        self.take, self.config = take, config
        self.foreseen: Taken | None = None
        self.taken: Taken | None = None
        self._busy, self._steps = 0.0, 0
        self._peak: memory.Peak | None = None
        self._looked = -math.inf

    def make(self, step: int, batch: Batch, mixed: bool) -> list[str]:
        """Tries a few rows of the first batch; what to say before step number `step`."""
        if not self.config.predict:
            return []
        take, parts = self.take, self.config.accumulate

        def compute(rows: int) -> None:
            some = first_rows(batch, rows * parts)
            with take.tried(step, some) as gradients:
                gradients(mixed)

        self.foreseen = foresee(
            compute,
            rows=max(1, batch_size(batch) // parts),
            parts=parts,
            trained=take.update.parameters,
            moments=bool(take.update.adamw.state),
            known=[*take.model.parameters(), *take.model.buffers(), *tensors(batch)],
            device=take.device,
        )
        if take.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(take.device)
        else:
            self._peak = memory.Peak()
        warning = warned(self.foreseen, take.device)
        return [f"predicted: {self.foreseen}; {self._whole(step)}", *([warning] if warning else [])]

    def _whole(self, step: int) -> str:
        assert self.foreseen is not None
        if self.config.steps:
            left = max(0, self.config.steps - step)
            return f"{left} steps in {_clock(left * self.foreseen.seconds)}, data, validation and saving apart"
        return f"about {60 * self.config.minutes / max(self.foreseen.seconds, 1e-9):.0f} steps at most"

    def stepped(self, seconds: float) -> None:
        """Counts a step that was busy for so many seconds."""
        self._busy, self._steps = self._busy + seconds, self._steps + 1
        if self._peak is not None and self._busy >= self._looked + LOOK:
            self._peak.look()
            self._looked = self._busy

    def close(self) -> str | None:
        """What to say at the end, where something was foreseen and steps were made."""
        self.taken = found(self._steps, self._busy, self._peak, self.take.device)
        return None if self.foreseen is None or self.taken is None else compared(self.foreseen, self.taken)


def foresee(
    compute: Callable[[int], object],
    *,
    rows: int,
    parts: int,
    trained: Sequence[Tensor],
    moments: bool,
    known: Iterable[Tensor],
    device: torch.device,
) -> Taken:
    """What steps will take.

    Args:
        compute: Loss and gradients of the first so many rows of a part of the batch; leaves everything as it was.
        rows: Of a part.
        parts: Into which this process cuts its batch.
        trained: Parameters.
        moments: Whether the optimiser has its moments already.
        known: All tensors of the model and of the batch.
        device: Where they are.
    """
    held = torch.cuda.memory_allocated(device) if device.type == "cuda" else memory.resident()
    weights = sum(p.nbytes for p in trained)
    process = memory.Peak() if device.type == "cpu" else None

    def whole(peak: float) -> float | None:
        return None if held is None else held + 2 * weights * (not moments) + max(peak + weights * (parts > 1), weights)

    try:
        peak = most(compute, rows, known, device)
    except (RuntimeError, ValueError):  # Of few rows alone: what is wrong with all of them is said below.
        peak = None
    free, taken = room(device), None if peak is None else whole(peak)
    # What there is no room for is not tried.
    some = rows if taken is None or free is None or taken <= free else max(1, rows // 4)
    seconds: list[float] = []
    while not seconds or (len(seconds) < ROUNDS and seconds[-1] < QUICK):
        began = time.perf_counter()
        compute(some)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    seen = process.look() if process else None
    if seen is not None and held is not None and peak is not None:
        taken = whole(max(peak, seen - held))
    return Taken(taken, median(seconds) * rows / some * parts + update_seconds(weights, device))


def update_seconds(weights: int, device: torch.device) -> float:
    """Seconds of an update of so many bytes of weights, by how fast memory is copied."""
    source = torch.ones(PROBE, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return TOUCHED * weights / (2 * PROBE) * min(times)


def found(steps: int, seconds: float, peak: memory.Peak | None, device: torch.device) -> Taken | None:
    """What `steps` steps took that were busy for so many seconds; `peak`: of the process since they began."""
    if not steps:
        return None
    if device.type == "cuda":
        return Taken(torch.cuda.max_memory_allocated(device), seconds / steps)
    return Taken(None if peak is None else peak.look(), seconds / steps)


def compared(foreseen: Taken, taken: Taken) -> str:
    """A sentence on both."""
    text = f"predicted {foreseen}; found {duration(taken.seconds)} a step ({_off(foreseen.seconds, taken.seconds)})"
    if foreseen.bytes is None or taken.bytes is None:
        return text
    return f"{text}, {size(taken.bytes)} ({_off(foreseen.bytes, taken.bytes)})"


def room(device: torch.device) -> int | None:
    """Bytes that a process may hold, those that it holds included; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) + torch.cuda.memory_allocated(device)
    free, own = memory.available(), memory.resident()
    return None if free is None or own is None else free + own


def warned(foreseen: Taken, device: torch.device) -> str | None:
    """What to say where that is more than there is; else None."""
    free = room(device)
    if foreseen.bytes is None or free is None or foreseen.bytes <= free:
        return None
    return (
        f"memory: a step takes {size(foreseen.bytes)}, there are {size(free)}; less take --gradient-checkpointing, "
        "--accumulate N, a smaller --recipe.optim.batch, --lora RANK"
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def duration(seconds: float) -> str:
    """Seconds as text."""
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def size(count: float) -> str:
    """Bytes as text."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _off(expected: float, found: float) -> str:
    return f"{100 * (found / expected - 1):+.0f} %" if expected else "none predicted"
