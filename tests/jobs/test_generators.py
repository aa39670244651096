"""Text and images through the whole job on a small scale: train, save, load, generate, evaluate."""

from __future__ import annotations

import importlib
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nextmove import jobs, nn, store
from nextmove.cli.main import main
from nextmove.config import ConfigError
from nextmove.data import DataError
from nextmove.decoders import Autoregressive, Flow, Sampler
from nextmove.jobs.judge import draw
from nextmove.models.image.flow import FlowMatching
from nextmove.models.image.pixelcnn import PixelCnn
from nextmove.models.image.vqgan_prior import VqGanPrior
from nextmove.models.image.vqvae import VqVae
from nextmove.models.text.gpt import Gpt2
from nextmove.nn.autoencoder import Strided
from nextmove.nn.pixelcnn import GatedCnn

TEXT = "the next move of a robot is the next token of a text. " * 60
FLOW = FlowMatching(
    decoder=Flow(
        trunk=nn.UNet2d(channels=16, multipliers=(1,), blocks=1, attention=(), groups=8), sampler=Sampler(steps=3)
    )
)
PIXELS = PixelCnn(decoder=Autoregressive(trunk=GatedCnn(width=8, layers=2, first=3, head=8)))
PRIOR = VqGanPrior(decoder=Autoregressive(trunk=nn.Gpt(width=16, layers=1, heads=2)))


def train(system: str, source: str, out: Path, recipe: Any, **options: Any) -> Path:
    jobs.train(system, source, out=out, steps=4, threads=1, recipe=recipe, **options)
    return out


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    (folder / "corpus.txt").write_text(TEXT)
    recipe = Gpt2(decoder=Autoregressive(trunk=nn.Gpt(width=32, layers=1, heads=2)))
    return train("gpt", str(folder / "corpus.txt"), folder / "gpt", recipe, length=32)


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("flow", "digits", tmp_path_factory.mktemp("flow") / "flow", FLOW, labels=True)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("pixelcnn", "digits", tmp_path_factory.mktemp("pixels") / "pixelcnn", PIXELS, levels=2)


def test_text_streams_from_the_prompt_and_repeats_with_its_seed(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = jobs.generate(text, prompt="the ", length=50, seed=3, threads=1)
    assert capsys.readouterr().out == first + "\n"
    assert first.startswith("the ")
    assert len(first) == 54
    assert set(first) <= set(TEXT)
    assert jobs.generate(text, prompt="the ", length=50, seed=3, threads=1) == first
    assert jobs.generate(text, prompt="the ", length=50, seed=4, threads=1) != first
    with pytest.raises(ValueError, match=r"character 'Z' at position 0"):
        jobs.generate(text, prompt="Zoo")


def test_openvino_writes_the_same_text_and_says_how_far_int8_is(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino", reason="needs openvino")
    first = jobs.generate(text, prompt="the ", length=50, seed=3, threads=1)
    assert jobs.generate(text, prompt="the ", length=50, seed=3, threads=1, runtime="openvino") == first
    assert "4 tokens read in" in capsys.readouterr().err
    jobs.generate(text, prompt="the ", length=50, seed=3, threads=1, runtime="openvino", precision="int8")
    assert "int8: after 32 tokens the likeliest next is float32's in" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="precision: torch computes in float32, found 'int8'"):
        jobs.generate(text, precision="int8")


def test_packed_weights_write_and_say_how_far_they_are(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("numba", reason="needs numba")
    jobs.generate(text, prompt="the ", length=50, seed=3, threads=1, runtime="packed")
    assert "packed, float32: after 32 tokens the likeliest next is float32's in" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="precision: packed computes in float32, found 'int8'"):
        jobs.generate(text, runtime="packed", precision="int8")


def test_text_is_judged_against_n_grams(text: Path, tmp_path: Path) -> None:
    report = jobs.judge_generator(text, out=tmp_path)
    likely = report["likelihood"]
    assert likely["nats_per_token"] > 0.5
    # A text that repeats itself is easy for counts, and four steps are no training.
    (ngram,) = (v for k, v in likely.items() if "grams" in k)
    assert ngram < 0.2
    assert report["texts"][0]
    assert "n" in (tmp_path / "report.html").read_text()


def test_images_as_a_grid_and_as_a_film_of_their_making(flow: Path, pixels: Path, tmp_path: Path) -> None:
    jobs.generate(flow, n=4, out=tmp_path / "grid.png", guidance=2.0, threads=1)
    assert Image.open(tmp_path / "grid.png").size[0] > 100
    for run, frames in ((flow, 4), (pixels, 33)):
        jobs.generate(run, n=4, out=tmp_path / "film.gif", threads=1)
        film = Image.open(tmp_path / "film.gif")
        # Frames that look alike are merged.
        assert 2 <= film.n_frames <= frames
    with pytest.raises(ValueError, match=r"ending in \.png, \.gif, \.webp or \.mp4, found 'film\.bmp'"):
        jobs.generate(pixels, n=1, out=tmp_path / "film.bmp")


def test_a_saved_generator_is_the_one_that_was_trained(flow: Path) -> None:
    first, second = (store.load(flow / "model") for _ in range(2))
    assert first.spec.classes == 10
    for name, value in first.state_dict().items():
        assert value.equal(second.state_dict()[name]), name
    assert json.loads((flow / "model" / "config.json").read_text())["facts"]["labels"] is True


def test_flow_is_judged_by_samples_and_by_its_likelihood_bound(flow: Path, tmp_path: Path) -> None:
    report = jobs.judge_generator(flow, samples=12, likelihood=2, classified=60, out=tmp_path)
    assert report["likelihood"]["bits_per_dim_bound"] > 2
    assert 0 <= report["quality"]["against_test"]["accuracy"] <= 1
    assert sum(report["quality"]["class_share"]) == pytest.approx(1)
    assert report["speed"]["network_calls"] == 3
    assert (tmp_path / "samples.png").is_file()
    assert "data:image/png" in (tmp_path / "report.html").read_text()


def test_pictures_that_do_not_fit_and_counts_below_their_least_are_named(flow: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="samples: expected at least 1, found 0"):
        jobs.judge_generator(flow, samples=0, out=tmp_path)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(20):
        pixels = np.full((8, 8, 3), (10 * i, 0, 255 - 10 * i), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    with pytest.raises(ConfigError, match=r"pictures: image: expected \(B, 1, 8, 8\), found \(\d+, 3, 8, 8\)"):
        jobs.judge_generator(flow, data=str(folder), samples=4, out=tmp_path)


def test_pixels_are_judged_by_their_exact_likelihood(pixels: Path, tmp_path: Path) -> None:
    report = jobs.judge_generator(pixels, samples=4, likelihood=8, out=tmp_path)
    likely = report["likelihood"]
    assert likely["nats_per_image"] == pytest.approx(likely["bits_per_dim"] * 64 * 0.6931472, rel=1e-6)
    # Four steps from the uniform distribution's 64 log 2.
    assert 25 < likely["nats_per_image"] < 46


def test_a_prior_learns_a_tokenizers_ids_and_holds_it(tmp_path: Path) -> None:
    tokenizer = VqVae(trunk=Strided(width=8, blocks=1))
    run = train("vqvae", "digits", tmp_path / "vqvae", tokenizer)
    report = jobs.judge_generator(run)
    assert report["likelihood"].keys() == {"error", "perplexity"}
    prior = train("vqgan-prior", "digits", tmp_path / "prior", PRIOR, start=[f"tokenizer={run}"])
    mine, theirs = store.load(prior / "model").codec.state_dict(), store.load(run / "model").codec.state_dict()
    assert all(mine[name].equal(value) for name, value in theirs.items())
    jobs.generate(prior, n=2, out=tmp_path / "grid.png", threads=1)
    model = store.load(prior / "model")
    assert draw(model, 2, 0)[1]["network_calls"] == model.shape[0] > 1
    with pytest.raises(ConfigError, match="needs the run of a trained vqvae or vqgan"):
        train("vqgan-prior", "digits", tmp_path / "other", PRIOR)
    with pytest.raises(ConfigError, match="works on pixels; leave it out"):
        train("flow", "digits", tmp_path / "other", FLOW, tokenizer=run)


def test_reflow_goes_on_from_a_flow_on_its_own_pairs(flow: Path, pixels: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"out": tmp_path / "reflow", "steps": 1, "threads": 1, "pairs": 40}
    student = jobs.train("flow", "digits", teacher=flow, **options)
    assert (student.facts["pairs"], student.spec.classes) == (38, 10)
    before = store.load(flow / "model").state_dict()
    # One step of warm-up away from the teacher's weights.
    assert all((value - before[name]).abs().max() < 1e-4 for name, value in student.state_dict().items())
    assert any(not value.equal(before[name]) for name, value in student.state_dict().items())
    options["out"] = tmp_path / "other"
    for wrong, message in (
        ({"teacher": pixels}, "expected a run of flow, found one of pixelcnn"),
        ({"teacher": flow, "recipe": FLOW}, "keeps the teacher's sizes"),
        ({"teacher": flow, "labels": True}, r"leave out --recipe\.\*, --augment\.\*, --levels, --labels"),
    ):
        with pytest.raises(ConfigError, match=message):
            jobs.train("flow", "digits", **options, **wrong)
    with pytest.raises(ConfigError, match="expected a run trained on mnist, found digits"):
        jobs.train("flow", "mnist", teacher=flow, **options)
    with pytest.raises(ConfigError, match="pixelcnn has no straight paths"):
        jobs.train("pixelcnn", "digits", teacher=pixels, **options)


def test_reflow_from_the_command_line(flow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "flow", "digits", "--teacher", str(flow), "--pairs", "20", "--steps", "1", "--threads", "1"]
    assert main([*command, "--out", str(tmp_path / "reflow")]) == 0
    assert store.load(tmp_path / "reflow" / "model").facts["pairs"] == 19
    assert main([*command, "--out", str(tmp_path / "other"), "--recipe.optim.lr", "0.5"]) == 1
    assert "keeps the teacher's sizes" in capsys.readouterr().err


def test_the_side_of_pictures_is_an_option_beside_published_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(12):
        Image.effect_noise((20, 24), 50).save(tmp_path / f"{i}.png")
    small = replace(PIXELS, optim=replace(PIXELS.optim, batch=2))
    monkeypatch.setattr(PixelCnn, "published", classmethod(lambda cls: small))
    command = ["train", "pixelcnn", str(tmp_path), "--steps", "1", "--out", str(tmp_path / "run"), "--threads", "1"]
    assert main([*command, "--size", "published", "--side", "8"]) == 0
    model = store.load(tmp_path / "run" / "model")
    assert (model.spec.height, model.spec.width, model.card.recipe) == (8, 8, small)
    assert main([*command, "--size", "8"]) == 1
    assert (
        "--size: expected 'published' or 'insulated' or 'lerobot', found '8'; the size of images is --side"
        in capsys.readouterr().err
    )


def test_bad_requests_are_named(pixels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="expected digits, mnist, a folder of images or a data set"):
        train("pixelcnn", "digts", tmp_path, PIXELS)
    with pytest.raises(ConfigError, match="Autoregressive is not integrated step by step"):
        jobs.generate(pixels, sampler="ddim")
    model = store.load(pixels / "model")
    with pytest.raises(ValueError, match=r"image: expected \(B, 1, 8, 8\), found \(2, 3, 8, 8\)"):
        model.encode({"image": torch.zeros(2, 3, 8, 8)})
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\], found 0 to 255"):
        model.encode({"image": 255 * torch.eye(8)[None, None]})
    assert main(["train", "gpt", str(tmp_path / "nothing"), "--minutes", "1"]) == 1
    assert "expected shakespeare, stdlib, a text file" in capsys.readouterr().err
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match="found an empty corpus"):
        train("gpt", str(tmp_path / "empty.txt"), tmp_path, None)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"holdout": -0.5}, "holdout: expected 0 to less than 1, found -0.5"),
        ({"length": 8}, "no option 'length'"),
        ({"minutse": 8}, "no option 'minutse', did you mean 'minutes'"),
        ({"pairs": 0}, "pairs: expected at least 1, found 0"),
    ],
)
def test_trainings_that_make_no_sense_are_named(tmp_path: Path, option: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train("flow", "digits", tmp_path, FLOW, **option)


def test_windows_of_text_are_long_enough_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="length: expected at least 4, found 1"):
        train("rnn", "stdlib", tmp_path, None, length=1)


def test_what_stands_in_the_way_is_named_before_the_work(
    flow: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nextmove.jobs.tasks.images.reflow_task", None)
    with pytest.raises(FileExistsError, match="holds a run"):
        train("flow", "digits", flow, None, teacher=flow)
    monkeypatch.setattr("nextmove.evaluation.gallery.grid", None)
    with pytest.raises(ValueError, match=r"out: expected a name ending in .png, .gif, .webp or .mp4, found 'x\.jpg'"):
        jobs.generate(flow, out=tmp_path / "x.jpg")
    (tmp_path / "file").touch()
    for model in (flow, text):
        with pytest.raises(ConfigError, match="out: expected a folder that can be written to"):
            jobs.generate(model, out=tmp_path / "file" / "x.png")


def test_text_is_printed_once(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for call in (
        lambda: jobs.generate(text, prompt="the ", length=9),
        lambda: main(["generate", str(text), "--prompt", "the ", "--length", "9"]),
    ):
        call()
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_a_judge_of_generators_refuses_what_is_for_policies_and_survives_one_sample(
    flow: Path, text: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "--samples=9"]) == 2
    assert "--samples: for generators, found a policy; leave it out" in capsys.readouterr().err
    for option in (["--runtime", "openvino"], ["--batched"], ["--execute=3"], ["--episodes", "9"]):
        assert main(["evaluate", str(flow), *option]) == 2
        printed = f"{option[0].partition('=')[0]}: for policies, found a generator; leave it out"
        assert printed in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"expected a policy, found a generator .* `nextmove evaluate` judges it"):
        jobs.evaluate(flow, out=tmp_path)
    with pytest.raises(ConfigError, match=r"sampler|steps"):
        jobs.judge_generator(text, out=tmp_path, sampler="ddim", steps=3)
    report = jobs.judge_generator(flow, out=tmp_path, samples=1, likelihood=0, classified=0)
    assert report["quality"]["energy"] is None
    assert "n/a" in (tmp_path / "report.html").read_text()


def test_a_generator_is_loaded_once_and_its_draws_are_of_the_seed_that_was_asked_for(
    flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds, loads, load = [], [], store.load
    judge = importlib.import_module("nextmove.jobs.judge")
    monkeypatch.setattr(judge, "draw", lambda model, count, seed: seeds.append(seed) or draw(model, count, seed))
    monkeypatch.setattr(store, "load", lambda folder: loads.append(folder) or load(folder))
    command = ["evaluate", str(flow), "--samples", "1", "--likelihood", "0", "--classified", "0"]
    # The first seed of policies' episodes is a seed as any other here.
    assert main([*command, "--seed", "100000", "--out", str(tmp_path)]) == 0
    assert (seeds, len(loads)) == ([100_000], 1)
    assert json.loads((tmp_path / "report.json").read_text())["commands"][0].startswith(
        f"nextmove evaluate {flow} --samples 1 --guidance 1 --likelihood 0 --classified 0 --seed 100000"
    )


def test_nothing_is_made_in_a_folder_whose_model_does_not_load(flow: Path, run: Path, tmp_path: Path) -> None:
    for model in (flow, run):
        place = shutil.copytree(model / "model", tmp_path / model.parent.name)
        (place / "model.safetensors").write_bytes(b"")
        before = sorted(place.iterdir())
        assert main(["evaluate", str(place)]) == 1
        assert sorted(place.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n: expected at least 1, found 0"),
        ({"n": -1}, "n: expected at least 1, found -1"),
        ({"length": -3}, "length: expected at least 1, found -3"),
        ({"threads": 0}, "threads: expected at least 1, found 0"),
        ({"seed": -1}, "seed: expected at least 0, found -1"),
        ({"label": 77}, "label: expected -1, since the model knows no labels, found 77"),
        ({"guidance": math.nan}, "guidance: expected a finite number, found nan"),
    ],
)
@pytest.mark.parametrize("kind", ["text", "pixels"])
def test_draws_that_make_no_sense_are_named(
    kind: str, options: dict[str, Any], message: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        jobs.generate(request.getfixturevalue(kind), out=tmp_path / "x.png", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("text", {"n": 3}, "n: for images, found a model of text; leave out --n"),
        ("flow", {"prompt": "a four"}, "prompt: for text, found a model of images; leave out --prompt"),
        ("pixels", {"length": 7}, "length: for text, found a model of images; leave out --length"),
        ("flow", {"temperature": 2.0}, "temperature: for what is drawn token by token"),
        ("flow", {"top_k": 3}, "top_k: for what is drawn token by token, found an image at once; leave out --top-k"),
    ],
)
def test_options_of_other_models_are_named(
    kind: str, options: dict[str, Any], message: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        jobs.generate(request.getfixturevalue(kind), out=tmp_path / "x.png", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("label", [-2, 10])
def test_a_label_that_there_is_not_is_named(flow: Path, tmp_path: Path, label: int) -> None:
    with pytest.raises(ConfigError, match=f"label: expected -1 to 9, found {label}"):
        jobs.generate(flow, n=1, out=tmp_path / "x.png", label=label)


def test_nan_stops_training_and_the_last_good_checkpoint_stays(tmp_path: Path) -> None:
    from nextmove.training import DivergedError

    broken = replace(FLOW, optim=replace(FLOW.optim, lr=1e30, warmup=0, clip=0.0))
    with pytest.raises(DivergedError, match=r"(loss term|gradient of).*last good checkpoint"):
        jobs.train("flow", "digits", out=tmp_path, steps=50, threads=1, recipe=broken)


def test_text_that_was_trained_on_is_not_judged_as_if_held_out(text: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    other = "".join(rng.choice(sorted(set(TEXT)), 3000))
    for name, content, printed in (
        ("same", TEXT, "the 1 text kept from training"),
        ("longer", TEXT + TEXT, "It may have been trained on these texts: parts of them"),
        ("other", other, "the 1 text that the model was not trained on"),
    ):
        (tmp_path / f"{name}.txt").write_text(content)
        found = jobs.judge_generator(text, data=tmp_path / f"{name}.txt", out=tmp_path / name)["judged_on"]
        assert printed in f"{found['sentence']}. {found['caution']}"
