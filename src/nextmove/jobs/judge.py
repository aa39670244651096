"""Judges a saved generator of text or images: likelihood where it exists, sample quality, speed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nextmove import data as sets
from nextmove import store
from nextmove.config import ConfigError
from nextmove.contracts import Context, seeded
from nextmove.contracts.networks import Networked
from nextmove.data import texts
from nextmove.decoders.autoregressive import AutoregressiveDecoder
from nextmove.decoders.diffusion import DiffusionDecoder
from nextmove.decoders.likelihood import bits_per_dim, log_likelihood
from nextmove.decoders.sampling import Sampling
from nextmove.evaluation import gallery, quality
from nextmove.evaluation.entry import read_train_log
from nextmove.evaluation.generator_report import GeneratorResult, table_rows, write_generator
from nextmove.evaluation.ngram import best_order
from nextmove.folders import open_folder
from nextmove.host.lock import hold
from nextmove.jobs import provenance
from nextmove.jobs.generate import labels, load_generator
from nextmove.jobs.repeat import Call, at_least, repeatable, writable_dir
from nextmove.models.generator import Generator, ImageSpec, TextSpec
from nextmove.models.image.tokenizer import Tokenizer

BATCH = 120


@repeatable
def judge_generator(
    call: Call,
    model: str | Path,
    *,
    data: str | Path | None = None,
    samples: int = 360,
    sampler: str | None = None,
    steps: int = 0,
    guidance: float = 1.0,
    likelihood: int = 360,
    classified: int = 1000,
    seed: int = 0,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Judges a generator of text or images on the held-out part of what it was trained on.

    By likelihood where it exists, sample quality and speed. Writes report.html, report.json and images into OUT and
    returns report.json's content.

    Args:
        model: A run's folder, a saved model of text or images, or a language model of transformers.
        data: Text or images to judge on; default what it was trained on.
        samples: Images drawn and compared with as many held-out ones.
        sampler: Another solver for diffusion and flow (ancestral, ddim, euler, midpoint, heun, rk4, dpm++).
        steps: Network calls of the sampler; 0 as trained.
        guidance: Weight of classifier-free guidance for models that know labels; 1 is none.
        likelihood: Most held-out images whose likelihood is measured; 0 leaves it out.
        classified: Images drawn to count each class's share, where the data have classes; 0 leaves it out.
        seed: Decides the draws.
        out: Folder of the report; default MODEL/evaluation.

    Raises:
        FileNotFoundError: for a folder without a model.
        ConfigError, DataError: for a model, source or option that does not fit.
        InUseError: where another run writes into OUT.
        OSError: for a disk that is full, naming the file.
    """
    at_least(1, samples=samples)
    at_least(0, likelihood=likelihood, classified=classified, seed=seed)
    found: Any = load_generator(model, sampler=sampler, steps=steps, guidance=guidance)
    trained = found.facts.get("data")
    if data is None and trained is None:
        raise ConfigError(f"data: {model} does not say what it was trained on; expected --data, found none")
    source = str(data or trained)
    out = writable_dir(Path(out) if out else Path(model) / "evaluation")
    with hold(out):
        judged = _of(found, Path(model))
        if isinstance(found, Tokenizer):
            judged = _tokenizer(judged, found, source)
        elif isinstance(found.spec, TextSpec):
            judged = _text(judged, found, source, seed)
        else:
            judged = _images(judged, found, source, samples, likelihood, classified, seed)
        again = call.command("samples likelihood classified guidance", name="evaluate")
        written = write_generator(judged, out, title=judged.name, commands=[again])
        print(f"judged on {written['judged_on']['sentence']}. {written['judged_on']['caution']}".strip())
        for figure, value, explained in table_rows(written):
            print(f"{figure}: {value}" + f" ({explained})" * bool(explained))
        print(" ".join(part for part in (written["caution"], f"open {out / 'report.html'}") if part))
        return written


def _of(model: Any, run: Path) -> GeneratorResult:
    """Name, facts and training curve of a model, as far as its files have them."""
    log = open_folder(run).folder.parent / "train.jsonl"
    facts = {**provenance.facts(model), "parameters": sum(p.numel() for p in model.parameters())}
    facts["weights_hash"] = store.weights_hash(run)
    return GeneratorResult(run.name, facts, curve=read_train_log(log) if log.is_file() else None)


@torch.no_grad()
def text_likelihood(model: Generator, text: str) -> dict[str, float]:
    """Nats a token and bits a character of held-out text, every token after at least half a window of others."""
    ids, window = model.text.encode(text), model.shape[0]
    rows = texts.Ids(ids, window, window // 2)
    total, count = 0.0, 0
    for part in np.array_split(np.arange(len(rows)), max(1, len(rows) // BATCH)):
        found = model.tokens.log_prob(Context.empty(len(part)), rows.batch(part)["ids"])
        # The first window counts whole, of each other its new half.
        counted = found[:, window // 2 :]
        total, count = total - float(counted.sum()), count + counted.numel()
    nats = total / count
    share = len(ids) / len(text)
    return {"nats_per_token": nats, "bits_per_character": nats * share / math.log(2), "perplexity": math.exp(nats)}


def image_likelihood(model: Generator, images: torch.Tensor, seed: int = 0) -> dict[str, float]:
    """Nats an image and bits a value: exact for autoregressive models, a bound by the ODE for diffusion and flow."""
    decoder, spec = model.decoder, model.spec
    assert isinstance(spec, ImageSpec)
    parts = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    if isinstance(decoder, AutoregressiveDecoder):
        with torch.no_grad():
            found = [decoder.log_prob(model.context({}, len(x)), model.encode({"image": x})).sum(1) for x in parts]
        nats = -float(torch.cat(found).double().mean())
        if model.shape != (spec.values,):
            return {"nats_of_tokens": nats}
        return {"nats_per_image": nats, "bits_per_dim": nats / math.log(2) / spec.values}
    if isinstance(decoder, DiffusionDecoder):
        rng = seeded(seed, 7)
        found = []
        for x in parts:
            ctx = model.context({}, len(x))
            found.append(log_likelihood(decoder, ctx, model.encode({"image": x}, rng), rng=rng))
        bits = bits_per_dim(torch.cat(found).double().mean(), spec.values, spec.levels)
        return {"bits_per_dim_bound": float(bits)}
    return {}


def _images(
    judged: GeneratorResult, model: Generator, source: str, samples: int, most: int, classified: int, seed: int
) -> GeneratorResult:
    spec: Any = model.spec
    found = sets.images(source, size=spec.height)
    try:
        spec.check(found.test.image)
    except ValueError as problem:
        raise ConfigError(f"{source}: {problem}") from None
    held, choice = provenance.choose_images(model, found)
    test = quantised(held.image, spec.levels)
    train = quantised(found.train.image, spec.levels)
    label = found.train.label if classified else None
    drawn, speed = draw(model, max(samples, classified if label is not None else 0), seed)
    close = quality.judge_samples(drawn[: min(samples, len(test))].numpy(), test.numpy(), train.numpy())
    if label is not None:
        close["class_share"] = quality.class_share(drawn.numpy(), train.numpy(), label.numpy()).tolist()
    images = {
        f"samples, {judged.name}": gallery.png(gallery.grid(drawn[:64].numpy())),
        "held out, real images": gallery.png(gallery.grid(test[:64].numpy())),
    }
    likely = image_likelihood(model, held.image[:most], seed) if most else {}
    return replace(judged, likelihood=likely, quality=close, speed=speed, images=images, judged_on=_judged_on(choice))


def _judged_on(choice: provenance.Choice) -> dict[str, Any]:
    """What a generator is judged on, for its report."""
    counts = {name: count for name, count in choice.counts.items() if count}
    return {"sentence": choice.sentence, "caution": choice.caution, "unit": choice.unit, "counts": counts}


def draw(model: Generator, count: int, seed: int) -> tuple[torch.Tensor, dict[str, float]]:
    """`count` images in batches, and what they took: seconds and network calls an image."""
    made, rng = [], seeded(seed, 8)
    inputs = labels(model, count)
    began = time.perf_counter()
    with counted(model) as calls:
        for start in range(0, count, BATCH):
            n = min(BATCH, count - start)
            part = {name: value[start : start + n] for name, value in inputs.items()}
            made.append(model.generate(n, rng=rng, inputs=part))
    seconds = time.perf_counter() - began
    # Token by token the network may be stepped in other ways than by its forward pass.
    tokens = model.shape[0] if isinstance(model.decoder, AutoregressiveDecoder) else 0
    called = tokens or calls[0] / -(-count // BATCH)
    return torch.cat(made), {"seconds_per_image": seconds / count, "network_calls": called}


@contextmanager
def counted(model: Networked) -> Iterator[list[int]]:
    """How often the network that makes the samples is called inside the block."""
    calls = [0]

    def add(*_: Any) -> None:
        calls[0] += 1

    made = model.networks()
    network = next(made[name] for name in ("step", "token", "generator") if name in made)
    hook = network.register_forward_hook(add)
    try:
        yield calls
    finally:
        hook.remove()


def quantised(image: torch.Tensor, levels: int) -> torch.Tensor:
    """The same at the nearest of `levels` values, as samples are."""
    return (image * (levels - 1) + 0.5).floor() / (levels - 1)


def _text(judged: GeneratorResult, model: Generator, source: str, seed: int) -> GeneratorResult:
    train, test = texts.split_text(texts.text(source))
    likely = text_likelihood(model, test)
    parts = (model.text.encode(part).numpy() for part in (train, test))
    order, nats = best_order(*parts, classes=model.text.classes)
    likely |= {f"nats_per_token_of_{order}_grams": nats[order]}
    began, rng = time.perf_counter(), seeded(seed, 8)
    # Where nothing begins a text, the first id of the test text does.
    start = model.text.encode(test[:40])[None, : int(not model.tokens.config.start)]
    ids = [int(row) for row in model.stream(start, new=400, rng=rng, sampling=Sampling(0.8), stop=())]
    speed = {"tokens_per_second": len(ids) / (time.perf_counter() - began)}
    choice = _judged_on(provenance.judge_text(model, test))
    return replace(
        judged, likelihood=likely, speed=speed, texts=[model.text.decode(torch.tensor(ids))], judged_on=choice
    )


def _tokenizer(judged: GeneratorResult, model: Tokenizer, source: str) -> GeneratorResult:
    held, choice = provenance.choose_images(model, sets.images(source, size=model.spec.height))
    test = quantised(held.image, model.spec.levels)
    with torch.no_grad():
        made = model.reconstruct(test[:64])
    images = {
        "reconstructed, from their tokens": gallery.png(gallery.grid(made.numpy())),
        "held out, real images": gallery.png(gallery.grid(test[:64].numpy())),
    }
    return replace(judged, likelihood=model.figures(test), images=images, judged_on=_judged_on(choice))
