"""Draws a sheet of a suite's tasks as they begin, with their instructions.

python scripts/task_sheet.py metaworld/mt10 docs/pictures/metaworld.webp
"""

from __future__ import annotations

import argparse
import textwrap
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nextmove import sim

TILE, TEXT, ACROSS = 230, 62, 5


def tile(task: sim.Task, seed: int) -> Image.Image:
    """The first image of an episode above the task's name and instruction."""
    with closing(sim.make(task)) as env:
        env.reset(seed=seed)
        seen = Image.fromarray(np.asarray(env.render())).resize((TILE, TILE), Image.Resampling.LANCZOS)
    made = Image.new("RGB", (TILE, TILE + TEXT), "white")
    made.paste(seen)
    draw = ImageDraw.Draw(made)
    draw.text((4, TILE + 3), task.name, fill=(110, 110, 110), font=ImageFont.load_default(12))
    said = textwrap.fill(task.instruction, 34)
    draw.multiline_text((4, TILE + 19), said, fill="black", font=ImageFont.load_default(14), spacing=2)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    tiles = [tile(task, args.seed) for task in sim.find(args.suite)]
    rows = -(-len(tiles) // ACROSS)
    sheet = Image.new("RGB", (min(len(tiles), ACROSS) * TILE, rows * (TILE + TEXT)), "white")
    for number, one in enumerate(tiles):
        sheet.paste(one, (number % ACROSS * TILE, number // ACROSS * (TILE + TEXT)))
    sheet.save(args.picture, quality=80, method=6)


if __name__ == "__main__":
    main()
