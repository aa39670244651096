"""Policies that read words by a tokenizer's file from the start, and are then written in LeRobot's layout."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nextmove import data, jobs, store
from nextmove.codecs.byte_level import train_captions
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError
from nextmove.contracts import TASK, Feature, seeded
from nextmove.jobs.worded import begin_words, read_words, worded
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.openvla import OpenVla
from nextmove.models.policy.pi0 import Pi0
from nextmove.models.policy.pi0_fast import SKIPPED, Pi0Fast
from nextmove.models.policy.pi05 import Pi05
from nextmove.models.policy.smolvla import SmolVla

TOP, OWN = "observation.images.top", "observation.state"
SPEC = PolicySpec({TOP: Feature("image", (16, 16, 3)), OWN: Feature("state", (3,)), TASK: Feature("text")}, 2, 10.0)
TEXTS = [f"{verb} the {what} {where}" for verb in ("push", "open", "lift", "close")
         for what in ("drawer", "window", "button", "block") for where in ("slowly", "left", "right")]  # fmt: skip
MORE = ["".join(part) for part in product("bdfglm", "aeiou", "nrst", "aou")]
WORDS = train_captions([*TEXTS, " ".join(MORE), "Task: State: Action: | 0123456789"], 560)
PIECES = 200
QUIET: dict[str, Any] = {"threads": 1, "bf16": "off", "predict": False, "progress": "off", "holdout": 0.5}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("words") / "tokenizer.json"
    place.write_text(WORDS.text)
    return place


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    widths = {OWN: 3, "action": 2}
    numbers = {n: {"dtype": "float32", "shape": [width], "names": None} for n, width in widths.items()}
    cameras = {TOP: {"dtype": "image", "shape": [16, 16, 3], "names": ["height", "width", "channels"]}}
    writer = data.DatasetWriter(tmp_path_factory.mktemp("set") / "set", numbers | cameras, 10)
    for i in range(2):
        drawn = np.random.default_rng(i)
        columns: dict[str, Any] = {n: drawn.normal(size=(5, w)).astype(np.float32) for n, w in widths.items()}
        columns[TOP] = drawn.integers(0, 256, (5, 16, 16, 3), np.uint8)
        writer.add_episode(columns, TEXTS[i])
    return writer.finalize()


def small(recipe: Any) -> Any:
    """The recipe with a tower that takes no time, and few pieces of actions."""
    tower = replace(recipe.encoder.towers[0], image=16, patch=8, width=24, layers=1, heads=2)
    recipe = replace(recipe, encoder=replace(recipe.encoder, towers=(tower,)))
    for name in ("fast", "written"):
        if getattr(recipe.actions, name):
            recipe = replace(recipe, actions=replace(recipe.actions, **{name: PIECES}))
    return recipe


def batch(rows: int = 3) -> dict[str, Any]:
    rng = seeded(0)
    return {
        TOP: torch.randint(0, 256, (rows, 1, 16, 16, 3), generator=rng, dtype=torch.uint8),
        OWN: torch.randn(rows, 1, 3, generator=rng),
        "action": torch.randn(rows, 16, 2, generator=rng),
        TASK: TEXTS[:rows],
        "action_is_pad": torch.zeros(rows, 16, dtype=torch.bool),
    }


@pytest.mark.parametrize("kind", [Pi0, Pi05, Pi05.insulated, Pi0Fast, SmolVla])
def test_every_one_of_them_reads_by_it(kind: Any, file: Path, tmp_path: Path) -> None:
    recipe = small(kind())
    words = read_words(recipe, file)
    recipe = worded(recipe, words, file)
    system = {Pi0: "pi0", Pi0Fast: "pi0-fast", SmolVla: "smolvla"}.get(kind, "pi05")
    torch.manual_seed(0)
    policy = store.create(system, SPEC, recipe)
    with pytest.raises(ValueError, match=r"its tokenizer\.json is absent"):
        policy.encoder.tokenizer.encode("push")
    assert begin_words(policy, words, file) == WORDS.hash
    policy.fit([batch()])
    terms = policy.loss(batch(), rng=seeded(1))
    assert all(bool(term.isfinite()) for term in terms.values())
    obs = {name: batch()[name] for name in SPEC.inputs}
    plan = policy.eval().act(obs, rng=seeded(2)).actions
    again = store.load(store.save(policy, tmp_path / "kept"))
    assert again.encoder.tokenizer.text == WORDS.text
    torch.testing.assert_close(again.act(obs, rng=seeded(2)).actions, plan)
    # Fewer ids than bytes say the same.
    told = again.encoder.config.prompt
    assert len(words.encode(TEXTS[0])) < len(TEXTS[0].encode()) / 2
    assert told.hash == WORDS.hash


def test_actions_stand_behind_words_or_as_published() -> None:
    recipe = small(Pi0Fast()).worded(WORDS)
    own, first = recipe.decoder.trunk, WORDS.classes
    assert own.vocabulary == ((first, PIECES, 1), (WORDS.id_of("|"), 1, 1))
    assert recipe.encoder.ids == first + PIECES
    assert own.lead == (WORDS.id_of("<s>"), *WORDS.encode("Action: ").tolist())
    published = Pi0Fast.published()
    trained = replace(published, actions=replace(published.actions, fast=8)).worded(WORDS)
    assert trained.decoder.trunk.vocabulary[0] == (first - 1 - SKIPPED, 8, -1)
    assert trained.encoder.ids == first
    with pytest.raises(ValueError, match=r"expected 2048 ids for actions from \d+ down"):
        published.worded(WORDS)
    words = small(Pi05.insulated()).worded(WORDS).decoder.words.trunk
    assert (words.vocabulary, words.lead) == (own.vocabulary, own.lead[:1])


def test_a_tokenizer_that_does_not_suit_is_named(file: Path, recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="OpenVla takes none; pi0, pi05, pi0-fast and smolvla do"):
        read_words(OpenVla(), file)
    with pytest.raises(ConfigError, match=r"expected the 257152 ids of the published size, found 5\d\d"):
        read_words(Pi0.published(), file)
    with pytest.raises(FileNotFoundError, match="expected a tokenizer's file"):
        jobs.train("pi0", recorded, out=tmp_path, tokenizer=str(tmp_path / "none"), steps=1, **QUIET)
    nobody = Tokenizer(WORDS.text.replace('"<s>"', '"<b>"'))
    with pytest.raises(ConfigError, match="expected a token that a text begins with, one of <bos>"):
        worded(small(Pi0Fast()), nobody, file)


def test_ids_of_a_published_size_lose_what_stands_behind_them(tmp_path: Path) -> None:
    recipe = Pi0.published()
    rows = WORDS.classes - 1
    encoder = replace(recipe.encoder, ids=rows, prompt=replace(recipe.encoder.prompt, classes=rows))
    image = {"id": rows, "content": "<seen>", "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}  # fmt: skip
    whole = json.loads(WORDS.text)
    last = next(name for name, i in whole["model"]["vocab"].items() if i == rows)
    whole["model"]["vocab"].pop(last)
    whole["model"]["merges"] = [pair for pair in whole["model"]["merges"] if "".join(pair) != last]
    whole["added_tokens"].append(image)
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    words = read_words(replace(recipe, encoder=encoder), tmp_path)
    assert words.classes == rows
    assert words.backend.token_to_id("<seen>") is None


def test_smolvla_trains_with_it_and_goes_to_lerobot(file: Path, recorded: Path, tmp_path: Path) -> None:
    made = jobs.train("smolvla", recorded, out=tmp_path / "run", tokenizer=str(file), steps=2, **QUIET)
    assert made.encoder.tokenizer.text == WORDS.text
    assert store.load(tmp_path / "run").facts["tokenizer"] == WORDS.hash
    out = jobs.export_lerobot(tmp_path / "run", tmp_path / "out")
    assert (out / "tokenizer.json").read_text() == WORDS.text
    with pytest.raises(ConfigError, match="brings its own; leave it out"):
        jobs.train("smolvla", recorded, out=tmp_path / "more", tokenizer=str(file), start=[str(tmp_path / "run")],
                   steps=1, **QUIET)  # fmt: skip


def test_bytes_and_sizes_without_names_do_not_go_to_lerobot(recorded: Path, tmp_path: Path) -> None:
    jobs.train("smolvla", recorded, out=tmp_path / "bytes", steps=1, **QUIET)
    with pytest.raises(ConfigError, match="words read as bytes; train with --tokenizer FILE"):
        jobs.export_lerobot(tmp_path / "bytes", tmp_path / "out")
    policy = store.create("pi0", SPEC, small(Pi0()))
    policy.fit([batch()])
    store.save(policy, tmp_path / "pi0")
    with pytest.raises(ConfigError, match="LeRobot has names for one size of this policy"):
        jobs.export_lerobot(tmp_path / "pi0", tmp_path / "out")
    assert not (tmp_path / "out").exists()
