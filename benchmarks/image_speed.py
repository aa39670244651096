"""DDIM sampling, ours beside diffusers' DDIMPipeline, on equal U-Nets with equal weights; prints one JSON object.

    python benchmarks/image_speed.py [--size cifar|small] [--images 4] [--steps 10] [--threads 2] [--repeats 5]

Both start from the same noise with weights drawn once (an untrained network costs what a trained one does). The two
take turns; seconds are medians of `repeats`, and `ratio` is the median of paired ratios, their time over ours: above
1, ours is faster. `bf16` runs
both networks under autocast; `bf16_against_float32` is their float32 time over our bf16 time. `max_abs_diff` compares
images in [0, 1].
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nextmove.contracts import Context, ContextSpec, normal, seeded
from nextmove.decoders import Diffusion, Sampler
from nextmove.decoders.grids import Indices
from nextmove.decoders.paths import DiscreteVP
from nextmove.decoders.solvers import Ddim
from nextmove.interop.diffusers import unet2d_tensors
from nextmove.nn import UNet2d, count
from turns import ratio, seconds, turns

SIZES = {
    "cifar": (UNet2d(), (3, 32, 32)),
    "small": (UNet2d(channels=32, multipliers=(1, 2)), (1, 28, 28)),
}


def pair(config: UNet2d, shape: tuple[int, int, int], steps: int) -> tuple[Any, Any]:
    """Our decoder and their pipeline with one set of weights."""
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    levels = range(len(config.multipliers))
    theirs = UNet2DModel(
        sample_size=shape[1], in_channels=shape[0], out_channels=shape[0], layers_per_block=config.blocks,
        block_out_channels=[config.channels * m for m in config.multipliers], norm_eps=1e-6, dropout=config.dropout,
        down_block_types=["AttnDownBlock2D" if i in config.attention else "DownBlock2D" for i in levels],
        up_block_types=["AttnUpBlock2D" if i in config.attention else "UpBlock2D" for i in reversed(levels)],
        attention_head_dim=None, flip_sin_to_cos=False, freq_shift=1, downsample_padding=0,
    ).eval()  # fmt: skip
    decoder = Diffusion(
        config, DiscreteVP(1000, "linear"), sampler=Sampler(Ddim(), steps, Indices(ratio=True), clip=1.0)
    ).build(shape=shape, context=ContextSpec())
    decoder.net.load_state_dict(unet2d_tensors(theirs.state_dict()))
    pipeline = DDIMPipeline(theirs, DDIMScheduler(beta_schedule="linear", clip_sample=True))
    pipeline.set_progress_bar_config(disable=True)
    return decoder.eval(), pipeline


def runs(decoder: Any, pipeline: Any, noise: Tensor, steps: int) -> dict[str, Callable[[], Tensor]]:
    """Each makes images in [0, 1] from the same noise."""
    ctx, shape = Context.empty(len(noise)), tuple(noise.shape[1:])

    def ours() -> Tensor:
        x: Tensor = decoder.sample(ctx, shape=shape, rng=seeded(0), noise=noise)
        return (x / 2 + 0.5).clamp(0, 1)

    def theirs() -> Tensor:
        # The pipeline draws its own noise; this is what it does with it, conversion to images included.
        scheduler = pipeline.scheduler
        scheduler.set_timesteps(steps)
        x = noise
        with torch.no_grad():
            for t in scheduler.timesteps:
                x = scheduler.step(pipeline.unet(x, t).sample, t, x, eta=0.0).prev_sample
        return (x / 2 + 0.5).clamp(0, 1)

    def whole() -> Tensor:
        images = pipeline(len(noise), generator=seeded(1), num_inference_steps=steps, output_type="np").images
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    return {"ours": ours, "theirs": theirs, "pipeline": whole}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="cifar")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    config, shape = SIZES[given.size]
    decoder, pipeline = pair(config, shape, given.steps)
    noise = normal((given.images, *shape), seeded(1))
    makers = runs(decoder, pipeline, noise, given.steps)
    out: dict[str, Any] = {"size": given.size, "parameters": count(decoder), "images": given.images}
    out |= {"steps": given.steps, "threads": given.threads, "torch": torch.__version__}
    out["max_abs_diff"] = float((makers["ours"]() - makers["theirs"]()).abs().max())
    whole: Tensor = makers["pipeline"]()
    out["max_abs_diff_pipeline"] = float((makers["ours"]() - whole).abs().max())
    for name, bf16 in (("float32", False), ("bf16", True)):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found = turns({who: seconds(make) for who, make in makers.items()}, given.repeats)
        out[name] = {f"{who}_s": round(statistics.median(taken), 4) for who, taken in found.items()}
        out[name]["ratio"] = round(ratio(found["pipeline"], found["ours"]), 3)
        out[name]["ratio_loop"] = round(ratio(found["theirs"], found["ours"]), 3)
    out["bf16_against_float32"] = round(out["float32"]["pipeline_s"] / out["bf16"]["ours_s"], 3)
    print(json.dumps({**out, "load_average": os.getloadavg()[0]}, indent=1))


if __name__ == "__main__":
    main()
