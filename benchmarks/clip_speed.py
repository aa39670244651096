"""CLIP ViT-B/32 encoding images, ours by torch and by OpenVINO beside transformers, in turns; prints one JSON object.

    pip install transformers
    python benchmarks/clip_speed.py [--images 1 8] [--threads 2] [--rounds 9]

The weights are transformers' own random ones, written as a folder and read back by `interop.hf`, so that outputs are
compared. `ratio` is the median of paired ratios, transformers' time over ours: above 1, ours is faster.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

from nextmove.interop import hf
from nextmove.runtime.openvino import Compiled
from turns import ratio, seconds, turns

IMAGE = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 224, "patch_size": 32,
}  # fmt: skip
TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 99}
"""Small: only images are encoded."""


def pair() -> tuple[Any, Any]:
    """transformers' image tower and ours with its weights."""
    torch.manual_seed(0)
    theirs = transformers.CLIPModel(transformers.CLIPConfig(vision_config=IMAGE, text_config=TEXT)).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = hf.load(Path(folder)).model
    return theirs.vision_model, ours.image.eval()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    theirs, ours = pair()
    fast = Compiled(copy.deepcopy(ours))
    rows = []
    for count in given.images:
        images = torch.randn(count, 3, 224, 224)
        with torch.no_grad():
            sides = {
                "transformers": lambda x=images: theirs(x).last_hidden_state,
                "torch": lambda x=images: ours(x),
                "openvino": lambda x=images: fast(x),
            }
            want = sides["transformers"]()
            apart = {name: float((act() - want).abs().max()) for name, act in sides.items()}
            found = turns({name: seconds(act) for name, act in sides.items()}, given.rounds)
        for name, times in found.items():
            row = {"images": count, "engine": name, "ms": 1000 * statistics.median(times)}
            rows.append(row | {"ratio": ratio(found["transformers"], times), "max_abs_diff": apart[name]})
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({"threads": given.threads, "rounds": given.rounds, "versions": versions, "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
