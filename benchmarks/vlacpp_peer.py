"""vla.cpp's side of `vlacpp_speed.py`: a process that plans with a built library of it, through its C interface."""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import time
from ctypes import POINTER, byref, c_char_p, c_float, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

import turns

ABI, FLOAT_PIXELS, WITHOUT_PARTS = 1, 1, 0
FLASH = "_ZN3vla14set_flash_attnEb"
"""`vla::set_flash_attn(bool)`, what its server's --flash-attn calls; the C interface has no option for it."""


def inputs(shown: dict[str, Any], noise: Any, side: int, width: int) -> dict[str, np.ndarray]:
    """An observation of `smolvla_speed.py` as vla.cpp takes it.

    Pictures (cameras, side, side, 3) in [0, 1], which are resized here, outside its plan, ids (words,), a state padded
    with zeros to `width` numbers, noise (steps, dimensions).
    """
    import torch

    names = sorted(name for name in shown if name.startswith("observation.images"))
    seen = torch.cat([shown[name][:, 0].movedim(-1, 1).float() / 255 for name in names])
    seen = torch.nn.functional.interpolate(seen, size=(side, side), mode="bilinear")
    state = torch.zeros(width)
    given = shown["observation.state"].flatten()
    state[: len(given)] = given
    ids = [int(word[1:]) for word in shown["task"][0].split()]
    return {
        "images": seen.movedim(1, -1).contiguous().numpy(),
        "ids": np.array(ids, np.int32),
        "state": state.numpy(),
        "noise": noise[0].contiguous().numpy(),
    }


def narrowed(folder: Path, into: Path) -> None:
    """LeRobot's folder again with the word embeddings in bf16, the only type in which vla.cpp reads them."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("embed_tokens.weight"))
    into.mkdir()
    save_file(weights | {name: weights[name].to(torch.bfloat16)}, into / "model.safetensors")
    shutil.copy(folder / "config.json", into / "config.json")


class Image(ctypes.Structure):
    """`vla_image` of its header vla.h, version 1 of the interface."""

    _fields_ = (("data", c_void_p), ("w", c_int32), ("h", c_int32), ("format", c_int32))


class Inputs(ctypes.Structure):
    """`vla_inputs`."""

    _fields_ = (
        ("images", POINTER(Image)),
        ("n_images", c_int32),
        ("precomputed_img_emb", c_void_p),
        ("n_img_views", c_int32),
        ("lang_tokens", c_void_p),
        ("n_lang", c_int32),
        ("state", c_void_p),
        ("noise", c_void_p),
        ("attention_mask", c_void_p),
        ("attention_mask_n", c_int32),
        ("timing_detail", c_int32),
    )


class Stats(ctypes.Structure):
    """`vla_stats`, milliseconds."""

    _fields_ = tuple((f"ms_{part}", c_float) for part in ("total", "vision", "inference", "prefill", "denoise"))


class Engine:
    """A model that the library holds."""

    def __init__(self, library: Path, gguf: Path, flash: bool) -> None:
        self.call = ctypes.CDLL(str(library))
        self.call.vla_model_load.restype = c_void_p
        if self.call.vla_abi_version() != ABI:
            raise SystemExit(f"{library}: expected version {ABI} of its interface, found {self.call.vla_abi_version()}")
        loaded = self.call.vla_model_load(c_char_p(b""), c_char_p(str(gguf).encode()), None)
        if not loaded:
            raise SystemExit(f"{library}: does not load {gguf}")
        self.model = c_void_p(loaded)
        if flash:
            self.call[FLASH](ctypes.c_bool(True))
        ctypes.CDLL(None).fflush(None)  # what it prints while it loads, so that no answer begins within a line of it

    def plan(self, given: dict[str, np.ndarray], width: int) -> tuple[np.ndarray, Stats]:
        """The actions (steps, width), and how long its parts took."""
        pictures = [Image(one.ctypes.data, one.shape[1], one.shape[0], FLOAT_PIXELS) for one in given["images"]]
        asked = Inputs(
            images=(Image * len(pictures))(*pictures),
            n_images=len(pictures),
            lang_tokens=given["ids"].ctypes.data,
            n_lang=len(given["ids"]),
            state=given["state"].ctypes.data,
            noise=given["noise"].ctypes.data,
            timing_detail=WITHOUT_PARTS,
        )
        found, count, stats = POINTER(c_float)(), c_int64(), Stats()
        status = self.call.vla_predict(self.model, byref(asked), byref(found), byref(count))
        if status:
            raise SystemExit(f"vla_predict: status {status}")
        actions = np.ctypeslib.as_array(found, (count.value,)).copy().reshape(given["noise"].shape)[:, :width]
        self.call.vla_free_actions(found)
        self.call.vla_last_stats(self.model, byref(stats))
        ctypes.CDLL(None).fflush(None)
        return actions, stats


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", type=Path)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("inputs", type=Path, help="an .npz of `inputs`")
    parser.add_argument("--flash", action="store_true")
    for name, default in (("threads", 2), ("actions", 6)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    os.environ["VLA_N_THREADS"] = str(arguments.threads)
    given = dict(np.load(arguments.inputs))
    engine = Engine(arguments.library, arguments.gguf, arguments.flash)

    def plan() -> dict[str, Any]:
        began = time.perf_counter()
        actions, stats = engine.plan(given, arguments.actions)
        whole = 1000 * (time.perf_counter() - began)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"ms": whole, "vision": stats.ms_vision, "actions": actions.tolist(), "peak_mib": peak}

    turns.answer({"plan": plan})


if __name__ == "__main__":
    main()
