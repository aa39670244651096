"""A picture of a suite: the first camera's view of each task at the start of its first held-out seed, and what to do.

python benchmarks/task_sheet.py libero/object [--columns 5] [--size 176]    # docs/pictures/libero-object.webp
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nextmove import sim
from nextmove.jobs.simulated import HELD_OUT

LINES, LINE, MARGIN = 3, 13, 6


def tile(task: sim.Task, size: int) -> Image.Image:
    """One task: what the camera sees, above its instruction."""
    camera = next(iter(task.cameras))
    env = sim.make(task, {camera: (size, size)})
    seen = env.reset(seed=HELD_OUT)[0][camera]
    env.close()
    made = Image.new("RGB", (size, size + LINES * LINE + MARGIN), "white")
    made.paste(Image.fromarray(np.asarray(seen)), (0, 0))
    font = ImageFont.load_default(size=LINE - 2)
    letters = int(size / font.getlength("n" * 10) * 10)
    text = "\n".join(textwrap.wrap(task.instruction, letters)[:LINES])
    ImageDraw.Draw(made).multiline_text((2, size + 2), text, "black", font, spacing=1)
    return made


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite")
    parser.add_argument("--columns", type=int, default=5)
    parser.add_argument("--size", type=int, default=176)
    args = parser.parse_args()
    tiles = [tile(task, args.size) for task in sim.find(args.suite)]
    width, height = tiles[0].width + MARGIN, tiles[0].height + MARGIN
    rows = -(-len(tiles) // args.columns)
    sheet = Image.new("RGB", (width * args.columns, height * rows), "white")
    for number, one in enumerate(tiles):
        sheet.paste(one, (width * (number % args.columns), height * (number // args.columns)))
    path = Path("docs/pictures") / f"{args.suite.replace('/', '-')}.webp"
    sheet.save(path, quality=80, method=6)
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
