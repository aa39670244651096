"""Gradients of a case that records none, by its reference: transformers where it is installed and opens the folder,
or a plain restatement of what transformers lacks.

What is differentiated is the case's own loss: a reference that gives another number is not asked.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from benchmarks.parity import restated, restated_blip, restated_expert, restated_openvla
from benchmarks.parity.gradients import FILE, PREFIX, Numbered
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

SAME = 1e-4
"""How far apart, relative, the reference's loss and the recorded one may be."""
Restatement = Callable[[Mapping[str, Tensor], Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]
RESTATED: Mapping[str, Restatement] = {
    "flamingo": restated.flamingo,
    "blip-pretrain": restated_blip.pretraining,
    "pi0": restated_expert.pi0,
    "pi05": restated_expert.pi0,
    "pi0_fast": restated_expert.pi0_fast,
    "openvla": restated_openvla.openvla,
    "smolvla": restated_expert.smolvla,
}
"""By model_type or type, what transformers has no class of: tensors, what describes the case (case.json, else
config.json) and inputs to what the case records of outputs."""


def gradients(folder: Path, io: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str | None]:
    """`grad.NAME` of each tensor of the file and who gave them; none for a case without a loss or with gradients.

    Why a reference is not asked goes to stderr.
    """
    config = folder / "config.json"
    if "loss" not in io or not config.is_file() or any(name.startswith(PREFIX) for name in io):
        return {}, None
    if not (folder / FILE).is_file():
        return {}, None
    try:
        restatement = restated_of(folder)
        if restatement is None:
            return by_transformers(folder, io)
        return by_restatement(restatement, folder, io), "restated"
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as problem:
        print(f"{folder.name}: no gradients by the reference: {problem}", file=sys.stderr)
        return {}, None


def restated_of(folder: Path) -> Restatement | None:
    """The restatement of the model of a case, where there is one."""
    said = json.loads((folder / "config.json").read_text())
    return RESTATED.get(said.get("model_type") or said.get("type"))


def described(folder: Path) -> dict[str, Any]:
    """What a restatement is told of a case."""
    case = folder / "case.json"
    found: dict[str, Any] = json.loads((case if case.is_file() else folder / "config.json").read_text())
    return found


def by_restatement(restatement: Restatement, folder: Path, io: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradients in float64; raises ValueError for another loss than the recorded one."""
    tensors = {name: value.double().requires_grad_() for name, value in load_file(folder / FILE).items()}
    given = {name: value.double() if value.is_floating_point() else value for name, value in io.items()}
    loss = _checked(restatement(tensors, described(folder), given)["loss"], io)
    grads = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
    return {
        PREFIX + name: (torch.zeros_like(value) if grad is None else grad).float()
        for (name, value), grad in zip(tensors.items(), grads, strict=True)
    }


def by_transformers(folder: Path, io: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str | None]:
    """Gradients by the class that the config names, and the release; raises ValueError for another loss."""
    try:
        import transformers
    except ImportError:
        return {}, None
    config = json.loads((folder / "config.json").read_text())
    if not hasattr(transformers, (config.get("architectures") or [""])[0]):
        return {}, None
    transformers.logging.disable_progress_bar()
    numbered, model = Numbered(folder), opened(folder)
    loss = _checked(told_loss(model, io), io)
    return numbered.gradients(model, loss, opened), f"transformers {transformers.__version__}"


def opened(folder: Path) -> Any:
    """The model of transformers that a folder holds; raises ValueError for a file without some of its tensors."""
    import transformers

    kind = getattr(transformers, json.loads((folder / "config.json").read_text())["architectures"][0])
    options = {"attn_implementation": "eager", "dtype": torch.float32, "output_loading_info": True}
    model, told = kind.from_pretrained(folder, **options)
    if told["missing_keys"]:
        raise ValueError(f"{folder}: transformers finds no {', '.join(sorted(told['missing_keys']))}")
    return model.eval()


def told_loss(model: Any, io: Mapping[str, Tensor]) -> Tensor:
    """The loss that a model of transformers gives for the case's inputs."""
    names = inspect.signature(model.forward).parameters
    given = {name[3:]: value for name, value in io.items() if name.startswith("in.") and name[3:] in names}
    if model.config.model_type == "idefics":  # its own loss knows nothing of the rows that are added to a vocabulary
        labels = given.pop("labels")
        return F.cross_entropy(model(**given).logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    loss: Tensor = model(**given, **({"return_loss": True} if "return_loss" in names else {})).loss
    return loss


def _checked(loss: Tensor, io: Mapping[str, Tensor]) -> Tensor:
    wanted, found = float(io["loss"]), float(loss.detach())
    if not abs(found - wanted) <= SAME * max(abs(wanted), 1e-12):
        raise ValueError(f"loss: expected {wanted}, as recorded, found {found}")
    return loss
