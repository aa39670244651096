"""Reads a LeRobot SmolVLA folder as a policy of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from nextmove import weights
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError, read_object
from nextmove.encoders.prompt import Prompt
from nextmove.interop.hf.tensors import Checkpoint, read_folder
from nextmove.interop.hf.words import read_tokenizer
from nextmove.interop.lerobot.config import model_folder, version_of
from nextmove.interop.lerobot.scaling import PROCESSORS
from nextmove.interop.report import Loaded, Report
from nextmove.interop.smolvla import names, statistics
from nextmove.interop.smolvla.composed import Composed, composed
from nextmove.interop.smolvla.config import IDS, MARKS, SmolVlaConfig, parse, vlm_config
from nextmove.interop.weights import building, fill, naming
from nextmove.models.model import Card
from nextmove.models.policy import Policy

FPS = 30.0
EMBEDDING = f"{names.VLM}.model.text_model.embed_tokens.weight"


def load(folder: Path | str, *, fps: float | None = None, marks: tuple[int, int] | None = None) -> Loaded:
    """The policy of a model folder, or of a training step's folder that holds `pretrained_model`.

    fps: actions a second, which the folder does not say (30 if not given); marks: the ids of the two special tokens
    around images, where the folder has no tokenizer.json that says them. Without one, words must come as ids
    (`ReadingEncoder.prefix`). Raises FileNotFoundError, or ConfigError naming the key, step or tensor that is wrong.
    """
    folder = model_folder(folder)
    with naming(folder):
        return _load(folder, fps, marks)


def _load(folder: Path, fps: float | None, marks: tuple[int, int] | None) -> Loaded:
    data = read_object(folder / "config.json")
    config, processors = parse(data), (folder / PROCESSORS[0]).is_file()
    checkpoint = Checkpoint(read_folder(folder), str(folder))
    checkpoint.respell(lambda name: name.replace("._orig_mod", ""))
    scales = statistics.taken(folder, config, checkpoint)
    ids = _rows(checkpoint)
    tokenizer = read_tokenizer(folder, ids)
    prompt = Prompt(length=config.tokenizer_max_length, classes=ids, hash=tokenizer.hash)
    made = composed(
        config, vlm_config(folder, config.vlm_model_name), ids=ids, prompt=prompt,
        marks=marks or _marks(tokenizer, ids), fps=FPS if fps is None else fps,
        renamed={} if scales is None else scales.renamed,
    )  # fmt: skip
    policy = build(made)
    used = filled(policy, checkpoint, made)
    notes = [*statistics.give(policy, scales), *_notes(config, made, fps, tokenizer)]
    if tokenizer.files():
        cast(Any, policy.encoder).tokenizer.adopt(tokenizer)
    policy.card = Card("smolvla", policy.recipe, made.spec)
    every = (*used, *(() if scales is None else scales.used))
    report = Report("smolvla", str(version_of(data, processors)), every, checkpoint.ignored, (), tuple(notes))
    return Loaded(policy.eval(), report, config, used)


def build(made: Composed) -> Policy:
    """The policy of a recipe, without values; raises ConfigError for sizes that contradict each other."""
    with building():
        return made.recipe.build(made.spec)


def filled(policy: Policy, checkpoint: Checkpoint, made: Composed) -> dict[str, str]:
    """Gives the policy the file's tensors, all of which must be used; tensor of the file -> ours."""
    for ending in (".rotary_emb.inv_freq", ".position_ids"):
        checkpoint.ignore(ending, "positions, which are computed")
    own = policy.state_dict()
    table, packed = names.table(own, made.heads), dict[str, str]()
    for ours, parts in table.items():
        packed[ours] = parts[0][0] if len(parts) == 1 else f"{ours} (packed)"
        if len(parts) > 1:
            shapes = {name: (rows, *own[ours].shape[1:]) for name, rows in parts}
            checkpoint.pack(packed[ours], shapes)
        if ours.startswith(names.NEGATED) and packed[ours] in checkpoint.tensors:
            checkpoint.tensors[packed[ours]] = -checkpoint.tensors[packed[ours]]
    used = fill(policy, checkpoint.tensors, packed.get, where=checkpoint.where)
    weights.check_filled(policy, checkpoint.where)
    return checkpoint.used(used)


def _rows(checkpoint: Checkpoint) -> int:
    if EMBEDDING not in checkpoint.tensors:
        raise ConfigError(f"model.safetensors: missing tensor {EMBEDDING!r}")
    return len(checkpoint.tensors[EMBEDDING])


def _marks(tokenizer: Tokenizer, ids: int) -> tuple[int, int] | None:
    """The ids of the special tokens around an image; None where nothing says them."""
    if not tokenizer.files():
        return IDS.get(ids)
    fake, image = (tokenizer.backend.token_to_id(token) for token in MARKS)
    return None if fake is None or image is None else (fake, image)


def _notes(config: SmolVlaConfig, made: Composed, fps: float | None, tokenizer: Tokenizer) -> list[str]:
    notes = [f"fps: the folder does not say, {FPS:g} assumed"] if fps is None else []
    if not tokenizer.files():
        notes.append(
            f"no tokenizer.json: put that of {config.vlm_model_name} into the folder; without it words must come as ids"
        )
    if config.prefix_length > 0:
        notes.append("prefix_length: padding behind the state, which nothing reads, is left out")
    if made.aside:
        notes.append(f"config of {config.vlm_model_name}: no effect: {', '.join(made.aside)}")
    return notes
