"""What a run must remember to go on as if it had never stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.config import encode
from nextmove.contracts import Optim
from nextmove.training import checkpoint
from nextmove.training.ema import Ema
from nextmove.training.optim import Update

Save = Callable[[nn.Module, Path], Any]


class State:
    """Weights, averages and moments of a run as tensors, and what identifies the run as JSON.

    A model may carry a `card` (its system, recipe and spec): a checkpoint of another card is refused even where all
    shapes agree. So are other optimiser settings, another seed and other `data`, because the run would not be the same
    run.
    """

    def __init__(
        self,
        model: nn.Module,
        ema: Ema,
        update: Update,
        *,
        optim: Optim,
        seed: int,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.ema, self.update = model, ema, update
        identity = {"card": getattr(model, "card", None), "optim": optim, "seed": seed, "data": data}
        self.identity: dict[str, Any] = json.loads(json.dumps(encode(identity)))

    def save(self, folder: Path, step: int, facts: Mapping[str, Any], save_model: Save | None) -> Path:
        """Writes all of it as FOLDER/last-STEP, with the averaged model in `model` if there is a `save_model`."""
        content = {**self.identity, **facts}
        # Two: should one be damaged, the run goes on from the other.
        return checkpoint.write(folder, "last", step, self._tensors(), content, self._extra(save_model), keep=2)

    def save_best(self, folder: Path, step: int, facts: Mapping[str, Any], save_model: Save | None) -> Path:
        """Writes the averaged weights as FOLDER/best-STEP."""
        weights = self.ema.model.state_dict()
        return checkpoint.write(folder, "best", step, weights, {**self.identity, **facts}, self._extra(save_model))

    def restore(self, path: Path) -> dict[str, Any]:
        """Takes up a checkpoint and returns its facts; raises CheckpointError naming the first difference."""
        found, facts = checkpoint.read(path)
        for name, value in self.identity.items():
            known = facts.get(name)
            if name == "data":
                # Of its data a checkpoint may say nothing, and one of another version says other things.
                shared = {key: value[key] for key in value or {} if key in (known or {})}
                value, known = shared, {key: known[key] for key in shared} if known else {}
            checkpoint.check_facts(path, value, known, name)
        moments = {name: value for name, value in found.items() if name.startswith("adamw/")}
        own = self._weights()
        checkpoint.check_tensors(path, own, {k: v for k, v in found.items() if k not in moments})
        checkpoint.check_tensors(path, self._moments(moments), moments)
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(found[name])
        self.update.restore({name.removeprefix("adamw/"): value for name, value in moments.items()})
        return facts

    def bytes(self) -> int:
        """What a checkpoint takes on the disk, about, once every parameter has been moved."""
        moved = 2 * sum(p.nbytes for p in self.update.parameters)
        return moved + sum(value.nbytes for value in self._weights().values())

    def _weights(self) -> dict[str, Tensor]:
        self.ema.refresh()
        weights = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        if self.ema.model is not self.model:
            weights |= {f"ema/{name}": value for name, value in self.ema.model.state_dict().items()}
        return weights

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
