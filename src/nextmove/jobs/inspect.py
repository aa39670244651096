"""A look at a folder: data set, saved model, run, or a checkpoint of LeRobot."""

from __future__ import annotations

import json
from pathlib import Path

from nextmove import data, store
from nextmove.evaluation.entry import unfinished
from nextmove.jobs import provenance
from nextmove.systems import find


def inspect(folder: str | Path) -> str:
    """What is in a folder, and what is wrong with it.

    A data set: features, episodes, statistics, and the doctor's findings. A saved model or run: system, parts, sizes,
    training. A LeRobot checkpoint: which keys are used, ignored (and why), or missing.

    Args:
        folder: Data set (LeRobot v3.0 or v2.1), saved model, run, or LeRobot checkpoint.

    Raises:
        FileNotFoundError: for a folder with none of these.
        ConfigError, DataError: for files that cannot be read, naming file and key.
    """
    folder = Path(folder)
    if (folder / "meta" / "info.json").is_file():
        return _dataset(folder)
    if (folder / "model" / "config.json").is_file():
        folder = folder / "model"
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder}: expected a data set (meta/info.json) or a model (config.json), found neither"
        )
    origin = store.foreign(folder)
    if origin:
        from nextmove import interop

        return str((interop.load if origin == "lerobot" else interop.hf.load)(folder).report)
    return _model(folder)


def _dataset(folder: Path) -> str:
    dataset = data.open_dataset(folder)
    lines = [
        f"{folder}: LeRobot data set {dataset.info['codebase_version']}, {dataset.num_episodes} episodes, "
        f"{dataset.num_frames} frames at {dataset.fps:g} Hz",
    ]
    for name, feature in dataset.features.items():
        lines.append(f"  {name:34} {feature['dtype']:8} {tuple(feature['shape'])}")
    findings = data.doctor(dataset)
    lines += [f"  ! {finding}" for finding in findings] or ["  nothing wrong found"]
    return "\n".join(lines)


def _model(folder: Path) -> str:
    config = store.read_config(folder)
    model = store.load(folder)
    system, size = find(config["system"]), sum(p.numel() for p in model.parameters())
    lines = [f"{folder}: {system.title} ({system.sentence}), {size / 1e6:.2f} M parameters"]
    lines += [f"  {key:12} {value}" for key, value in provenance.facts(model).items()]
    if told := unfinished(config["facts"]):
        lines.append(f"  ! not finished: {told}")
    lines += ["  recipe"] + ["    " + row for row in json.dumps(config["recipe"], indent=2).splitlines()]
    return "\n".join(lines)
