"""RT-2: a trained model of images and texts becomes a policy, keeps its words, and answers while it learns to act."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nextmove import data, jobs, store
from nextmove.codecs.byte_level import train_captions
from nextmove.config import ConfigError
from nextmove.contracts import PLAN, TASK, Feature, Optim, seeded
from nextmove.data import DataError
from nextmove.data.labelled import add_texts
from nextmove.data.mixed import Mixed
from nextmove.jobs.readers import begin_reader, read_reader, reading
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.cotrained import CotrainedPolicy
from nextmove.models.policy.openvla import BINS
from nextmove.models.policy.rt2 import Rt2, around
from nextmove.models.vision_language.flamingo import Flamingo
from nextmove.models.vision_language.llava import Llava, llama
from nextmove.models.vision_language.paligemma import PaliGemma, gemma
from nextmove.models.vision_language.smolvlm import SmolVlm
from nextmove.models.vision_language.spec import PairSpec
from nextmove.models.vision_language.wording import Wording

WORDS = ["".join(part) for part in product("bdfglm", "aeiou", "nrst", "aou")]
CODEC = train_captions([" ".join(WORDS), "what colour is it", "red green"], 600)
FEW = train_captions(["red green"], 300)
CAMERA = "observation.image"
SPEC = PolicySpec({CAMERA: Feature("image", (16, 16, 3)), TASK: Feature("text")}, 3, 5.0)
RECIPES = {"llava": Llava, "smolvlm": SmolVlm, "paligemma": PaliGemma}
ASKED = Wording(question="Question: {}", behind="\nAnswer: ")


def saved(place: Path, system: str = "llava", codec: Any = CODEC, **changes: Any) -> Path:
    """An untrained model of images and texts."""
    recipe = RECIPES[system]()
    trunk = gemma(32, 2, 2, 16, 48) if system == "paligemma" else llama(32, 2, 2, 48)
    tower = replace(recipe.tower, image=16, patch=4, width=24, layers=2, heads=2, stem=())
    recipe = replace(recipe, tower=tower, net=replace(recipe.net, trunk=trunk), **changes)
    torch.manual_seed(0)
    model = store.create(system, PairSpec(16, 16, codec.classes, 48, codec.hash), recipe)
    model.codec.adopt(codec)
    return store.save(model, place)


def begun(place: Path) -> CotrainedPolicy:
    model = read_reader(place)
    policy = store.create("rt2", SPEC, reading(Rt2(), model, place))
    begin_reader(policy, model, place)
    return policy


def asked(text: str = "red") -> dict[str, Any]:
    images = torch.randint(0, 256, (1, 1, 16, 16, 3), generator=seeded(5), dtype=torch.uint8)
    return {
        "images": images,
        "images_valid": torch.ones(1, 1, dtype=torch.bool),
        "prompt": ["what colour is it"],
        "text": [text],
    }


@pytest.mark.parametrize(("system", "wording"), [("llava", None), ("llava", ASKED), ("smolvlm", None)])
def test_it_begins_as_the_model_that_it_was(system, wording, tmp_path):
    changes = {} if wording is None else {"wording": wording}
    place = saved(tmp_path / "model", system, **changes)
    model, policy = read_reader(place), begun(place)
    # Read and answered in the very order in which the model was trained.
    expected = model.loss(asked(), rng=seeded(0))["nll"].item()
    assert policy.answer_loss(asked()).item() == pytest.approx(expected, abs=1e-5)
    again = store.load(store.save(policy, tmp_path / "policy"))
    assert again.answer_loss(asked()).item() == pytest.approx(expected, abs=1e-5)
    assert again.encoder.tokenizer.text == CODEC.text


def test_moves_are_the_rarest_words_and_answers_are_none_of_them(tmp_path):
    policy = begun(saved(tmp_path / "model", "paligemma")).eval()
    table = policy.decoder.net.table
    assert table.tolist() == list(range(CODEC.classes - 1, CODEC.classes - 1 - BINS, -1))
    obs = {CAMERA: torch.zeros(2, 1, 16, 16, 3, dtype=torch.uint8), TASK: ["push", "pull"]}
    policy.codec.scale.set_ranges([-1] * 3, [1] * 3, [True] * 3)
    assert float(policy.act(obs, rng=seeded(0)).actions.abs().max()) <= 1
    # With all weight on the words of actions, what is said is still another word.
    with torch.no_grad():
        language = policy.encoder.language
        language.embedding.weight[table] = 10 * language.embedding.weight[table]
    said = policy.answer(asked()["images"][0], "what colour is it", new=6)
    ids = CODEC.encode(said).tolist()
    assert ids
    assert (
        max(policy._written(policy._asked(*[asked()[k] for k in ("images", "images_valid", "prompt")]).memory, 6))
        < CODEC.classes - BINS
    )


def test_every_row_of_both_sources_comes():
    class Numbers:
        def __init__(self, count: int) -> None:
            self.count = count

        def __len__(self) -> int:
            return self.count

        def batch(self, indices: Any) -> dict[str, Any]:
            return {"x": torch.as_tensor(np.asarray(indices))}

    for first, second in ((5, 12), (12, 5)):
        mixed = Mixed(Numbers(first), Numbers(second), "beside")
        whole = mixed.batch(range(len(mixed)))
        assert set(whole["x"].tolist()) == set(range(first))
        assert set(whole["beside"]["x"].tolist()) == set(range(second))
    with pytest.raises(DataError, match="beside: expected rows, found none"):
        Mixed(Numbers(3), Numbers(0), "beside")


def test_models_that_cannot_be_begun_with_are_named(tmp_path):
    few = saved(tmp_path / "few", codec=FEW)
    with pytest.raises(ConfigError, match=r"few: vocabulary: expected .* more than 512 ids.*found 2.*language=smollm2"):
        reading(Rt2(), read_reader(few), few)
    with pytest.raises(ValueError, match=r"whole image among its words \(llava, paligemma, smolvlm\), found Flamingo"):
        around(Flamingo())
    policy = store.save(store.create("rt2", SPEC, Rt2().seeing(SPEC.inputs)), tmp_path / "policy")
    with pytest.raises(ConfigError, match=r"expected a model that answers about images .*found CotrainedPolicy"):
        read_reader(policy)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    numbers = {"action": {"dtype": "float32", "shape": [3], "names": None}}
    entries = numbers | {CAMERA: {"dtype": "image", "shape": [16, 16, 3], "names": ["height", "width", "channels"]}}
    writer = data.DatasetWriter(tmp_path_factory.mktemp("filmed") / "set", entries, 10)
    for i in range(3):
        drawn = np.random.default_rng(i)
        columns = {"action": drawn.normal(size=(6, 3)).astype(np.float32)}
        writer.add_episode(columns | {CAMERA: drawn.integers(0, 256, (6, 16, 16, 3), np.uint8)}, "push")
    return writer.finalize()


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("questions")
    lines = []
    for i in range(30):
        colour = (10 * i, 0, 255 - 8 * i)
        Image.new("RGB", (20, 20), tuple(part % 256 for part in colour)).save(place / f"{i}.png")
        lines.append(json.dumps({"image": f"{i}.png", "question": "what colour is it", "answer": "red"}))
    (place / "captions.jsonl").write_text("\n".join(lines))
    return place


def test_it_is_trained_on_a_robots_data_and_on_questions(filmed, questions, tmp_path):
    place, before = saved(tmp_path / "model"), asked()
    recipe = replace(Rt2(), optim=Optim(lr=3e-3, batch=4, warmup=0, ema=0.0))
    options = {
        "recipe": recipe,
        "start": [f"reader={place}"],
        "threads": 1,
        "bf16": "off",
        "progress": "off",
        "log_every": 1,
    }
    policy = jobs.train("rt2", filmed, out=tmp_path / "run", steps=12, pairs=str(questions), **options)
    rows = [json.loads(line) for line in (tmp_path / "run" / "train.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["kind"] == "step"]
    assert {"nll", "answers"} <= set(steps[0]) | set(steps[0].get("terms", {}))
    assert policy.facts["pairs"] > 20
    assert "reader" in policy.facts["start"]
    untrained = begun(place).answer_loss(before).item()
    assert policy.answer_loss(before).item() < 0.9 * untrained
    with pytest.raises(ConfigError, match=r"--pairs .*expected a policy that answers questions too \(rt2\)"):
        jobs.train("openvla", filmed, out=tmp_path / "other", steps=1, threads=1, progress="off", pairs=str(questions))


def test_a_model_of_images_and_texts_learns_to_say_sub_tasks_in_its_own_words(filmed, tmp_path):
    place, labelled = saved(tmp_path / "model"), tmp_path / "labelled"
    recipe = replace(Rt2().planning(), optim=Optim(lr=3e-3, batch=4, warmup=0, ema=0.0))
    options = {"recipe": recipe, "start": [f"reader={place}"], "threads": 1, "bf16": "off", "progress": "off"}
    options |= {"log_every": 1}
    with pytest.raises(DataError, match=r"plan: expected a column of strings with the sub-task of every step"):
        jobs.train("rt2", filmed, out=tmp_path / "early", steps=1, **options)
    shutil.copytree(filmed, labelled)
    add_texts(labelled, PLAN, ["Go to it."] * 18)
    policy = jobs.train("rt2", labelled, out=tmp_path / "run", steps=12, **options).eval()
    assert policy.planner.config.end == policy.end == CODEC.id_of("</s>")
    rows = [json.loads(line) for line in (tmp_path / "run" / "train.jsonl").read_text().splitlines()]
    steps = [row.get("terms", row)["plan"] for row in rows if row["kind"] == "step"]
    assert steps[-1] < 0.9 * steps[0]
    obs = {CAMERA: torch.zeros(1, 1, 16, 16, 3, dtype=torch.uint8), TASK: ["push"]}
    (said,) = policy.act(obs, rng=seeded(0)).words
    # Untrained as it nearly is, it says words, none of which is an action's.
    assert not {*CODEC.encode(said).tolist()} & {*policy.decoder.net.table.tolist()}
