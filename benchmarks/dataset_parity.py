"""Compare our items with reference answers of LeRobot; prints one JSON line.

    python benchmarks/dataset_parity.py DIR

DIR holds `dataset/`, `expected.json` and `expected.safetensors`. max_abs_diff covers tables, windows, masks, tasks,
strings (a wrong one counts 1) and images in parquet; max_abs_diff_images is the largest mean difference of a query's
video frames or of their block means, 1 being white against black; missing names what could not be compared.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from nextmove.data import Dataset, open_dataset


class Differences:
    """The largest difference of each kind seen so far."""

    def __init__(self, block: int) -> None:
        self.block, self.tables, self.images = block, 0.0, 0.0
        self.missing: list[str] = []

    def exact(self, key: str, expected: Any, found: Any) -> None:
        """Numbers, arrays or strings that must be equal."""
        if isinstance(expected, str) or isinstance(found, str):
            self.tables = max(self.tables, float(expected != found))
            return
        expected, found = np.asarray(expected), np.asarray(found)
        if expected.shape != found.shape:
            self.missing.append(f"{key}: expected shape {expected.shape}, found {found.shape}")
        elif expected.size:
            off = np.abs(expected.astype(np.float64) - found.astype(np.float64))
            self.tables = max(self.tables, float(off.max()))

    def image(self, key: str, expected: np.ndarray, found: np.ndarray) -> None:
        """Pictures in 0..255 whose mean difference counts."""
        if expected.shape != found.shape:
            self.missing.append(f"{key}: expected shape {expected.shape}, found {found.shape}")
            return
        off = np.abs(expected.astype(np.float64) - found.astype(np.float64)).mean() / 255
        self.images = max(self.images, float(off))


def thumbs(frames: np.ndarray, block: int) -> np.ndarray:
    """Block means (..., C, H // block, W // block) float16 of (..., C, H, W) uint8."""
    *lead, height, width = frames.shape
    rows, columns = height // block, width // block
    cut = frames[..., : rows * block, : columns * block].astype(np.float32)
    return cut.reshape(*lead, rows, block, columns, block).mean((-3, -1)).astype(np.float16)


def check_item(query: dict[str, Any], item: dict[str, Any], tensors: dict[str, np.ndarray], out: Differences) -> None:
    """One query: dtypes, shapes, scalars, strings and tensors."""
    name = query["id"]
    out.exact(f"{name}/task", query["task"], item["task"])
    for key, text in query.get("strings", {}).items():
        out.exact(f"{name}/{key}", text, item.get(key, ""))
    for key, (dtype, *shape) in query.get("shapes", {}).items():
        if key not in item:
            out.missing.append(f"{name}/{key}")
        elif [str(item[key].dtype).removeprefix("torch."), *item[key].shape] != [dtype, *shape]:
            out.missing.append(f"{name}/{key}: expected {dtype} {shape}, found {item[key].dtype} {[*item[key].shape]}")
    for key, value in query.get("scalars", {}).items():
        if key in item:
            out.exact(f"{name}/{key}", value, item[key].item())
        else:
            out.missing.append(f"{name}/{key}")
    for key, expected in tensors.items():
        if key.startswith(f"{name}/"):
            check_tensor(key, key.split("/", 1)[1], expected, item, out)


def check_tensor(key: str, feature: str, expected: np.ndarray, item: dict[str, Any], out: Differences) -> None:
    """One stored tensor against the feature of the item it came from."""
    plain = feature.removesuffix(".thumb").removesuffix(".u8")
    if plain not in item:
        out.missing.append(key)
        return
    found = item[plain].numpy()
    if feature.endswith(".thumb"):
        out.image(key, expected, thumbs(found, out.block))
    elif feature.endswith(".u8"):
        out.exact(key, expected, np.rint(found * 255).astype(np.uint8))
    elif found.dtype == np.uint8 and found.ndim >= 3:
        out.image(key, expected, found)
    else:
        out.exact(key, expected, found)


def check_whole(dataset: Dataset, expected: dict[str, Any], tensors: dict[str, np.ndarray], out: Differences) -> None:
    """Lengths, tasks of all frames, thumbs of all frames."""
    for key in ("fps", "num_frames", "num_episodes"):
        if key in expected:
            out.exact(key, expected[key], getattr(dataset, key))
    if "lengths" in expected:
        out.exact("lengths", expected["lengths"], dataset.episode_to - dataset.episode_from)
    runs = expected.get("tasks_from_index", [])
    index = dataset.column("task_index")
    for (first, task), last in zip(runs, [*(r[0] for r in runs[1:]), dataset.num_frames], strict=False):
        for row in range(first, last):
            out.exact(f"task of {row}", task, dataset.tasks[index[row]])
    for key, thumb in tensors.items():
        if key.startswith("all/"):
            frames = dataset.video(key[4:].removesuffix(".thumb")).frames(dataset.rows)
            out.image(key, thumb, thumbs(frames.transpose(0, 3, 1, 2), out.block))


def compare(folder: Path, root: Path | None = None) -> dict[str, Any]:
    """The differences between our answers on `root` (DIR/dataset) and the stored ones of `folder`."""
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "expected.safetensors")
    dataset, out = open_dataset(root or folder / "dataset"), Differences(expected.get("thumb_block", 16))
    try:
        check_whole(dataset, expected, tensors, out)
    except (ValueError, KeyError) as problem:
        out.missing.append(f"whole set: {problem}")
    for query in expected["queries"]:
        # LeRobot only warns of episodes that do not exist; we refuse them, so they are left out here.
        chosen = [e for e in query["episodes"] or [] if e < dataset.num_episodes]
        view = dataset.select(chosen) if query["episodes"] is not None else dataset
        try:
            out.exact(f"{query['id']}/len", query["len"], len(view))
            item = view.item(query["index"], query["delta_timestamps"], return_uint8=True)
            check_item(query, item, tensors, out)
        except (ValueError, KeyError) as problem:
            out.missing.append(f"{query['id']}: {problem}")
    return {"max_abs_diff": out.tables, "max_abs_diff_images": out.images, "missing": out.missing}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    print(json.dumps(compare(parser.parse_args().folder)))


if __name__ == "__main__":
    main()
