"""Writes a policy as a folder that OpenVLA's own code loads, heads of the fine-tuned form beside it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove.config import ConfigError
from nextmove.contracts import saved
from nextmove.host.files import replacing, write_bytes, write_json, write_text
from nextmove.interop.hf.shards import SHARD, write_folder
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.interop.hf.unpacked import unpacked
from nextmove.interop.openvla import heads, layout, statistics, towers
from nextmove.interop.openvla.config import OpenVlaConfig, describe
from nextmove.interop.openvla.described import described, with_own
from nextmove.interop.weights import renamed
from nextmove.models.policy import Policy
from nextmove.models.policy.openvla_oft import OpenVlaOft
from nextmove.nn.vit import VisionTower

OWN = ("config.json", statistics.FILE)
WEIGHTS = (".safetensors", ".safetensors.index.json", ".pt")


def export(
    policy: Policy,
    folder: Path | str,
    *,
    config: OpenVlaConfig | None = None,
    like: Path | str | None = None,
    key: str = "nextmove",
    shard: int = SHARD,
) -> Path:
    """Writes config, weights in transformers' names, statistics and tokenizer, and the heads of OpenVLA-OFT.

    Args:
        policy: One of `OpenVla` or `OpenVlaOft`, of the published architecture or read from a folder.
        folder: The new folder.
        config: Of the folder that the policy was read from (`Loaded.config`); None: as its recipe says.
        like: That folder, whose other files (processor, code of the peer) are copied.
        key: Name of the data set in whose units its actions are, where they are in none of config's: of a policy
            tuned on other data, whose statistics alone then stand in the folder's own file.
        shard: Bytes of a file of weights at most.

    Raises ConfigError naming what OpenVLA has no place for, and OSError for a folder that holds something already.
    """
    folder, encoder = Path(folder), _encoder(policy)
    data = {
        **asdict(described(policy, key) if config is None else config),
        "architectures": ["OpenVLAForActionPrediction"],
    }
    said = describe(data)
    tensors = _tensors(policy, said.family, encoder.config.towers)
    data["norm_stats"], stats = with_own(policy, data.get("norm_stats") or {}, key)
    with replacing(folder) as part:
        part.mkdir()
        if like is not None:
            _copy(Path(like), part)
        steered = {n: v for n, v in tensors.items() if n.startswith("vision_backbone.")}
        if any(tower.film for tower in encoder.config.towers):
            _write_part(part, heads.TOWERS, {_steered(name): value for name, value in steered.items()})
            tensors = {
                n: v
                for n, v in tensors.items()
                if not n.endswith((".scale.weight", ".scale.bias", ".shift.weight", ".shift.bias"))
            }
        write_folder(part, tensors, shard)
        for name, own in _beside(policy).items():
            _write_part(part, name, own)
        write_json(part / "config.json", data)
        write_json(part / statistics.FILE, stats)
        for name, text in saved.files(policy).items():
            write_text(part / name, text)
    return folder


def _encoder(policy: Policy) -> Any:
    encoder: Any = policy.encoder
    if not hasattr(encoder, "language") or len(getattr(encoder.config, "towers", ())) not in (1, 2):
        raise ConfigError("export: expected a policy of openvla or openvla-oft, found another")
    if policy.planner is not None:
        raise ConfigError("encoder.planner: OpenVLA's code writes no sub-task before it acts, expected none, found one")
    actions: Any = getattr(policy.recipe, "actions", None)
    if actions.space != "absolute" or actions.per_step or actions.scaling not in statistics.KEYS:
        raise ConfigError(
            f"actions: OpenVLA's code acts in absolute actions within q01 and q99 or min and max, alike at each step; "
            f"found {actions.space}, {actions.scaling}, per_step {actions.per_step}"
        )
    return encoder


def _tensors(policy: Policy, family: Any, networks: Sequence[VisionTower]) -> dict[str, Tensor]:
    """The encoder's tensors under transformers' names."""
    state = policy.state_dict()
    found: dict[str, Tensor] = {}

    def within(path: str) -> dict[str, Tensor]:
        return {name[len(path) + 1 :]: value for name, value in state.items() if name.startswith(f"{path}.")}

    for i, (name, network) in enumerate(zip(layout.FEATURIZERS, networks, strict=False)):
        own = unpacked(
            within(f"encoder.towers.{i}"), towers.tower(network).foreign, partial(_tower, network=network), name
        )
        found |= {f"vision_backbone.{name}.{inner}": value for inner, value in own.items()}
    bridge = within("encoder.bridge")
    found |= {f"projector.{renamed(name, layout.PROJECTOR)}": value for name, value in bridge.items()}
    language = unpacked(within("encoder.language"), family.foreign, lambda c: family.pack(c, family.config), "language")
    for name, value in language.items():
        found["language_model." + ("" if name.startswith("lm_head.") else "model.") + name] = value
    return found


def _tower(checkpoint: Checkpoint, *, network: VisionTower) -> None:
    towers.pack(checkpoint, network)


def _beside(policy: Policy) -> dict[str, dict[str, Tensor]]:
    """Tensors of the fine-tuned form by the name of their file."""
    recipe: Any = policy.recipe
    if not isinstance(recipe, OpenVlaOft):
        return {}
    net: Any = policy.decoder.net  # type: ignore[attr-defined]
    encoder: Any = policy.encoder
    kind = "noise" if net.inputs is not None else "regression"
    names = {
        ours: heads.INSIDE[kind] + theirs for ours, theirs in heads.blocks(recipe.decoder.trunk.head.blocks).items()
    }
    found = {heads.HEAD: _named(net.head, names)}
    if encoder.state is not None:
        found[heads.PROPRIO] = _named(encoder.state, heads.MAP)
    if net.inputs is not None:
        found[heads.NOISE] = _named(net.inputs, heads.MAP)
    return found


def _named(module: torch.nn.Module, names: Mapping[str, str]) -> dict[str, Tensor]:
    return {str(renamed(name, names)): value for name, value in module.state_dict().items()}


def _steered(name: str) -> str:
    """A tensor of a tower as a file of its own has it where words scale and shift it: parts of a block one deeper."""
    head, blocks, rest = name.partition(".blocks.")
    number, _, inner = rest.partition(".")
    film = inner.startswith(("scale.", "shift."))
    return name if not blocks or film else f"{head}.blocks.{number}.block.{inner.replace('.scale_factor', '.gamma')}"


def _write_part(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> None:
    """A part in torch's own format, which the peer reads: tensors alone, nothing that would be run."""
    buffer = io.BytesIO()
    torch.save({key: value.detach().cpu().clone() for key, value in tensors.items()}, buffer)
    write_bytes(folder / f"{name}--0_checkpoint.pt", buffer.getvalue())


def _copy(source: Path, folder: Path) -> None:
    """Files of a folder that are neither weights nor written anew."""
    for path in source.iterdir():
        if path.is_file() and path.name not in OWN and not path.name.endswith(WEIGHTS):
            write_bytes(folder / path.name, path.read_bytes())
