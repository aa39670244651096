"""Trains and judges the generators of the road on one corpus after another; what is done already is kept.

    python benchmarks/generators.py digits-binary --minutes 10     # likelihood of autoregressive models, nats an image
    python benchmarks/generators.py digits --minutes 10            # 17 levels: bits a value, two-sample tests
    python benchmarks/generators.py mnist --minutes 10
    python benchmarks/generators.py frames --minutes 10            # 32 x 32 camera frames of PushT
    python benchmarks/generators.py text --minutes 10              # GPT, LSTM, RNN and n-grams on Shakespeare

Runs lie in runs/CORPUS/SYSTEM, each with its report; `scripts/results.py gather runs/CORPUS ...` takes their figures
into docs/data. Minutes are busy ones: other programs on the machine take nothing from a run. With `--threads 1` two
corpora train side by side on two cores, which suits networks as small as these.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from nextmove import jobs, nn
from nextmove.data import Affine
from nextmove.decoders.adversarial import Adversarial, Translate
from nextmove.jobs.fit import train_or_resume
from nextmove.models.image.ddpm import Ddpm
from nextmove.models.image.dit import DitDiffusion
from nextmove.models.image.flow import FlowMatching
from nextmove.models.image.gan import Gan
from nextmove.models.image.imagegpt import ImageGpt
from nextmove.models.image.meanflow import MeanFlowImages
from nextmove.models.image.pixelcnn import PixelCnn
from nextmove.nn.critic import DcganCritic
from nextmove.nn.dcgan import Dcgan
from nextmove.nn.imagegpt import ImageTransformer

AUGMENT = Affine(degrees=9, shift=0.45, zoom=0.1, share=0.7)
AUTOREGRESSIVE = ("pixelrnn", "pixelrnn-diagonal", "pixelcnn-plain", "pixelcnn", "imagegpt")
PARALLEL = ("gan", "ddpm", "dit", "flow", "meanflow")
LARGER = ("pixelcnn", "imagegpt", "vqgan", "vqgan-prior", *PARALLEL, "ddpm-v")
VARIANTS = {"reflow": "flow", "ddpm-v": "ddpm"}
"""Systems that are another one, otherwise trained."""

UNET = nn.UNet2d(channels=16, multipliers=(1, 2, 2), blocks=1, groups=8)


def _on(recipe: Any, trunk: Any, batch: int = 16) -> Any:
    return replace(recipe, decoder=replace(recipe.decoder, trunk=trunk), optim=replace(recipe.optim, batch=batch))


# About 0.3 M weights each, as PixelCNN and ImageGPT have by default, so that seconds an image compare the methods.
_RECIPES = {
    "pixelcnn": _on(PixelCnn(), PixelCnn().decoder.trunk, batch=8),
    "imagegpt": _on(ImageGpt(), ImageTransformer(width=64, layers=4, heads=4), batch=8),
    "gan": Gan(Adversarial(Dcgan(width=24), DcganCritic(width=24), latent=64, augment=Translate(2, share=0.4))),
    "ddpm": _on(Ddpm(), UNET),
    "dit": replace(_on(DitDiffusion(), nn.Dit(width=64)), label_width=64),
    "flow": _on(FlowMatching(), UNET),
    "meanflow": _on(MeanFlowImages(), UNET),
}
_RECIPES["ddpm-v"] = replace(_RECIPES["ddpm"], decoder=replace(_RECIPES["ddpm"].decoder, target="v"))
EQUAL = {system: {"recipe": recipe} for system, recipe in _RECIPES.items()}


@dataclass(frozen=True)
class Corpus:
    """What is trained on a source, and how."""

    source: str
    systems: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    each: dict[str, dict[str, Any]] = field(default_factory=dict)
    """More options of single systems."""
    judge: dict[str, int] = field(default_factory=dict)
    """Options of `nextmove evaluate`."""


# Hundreds of calls an image make judging as long as training where images are larger.
FEWER = {"samples": 240, "likelihood": 120, "classified": 240}


CORPORA = {
    "digits-binary": Corpus("digits", AUTOREGRESSIVE, {"levels": 2, "augment": AUGMENT}),
    # Samples are compared with images as they are: those of a model that saw rotated ones are told apart.
    "digits": Corpus(
        "digits",
        ("pixelcnn", "vqvae", "vqgan", "vqgan-prior", *PARALLEL, "reflow"),
        each={"pixelcnn": {"augment": AUGMENT}, "reflow": {"pairs": 4000}},
    ),
    "mnist": Corpus("mnist", LARGER, each=EQUAL, judge=FEWER),
    "frames": Corpus("runs/pusht-images", LARGER, each=EQUAL, judge=FEWER),
    "text": Corpus("shakespeare", ("rnn", "lstm", "gpt", "gpt-modern"), {"unit": "bpe"}),
}


def tokenizer(out: Path) -> Path:
    """The tokenizer of a corpus's prior."""
    return next(run for run in (out / "vqgan", out / "vqvae") if (run / "model").is_dir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=CORPORA)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path("runs"))
    args = parser.parse_args()
    corpus, out = CORPORA[args.corpus], args.out / args.corpus
    if args.corpus == "frames" and not Path(corpus.source).is_dir():
        jobs.record("pusht", out=Path(corpus.source), episodes=300, cameras=("image",))
    for system in args.only or corpus.systems:
        run = out / system
        print(f"{args.corpus}: {system}", flush=True)
        own = dict(corpus.each.get(system, {}))
        if system == "vqgan-prior":
            own["tokenizer"] = tokenizer(out)
        if system == "reflow":
            own["teacher"] = out / "flow"
        name = VARIANTS.get(system, system)
        options = {"minutes": args.minutes, "clock": "busy", "seed": args.seed, "threads": args.threads}
        train_or_resume(run, partial(jobs.train, name, corpus.source, **options, **corpus.options, **own))
        if not (run / "evaluation" / "report.json").is_file():
            jobs.judge_generator(run, **corpus.judge)


if __name__ == "__main__":
    main()
