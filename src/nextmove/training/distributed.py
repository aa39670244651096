"""Several processes that train one model, each on its rows of every batch; launched by torchrun.

Gradients are averaged by hand after the backward pass instead of by DistributedDataParallel: its hooks live on
`forward`, which losses that differentiate inside (`torch.func.jvp`) do not pass through.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from nextmove.contracts import _torch
from nextmove.host.lock import InUseError, hold

BUCKET = 8 * 2**20
"""Values sent at once."""


class Buffers:
    """What is sent and received, the very same tensors at every call; those of a device share their memory.

    A thread of gloo may be the last to let go of a tensor, and then needs Python's lock to free it. torch 2.7 destroys
    a group holding that lock and waits for this thread: for good. So these outlive the group.
    """

    def __init__(self) -> None:
        self._bytes: dict[torch.device, Tensor] = {}
        self._views: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}

    def __call__(self, values: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The buffer (values,), which holds anything until it is written."""
        key, size = (values, dtype, device), values * dtype.itemsize
        if key not in self._views:
            if device not in self._bytes or size > len(self._bytes[device]):
                self._bytes[device] = torch.empty(max(size, BUCKET), dtype=torch.uint8, device=device)
            self._views[key] = self._bytes[device][:size].view(dtype)
        return self._views[key]

    def filled(self, tensors: Sequence[Tensor]) -> Tensor:
        """The values of tensors of one dtype on one device, one after the other, in their buffer."""
        flat = self(sum(t.numel() for t in tensors), tensors[0].dtype, tensors[0].device)
        torch.cat([t.reshape(-1) for t in tensors], out=flat)
        return flat


@dataclass(frozen=True)
class World:
    """The processes of a run; the default is the single one."""

    rank: int = 0
    size: int = 1
    sharded: bool = False
    """Whether weights lie in shares on the processes, in place of copies (`training.sharded`)."""
    buffers: Buffers = field(default_factory=Buffers, compare=False, repr=False)

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes, in float64, equal on each."""
        if self.size == 1:
            return list(values)
        sums = self.buffers.filled([torch.tensor(values, dtype=torch.float64)])
        torch.distributed.all_reduce(sums)
        return sums.tolist()

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in the order of their ranks, equal on each."""
        if self.size == 1:
            return rows
        sent = torch.uint8 if rows.dtype == torch.bool else rows.dtype
        found = self.buffers(self.size * rows.numel(), sent, rows.device)
        found.zero_().view(self.size, -1)[self.rank] = rows.reshape(-1)
        torch.distributed.all_reduce(found)
        return found.view(-1, *rows.shape[1:]).to(rows.dtype, copy=True)

    def mean_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replaces every gradient by its mean over the processes; None counts as 0 unless it is None on all.

        Shares are means already.
        """
        if self.size == 1:
            return
        parameters = [p for p in parameters if not hasattr(p, "to_local")] if self.sharded else parameters
        used = self.sum([float(p.grad is not None) for p in parameters])
        grads = []
        for p in (p for p, count in zip(parameters, used, strict=True) if count):
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            grads.append(p.grad)
        for bucket in _buckets(grads):
            flat = self.buffers.filled(bucket)
            torch.distributed.all_reduce(flat)
            _spread(flat.div_(self.size), bucket)

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Gives every process the first one's values, in place."""
        if self.size > 1:
            for bucket in _buckets(tensor.data for tensor in tensors):
                flat = self.buffers.filled(bucket)
                torch.distributed.broadcast(flat, 0)
                _spread(flat, bucket)

    def wait(self) -> None:
        """Returns when every process is here."""
        self.sum([0.0])


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Runs of tensors of one dtype and device with at most BUCKET values together (or a single larger one)."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        full = sum(t.numel() for t in bucket) + tensor.numel() > BUCKET
        if bucket and (full or (bucket[0].dtype, bucket[0].device) != (tensor.dtype, tensor.device)):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def _spread(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    """Writes the values (N,) into the tensors, one after the other."""
    parts = torch.split(flat, [t.numel() for t in tensors])
    _torch.copy_(tensors, [part.view_as(t) for part, t in zip(parts, tensors, strict=True)])


_groups = itertools.count()
"""How many groups this process has joined; its peers have joined as many."""


@contextmanager
def joined() -> Iterator[World]:
    """The world that torchrun's environment describes (or that the caller has joined already); left at the end."""
    distributed = torch.distributed
    ready = distributed.is_available() and distributed.is_initialized()
    if not ready and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World()
        return
    if not ready:
        from torch.distributed.rendezvous import rendezvous

        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store, rank, size = next(rendezvous("env://"))
        # Each group in its own part of the store: a second one would find the first one's addresses there, and hang.
        part = distributed.PrefixStore(f"nextmove/{next(_groups)}", store)  # type: ignore[attr-defined]
        distributed.init_process_group(backend, store=part, rank=rank, world_size=size)
    world = World(distributed.get_rank(), distributed.get_world_size())
    try:
        yield world
    finally:
        if not ready:
            distributed.destroy_process_group()


@contextmanager
def alone(folder: Path) -> Iterator[World]:
    """The joined world; its first process keeps other runs out of the folder, and all others hear whether it could.

    Raises InUseError in every process if another run writes into the folder.
    """
    with joined() as world, ExitStack() as stack:
        refused: InUseError | None = None
        if world.first:
            try:
                stack.enter_context(hold(folder))
            except InUseError as problem:
                refused = problem
        if world.sum([refused is not None])[0]:
            raise refused or InUseError(f"{folder}: in use by another run, as the first process found")
        yield world


def device_of(device: str) -> torch.device:
    """The device of this process: a bare "cuda" is the GPU with the process's number on its machine."""
    if device == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device(device)
