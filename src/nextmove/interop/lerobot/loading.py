"""Reads a LeRobot ACT or Diffusion Policy folder as a policy of our parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from nextmove import weights
from nextmove.codecs import Actions
from nextmove.config import read_object
from nextmove.decoders.reach import reach
from nextmove.interop.lerobot import parts, seen
from nextmove.interop.lerobot.config import (
    ActConfig,
    DiffusionConfig,
    Roles,
    Version,
    model_folder,
    parse,
    roles,
    version_of,
)
from nextmove.interop.lerobot.scaling import PROCESSORS, Scales, from_processors, from_weights, is_statistic
from nextmove.interop.renamed import Renamed
from nextmove.interop.report import Loaded, Report
from nextmove.interop.weights import fill, naming, same_table
from nextmove.models.policy import Policy, PolicySpec
from nextmove.nn.embedding import table

WEIGHTS = "model.safetensors"
FPS = 30.0


def load(folder: Path | str, *, fps: float | None = None) -> Loaded:
    """The policy of a published model folder, or of a training step's folder that holds `pretrained_model`.

    Releases 0.1 to 0.6.x. fps: actions a second, which the folder does not say (30 if not given). Raises
    FileNotFoundError, or ConfigError (a ValueError) naming the key, step, statistic or tensor that is wrong.
    """
    folder = model_folder(folder)
    with naming(folder):
        return _load(folder, fps)


def _load(folder: Path, fps: float | None) -> Loaded:
    data = read_object(folder / "config.json")
    there = [file for file in PROCESSORS if (folder / file).is_file()]
    version = version_of(data, bool(there))
    config = parse(data, version)
    part = roles(config)
    tensors, strip = _strip(weights.read(folder / WEIGHTS))
    scales = from_weights(tensors, config) if version.legacy else from_processors(folder, config)
    with weights.without_storage():
        policy, foreign = _build(config, part, scales, version, FPS if fps is None else fps)
    ignored, computed = _apart(config, part, tensors, scales)
    ours = {name: value for name, value in tensors.items() if name not in ignored and name not in scales.used}
    names = fill(policy, ours, foreign, where=str(folder / WEIGHTS))
    weights.check_filled(policy, str(folder / WEIGHTS))
    notes = [f"fps: the folder does not say, {FPS:g} assumed"] if fps is None else []
    notes += [f"{name}: an input that LeRobot's {config.type} policy does not read" for name in part.unused]
    notes += [f"observations are renamed: {dict(scales.renamed)}"] if scales.renamed else []
    if reach(policy.decoder) < policy.codec.end:
        notes.append(
            f"clip_sample_range: plans end at {reach(policy.decoder):g} of what actions scaled by "
            f"{scales.action.mode} reach, with LeRobot as here"
        )
    notes += ["'_orig_mod' of a compiled network was taken out of the names"] if strip else []
    used = (*names, *scales.used)
    report = Report(config.type, str(version), used, ignored, computed, tuple(notes))
    return Loaded(policy.eval(), report, config, names)


def _strip(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """The tensors without the `_orig_mod` that compiling a network puts into their names."""
    plain = {name.replace("._orig_mod", ""): value for name, value in tensors.items()}
    return plain, plain.keys() != tensors.keys()


def _build(
    config: ActConfig | DiffusionConfig, part: Roles, scales: Scales, version: Version, fps: float
) -> tuple[Policy, parts.Foreign]:
    """The untrained policy and the names of its tensors."""
    if isinstance(config, ActConfig):
        decoder, timing, inside = parts.act(config, part, version)
    else:
        decoder, timing, inside = parts.diffusion(config, version)
    encoder = seen.encoder(config, part, scales.inputs, timing.n_obs_steps)
    raw = {new: old for old, new in scales.renamed.items()}
    spec = PolicySpec({raw.get(name, name): f for name, f in seen.features(part).items()}, part.action, fps)
    shape = (timing.horizon, part.action)
    masked = isinstance(config, ActConfig) or config.do_mask_loss_for_padding
    policy = Policy(
        spec=spec,
        timing=timing,
        encoder=Renamed(encoder, scales.renamed) if scales.renamed else encoder,
        codec=Actions(scales.action, mask_padding=masked),
        decoder=decoder.build(shape=shape, context=encoder.spec),
        shape=shape,
    )

    def foreign(name: str) -> str | None:
        room, _, rest = name.partition(".")
        if room == "encoder":
            return seen.name(config, rest.removeprefix("encoder."))
        return inside(rest) if room == "decoder" else None

    return policy, foreign


def _apart(
    config: ActConfig | DiffusionConfig, part: Roles, tensors: Mapping[str, Tensor], scales: Scales
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Tensors that are no weights with the reason why, and fixed tables that the file leaves out."""
    reason = "statistics of an input that the policy does not read"
    if not scales.used:
        reason = "statistics; the processor files hold those in force"
    ignored = {name: reason for name in tensors if is_statistic(name) and name not in scales.used}
    tables = seen.grids(config, part)
    if isinstance(config, ActConfig) and config.use_vae:
        # One row for cls, one for the state, one for each action.
        tables[parts.POSITIONS] = table(config.chunk_size + 2, config.dim_model)[None]
    for name, expected in tables.items():
        if name in tensors:
            same_table(name, tensors[name], expected, where=WEIGHTS)
            ignored[name] = "a fixed table, checked and computed"
    return ignored, tuple(name for name in tables if name not in tensors)
