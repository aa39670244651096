"""The state from which a run resumes exactly."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nextmove import weights
from nextmove.config import encode
from nextmove.contracts import Optim
from nextmove.training import checkpoint, sharded
from nextmove.training.distributed import World
from nextmove.training.ema import Ema
from nextmove.training.optim import Update

Data = Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None
"""Plain JSON values that tell a run's data from others, or what gives them."""
ALONE = World()
Save = Callable[[nn.Module, Path], Any]


class State:
    """Weights, averages and moments of a run as tensors, and what identifies the run as JSON.

    Frozen parameters (`requires_grad` False when the run begins) are no part of it: a checkpoint holds their hashes,
    and the run that takes it up brings the same. Buffers are written, since only who wrote a module knows what changes
    them. A model may carry a `card` (its system, recipe and spec): a checkpoint of another card is refused even where
    all shapes agree. So are other optimiser settings, another seed and other `data`, because the run would not be the
    same run. `data` that are a function are asked for when a checkpoint is first written or read.
    """

    def __init__(
        self,
        model: nn.Module,
        ema: Ema,
        update: Update,
        *,
        optim: Optim,
        seed: int,
        data: Data = None,
        world: World = ALONE,
        frozen: Mapping[str, str] | None = None,
    ) -> None:
        """frozen: hashes of the frozen parameters, where their values lie in shares."""
        self.model, self.ema, self.update, self.world = model, ema, update, world
        if frozen is not None:
            self.frozen = dict(frozen)
        card = getattr(model, "card", None)
        self._identity = {"card": None if card is None else vars(card), "optim": optim, "seed": seed}
        self._data = data
        named = model.named_parameters(remove_duplicate=False)
        self._frozen = {name: p for name, p in named if not p.requires_grad}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What tells the run from others."""
        data = self._data() if callable(self._data) else self._data
        found: dict[str, Any] = json.loads(json.dumps(encode({**self._identity, "data": data})))
        return found

    @cached_property
    def frozen(self) -> dict[str, str]:
        """Hashes of the frozen parameters by name."""
        return {name: weights.digest(p) for name, p in self._frozen.items()}

    def save(self, folder: Path, step: int, facts: Mapping[str, Any], save_model: Save | None) -> Path:
        """Writes all of it as FOLDER/last-STEP, with the averaged model in `model` if there is a `save_model`."""
        # Two: should one be damaged, the run goes on from the other.
        return self._write(folder, "last", step, self._tensors(), facts, save_model, keep=2)

    def save_best(self, folder: Path, step: int, facts: Mapping[str, Any], save_model: Save | None) -> Path:
        """Writes the averaged weights as FOLDER/best-STEP."""
        return self._write(folder, "best", step, self.averages(), facts, save_model)

    def _write(
        self,
        folder: Path,
        kind: str,
        step: int,
        tensors: Mapping[str, Tensor],
        facts: Mapping[str, Any],
        save_model: Save | None,
        keep: int = 1,
    ) -> Path:
        content = {**self.identity, **facts, "frozen": self.frozen}
        if not self.world.sharded:
            return checkpoint.write(folder, kind, step, tensors, content, self._extra(save_model), keep=keep)
        content["moved"] = [name for name in self.update.named if f"adamw/step/{name}" in tensors]
        write = partial(sharded.write, tensors=tensors)
        return checkpoint.write_shares(folder, kind, step, write, content, self.world, keep=keep)

    def restore(self, path: Path) -> dict[str, Any]:
        """Restores a checkpoint and returns its facts; raises CheckpointError naming the first difference."""
        found, facts = checkpoint.read(path)
        for name, value in self.identity.items():
            known = facts.get(name)
            if name == "data":
                # Of its data a checkpoint may say nothing, and one of another version says other things.
                shared = {key: value[key] for key in value or {} if key in (known or {})}
                value, known = shared, {key: known[key] for key in shared} if known else {}
            checkpoint.check_facts(path, value, known, name)
        self._check_frozen(path, facts.get("frozen", {}))
        own = self._weights()
        if checkpoint.SHARES in facts:
            self._take_shares(path, own, facts.get("moved", []))
            return facts
        moments = {name: value for name, value in found.items() if name.startswith("adamw/")}
        checkpoint.check_tensors(path, own, {k: v for k, v in found.items() if k not in moments})
        checkpoint.check_tensors(path, self._moments(moments), moments)
        with torch.no_grad():
            for name, value in own.items():
                sharded.put(value, found[name])
        self.update.restore({name.removeprefix("adamw/"): value for name, value in moments.items()})
        return facts

    def _take_shares(self, path: Path, own: Mapping[str, Tensor], moved: Sequence[str]) -> None:
        """Reads what several processes have written, into what this one has of it."""
        parts = {f"adamw/step/{name}": torch.zeros(()) for name in moved}
        for kind in ("exp_avg", "exp_avg_sq"):
            parts |= {f"adamw/{kind}/{name}": torch.empty_like(self.update.named[name]) for name in moved}
        try:
            sharded.read(path / checkpoint.SHARES, {**own, **parts}, self.world)
        except (KeyError, ValueError, RuntimeError) as problem:
            raise checkpoint.CheckpointError(f"{path}: {problem}: another model's checkpoint?") from None
        self.update.restore({name.removeprefix("adamw/"): value for name, value in parts.items()})

    def bytes(self) -> int:
        """What a checkpoint takes on the disk, about, once every parameter has been moved."""
        moved = 2 * sum(p.nbytes for p in self.update.parameters)
        return moved + sum(value.nbytes for value in self._weights().values())

    def averages(self) -> dict[str, Tensor]:
        """Averaged weights, and buffers, by their names in the model."""
        self.ema.refresh()
        return {name: value for name, value in self.ema.model.state_dict().items() if name not in self._frozen}

    def _weights(self) -> dict[str, Tensor]:
        state = self.model.state_dict()
        held = {f"model/{name}": value for name, value in state.items() if name not in self._frozen}
        if self.ema.model is not self.model:
            held |= {f"ema/{name}": value for name, value in self.averages().items()}
        return held

    def _check_frozen(self, path: Path, found: Mapping[str, str]) -> None:
        """Raises CheckpointError naming the first frozen parameter that is not what it was."""
        for name in [*self.frozen, *(name for name in found if name not in self.frozen)]:
            if name not in found:
                raise checkpoint.CheckpointError(f"{path}: {name}: frozen in this run, trained by the checkpoint's")
            if name not in self.frozen:
                raise checkpoint.CheckpointError(f"{path}: {name}: trained by this run, frozen in the checkpoint's")
            if self.frozen[name] != found[name]:
                differ = f"expected weights of hash {found[name]}, found {self.frozen[name]}"
                raise checkpoint.CheckpointError(f"{path}: frozen parameter {name}: {differ}: another base model?")

    def _moments(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors shaped as what AdamW keeps of each parameter that it has moved."""
        shapes: dict[str, Tensor] = {}
        for name, p in self.update.named.items():
            if f"adamw/step/{name}" in found:
                shapes |= {f"adamw/step/{name}": torch.zeros(()), f"adamw/exp_avg/{name}": p}
                shapes |= {f"adamw/exp_avg_sq/{name}": p}
        return shapes

    def _tensors(self) -> dict[str, Tensor]:
        moments = {f"adamw/{name}": value for name, value in self.update.state().items()}
        return {**self._weights(), **moments}

    def _extra(self, save_model: Save | None) -> Callable[[Path], None] | None:
        if save_model is None:
            return None

        def extra(folder: Path) -> None:
            save_model(self.ema.model, folder / "model")

        return extra
