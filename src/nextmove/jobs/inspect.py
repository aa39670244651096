"""A look at a folder: data set, images with captions, saved model, run, or a checkpoint of LeRobot."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from nextmove import data, store
from nextmove.config import ConfigError, read_object
from nextmove.data.deep import Decoding, Part, parts
from nextmove.data.frames import kept_frames
from nextmove.data.watched import listed, without_images
from nextmove.evaluation.entry import unfinished
from nextmove.evaluation.progress import progress_bar
from nextmove.folders import Saved, open_folder
from nextmove.host.found import found
from nextmove.host.workers import Failure, run_tasks
from nextmove.jobs import provenance
from nextmove.jobs.inspect_pairs import describe, is_pairs
from nextmove.jobs.repeat import at_least
from nextmove.systems import find


class Inspection(str):
    """What was found in a folder, as text, and `errors`, the number of findings that break reading or training."""

    errors: int = 0


def inspect(folder: str | Path, *, deep: bool = False, workers: int = 2) -> Inspection:
    """What is in a folder, and what is wrong with it; ends with 1 where it finds errors, with 0 for warnings.

    A data set: features, episodes, statistics, and the doctor's findings. A saved model or run: system, parts, sizes,
    training. A LeRobot checkpoint: which keys are used, ignored (and why), or missing. A folder of images with a
    captions file: kinds, splits, absent images, and what of its held-out questions is answered without looking.

    Args:
        folder: Data set (LeRobot v3.0 or v2.1), saved model, run, or LeRobot checkpoint.
        deep: Decode every image of every camera too, to find damage inside videos; takes minutes to hours.
        workers: Processes that decode; 0 decodes in this one.

    Raises:
        FileNotFoundError: for a folder with none of these.
        ConfigError, DataError: for files that cannot be read, naming file and key.
    """
    at_least(0, workers=workers)
    folder = Path(folder)
    if (folder / "meta" / "info.json").exists():
        return _dataset(folder, deep, workers)
    if is_pairs(folder):
        return _pairs(folder, deep)
    try:
        saved = open_folder(folder)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{folder}: expected a data set (meta/info.json) or a model (config.json); {found(folder, 'dataset')}"
        ) from None
    if deep:
        raise ConfigError(f"{folder}: --deep decodes the images of a data set, found a model; leave it out")
    if saved.kind == "nextmove":
        return Inspection(_model(saved.folder))
    if saved.kind == "openvla":
        return Inspection(_openvla(saved))
    return Inspection(saved.foreign().report)


def _pairs(folder: Path, deep: bool) -> Inspection:
    text, errors = describe(folder, deep)
    shown = Inspection(text)
    shown.errors = errors
    return shown


def _dataset(folder: Path, deep: bool, workers: int) -> Inspection:
    dataset = data.open_dataset(folder)
    lines = [
        f"{folder}: LeRobot data set {dataset.info['codebase_version']}, {dataset.num_episodes} episodes, "
        f"{dataset.num_frames} frames at {dataset.fps:g} Hz",
    ]
    for name, feature in dataset.features.items():
        lines.append(f"  {name:34} {feature['dtype']:8} {tuple(feature['shape'])}")
    findings = data.doctor(dataset)
    if deep:
        findings += _decoded(dataset, workers)
    lines += [f"  ! {finding}" for finding in findings] or ["  nothing wrong found"]
    if broken := without_images(dataset, findings):
        which = f"{len(broken)} of {dataset.num_episodes} episodes ({listed(broken)})"
        lines.append(f"  no images of {which}; nextmove train leaves them out with --leave-out-broken")
    lines += [f"  {line}" for line in kept_frames(dataset)]
    shown = Inspection("\n".join(lines))
    shown.errors = sum(finding.level == "error" for finding in findings)
    return shown


def _decoded(dataset: data.Dataset, workers: int) -> list[data.Finding]:
    """The findings of every image decoded, with a bar on the way."""
    todo = parts(dataset)
    with progress_bar(True, "frames decoded", sum(part.frames for part in todo)) as move:

        def done(result: tuple[Part, list[data.Finding]] | Failure) -> None:
            if not isinstance(result, Failure):
                move(result[0].frames, "frames decoded")

        results = run_tasks(partial(Decoding, dataset.root), todo, workers=workers, done=done)
    damage = []
    for part, result in zip(todo, results, strict=True):
        if isinstance(result, Failure):
            damage.append(data.Finding("error", "decode", result.reason, part.camera, part.episodes[0]))
        else:
            damage += result[1]
    return damage


def _openvla(saved: Saved) -> str:
    tuned = saved.folder / "dataset_statistics.json"
    statistics = read_object(tuned) if tuned.is_file() else saved.config.get("norm_stats", {})
    robots = ", ".join(sorted(statistics)) or "none"
    heads = sorted(path.name for path in saved.folder.glob("*--*checkpoint.pt"))
    parts = [str(saved.config[key]) for key in ("vision_backbone_id", "llm_backbone_id") if key in saved.config]
    return "\n".join(
        [
            f"{saved.folder}: {saved.whose} ({' and '.join(parts) or 'backbones unnamed'}); {saved.used_by}",
            f"  statistics of actions of: {robots}{f' ({tuned.name})' if tuned.is_file() else ''}",
            *([f"  beside it, as OpenVLA-OFT has them: {', '.join(heads)}"] if heads else []),
        ]
    )


def _model(folder: Path) -> str:
    config = store.read_config(folder)
    model = store.load(folder)
    system, size = find(config["system"]), sum(p.numel() for p in model.parameters())
    lines = [f"{folder}: {system.title} ({system.sentence}), {size / 1e6:.2f} M parameters"]
    lines += [f"  {key:12} {value}" for key, value in provenance.facts(model).items()]
    if reason := unfinished(config["facts"]):
        lines.append(f"  ! not finished: {reason}")
    lines += ["  recipe"] + ["    " + row for row in json.dumps(config["recipe"], indent=2).splitlines()]
    return "\n".join(lines)
