"""Samples of a saved generator: text on the terminal, or an image of samples or of the steps to them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove import store
from nextmove.config import ConfigError
from nextmove.contracts import seeded
from nextmove.decoders.autoregressive import AutoregressiveDecoder
from nextmove.decoders.sampling import Sampling
from nextmove.evaluation import gallery
from nextmove.folders import open_folder
from nextmove.host.files import write_bytes
from nextmove.jobs.computing import TextRuntime, check_runtime
from nextmove.jobs.repeat import Call, at_least, repeatable, writable_dir
from nextmove.jobs.write import Computing, write
from nextmove.models.generator import Generator, TextSpec
from nextmove.models.image.tokenizer import Tokenizer
from nextmove.models.model import with_sampling
from nextmove.runtime import Precision

FRAMES = 60
"""Most frames of an animation."""


def load_generator(
    model: Path | str, *, sampler: str | None = None, steps: int = 0, guidance: float = 1.0, packed: bool = False
) -> Generator | Tokenizer:
    """A saved generator of text or images, with another sampler where asked for, or a tokenizer of images.

    sampler: as for policies; steps: network calls of it; guidance: weight of classifier-free guidance; packed: as
    of `Saved.foreign`. Raises ConfigError for a folder that holds something else, and for a sampler where there is none
    to change.
    """
    saved = open_folder(model).expect("generator")
    if saved.notice:
        print(saved.notice, file=sys.stderr)
    own = saved.kind == "nextmove"
    found: Generator | Tokenizer = store.load(saved.folder) if own else saved.foreign(packed=packed).model
    if isinstance(found, Generator):
        with_sampling(found, sampler, steps, guidance)
        if isinstance(found.spec, TextSpec):
            _readable(found, model)
    elif sampler or steps or guidance != 1:
        raise ConfigError(f"sampler, steps, guidance: {model} is a tokenizer and draws nothing; leave them out")
    return found


def _readable(generator: Generator, model: Path | str) -> None:
    """Raises ConfigError naming the folder of a language model whose tokenizer is not there."""
    try:
        generator.text.encode("")
    except ValueError as problem:
        raise ConfigError(f"{model}: {problem}") from None


@repeatable
def generate(
    call: Call,
    model: str | Path,
    *,
    n: int = 16,
    out: str | Path | None = None,
    prompt: str = "",
    length: int = 500,
    label: int = -1,
    sampler: str | None = None,
    steps: int = 0,
    guidance: float = 1.0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    runtime: TextRuntime = "torch",
    precision: Precision = "float32",
    threads: int = 2,
) -> Any:
    """Draws samples: text streams to the terminal token by token, images go into one image.

    Args:
        model: A run's folder, a saved model of text or images, a language model of transformers or a .gguf file of
            llama.cpp, or smollm2 or gemma3-270m from their packages.
        n: Images: how many.
        out: Images: file to write; .png a grid, .gif, .webp or .mp4 how they came about (denoising, or pixel by
            pixel); default MODEL/samples.png. Text: file to write besides the terminal.
        prompt: Text: what it begins with.
        length: Text: tokens to draw.
        label: Images: the class to draw; -1: each class in turn where the model knows classes.
        sampler: Images of diffusion and flow: another solver (ancestral, ddim, euler, midpoint, heun, rk4, dpm++).
        steps: Network calls of the sampler; 0 as trained.
        guidance: Weight of classifier-free guidance; 1 is none.
        temperature: Tokens: 0 takes the likeliest.
        top_k: Tokens: keep the k likeliest; 0 keeps all.
        top_p: Tokens: keep the likeliest of this total probability.
        seed: Decides the draws.
        runtime: Text: what computes the network: torch; openvino, which is faster (`pip install openvino`); or packed,
            fastest for one text, with weights of 4 and 8 bits as a .gguf file packs them, others in 8 bits
            (`pip install numba`).
        precision: Text, of openvino: float32, bf16, or int8 for the weights; how often the likeliest token is still
            float32's is measured on what was written and printed.
        threads: Threads of the arithmetic.

    Raises:
        FileNotFoundError: for a folder without a model.
        ConfigError: for a model, option, label or kind of image that does not fit; the message names it.
    """
    at_least(1, n=n, length=length, threads=threads)
    at_least(0, seed=seed)
    if out is not None:
        writable_dir(Path(out).parent)
    check_runtime(runtime, precision, known=TextRuntime)
    torch.set_num_threads(threads)
    generator = load_generator(model, sampler=sampler, steps=steps, guidance=guidance, packed=runtime == "packed")
    if isinstance(generator, Tokenizer):
        raise ConfigError(f"{model}: expected a generator of text or images, found a tokenizer; train a prior on it")
    target = Path(out) if out else Path(model) / "samples.png"
    sampling = Sampling(temperature, top_k, top_p)
    rng = seeded(seed, 6)
    inputs = labels(generator, n, label)
    if isinstance(generator.spec, TextSpec):
        call.leave_out("n", "for images, found a model of text")
        again = partial(load_generator, model)
        return write(generator, prompt, length, sampling, rng, out, Computing(runtime, precision, again))
    call.leave_out("prompt length runtime precision", "for text, found a model of images")
    kind = gallery.kind(target)
    tokens = isinstance(generator.decoder, AutoregressiveDecoder)
    if not tokens:
        call.leave_out("temperature top_k top_p", "for what is drawn token by token, found an image at once")
    options: dict[str, Any] = {"sampling": sampling} if tokens else {}
    if kind == ".png":
        images = generator.generate(n, rng=rng, inputs=inputs, **options)
        write_bytes(target, gallery.png(gallery.grid(images.numpy())))
    else:
        frames = [gallery.grid(image.numpy()) for image in process(generator, n, rng, inputs, options)]
        write_bytes(target, gallery.moving(frames, kind))
    print(f"{n} samples: {target}")
    return target


def labels(generator: Generator, n: int, label: int = -1) -> dict[str, Tensor]:
    """`label` (n,) where the model knows labels: all the same, or each class in turn; raises ConfigError for others."""
    classes = 0 if isinstance(generator.spec, TextSpec) else generator.spec.classes
    if not -1 <= label < classes:
        known = f"-1 to {classes - 1}" if classes else "-1, since the model knows no labels"
        raise ConfigError(f"label: expected {known}, found {label}")
    if not classes:
        return {}
    return {"label": torch.arange(n) % classes if label < 0 else torch.full((n,), label)}


def process(generator: Generator, n: int, rng: Any, inputs: Any, options: dict[str, Any]) -> Iterator[Tensor]:
    """Images (n, C, height, width) as they come about, at most about FRAMES of them, the finished ones last."""
    decoder, codec = generator.decoder, generator.image
    ctx = generator.context(inputs, n)
    if isinstance(decoder, AutoregressiveDecoder):
        ids, every = torch.zeros(n, generator.shape[0], dtype=torch.long), -(-generator.shape[0] // FRAMES)
        for i, drawn in enumerate(decoder.stream(ctx, shape=generator.shape, rng=rng, **options)):
            ids[:, i] = drawn
            if i % every == 0 or i == generator.shape[0] - 1:
                yield codec.decode(ids)
        return
    seen: list[Tensor] = []
    if hasattr(decoder, "sampler"):
        options = {**options, "watch": lambda x: seen.append(x.clone())}
    seen.append(decoder.sample(ctx, shape=generator.shape, rng=rng, **options))
    for x in seen[:: -(-len(seen) // FRAMES)] + seen[-1:]:
        yield codec.decode(x)
