"""Whose model a folder holds, and what each command does with every kind: copies of the golden cases, tiny models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tests.golden.materialise import materialise

from nextmove import store
from nextmove.cli.main import main
from nextmove.codecs.byte_level import bpe
from nextmove.config import ConfigError
from nextmove.folders import Kind, open_folder
from nextmove.models.generator import ImageSpec, TextSpec
from nextmove.models.policy import PolicySpec

GOLDEN = Path(__file__).parent / "golden"
LETTERS = bpe((*"abcdefghijklmnopqrstuvwxyz", "Ġ", "th", "Ġth", "Ġthe"), ("t h", "Ġ th", "Ġth e"))
OPENVLA = {
    "model_type": "openvla",
    "vision_backbone_id": "dinosiglip-vit-so-224px",
    "llm_backbone_id": "llama2-7b-pure",
    "norm_stats": {"bridge_orig": {}},
}


def openvla(place: Path) -> Path:
    place.mkdir()
    (place / "config.json").write_text(json.dumps(OPENVLA))
    return place


def words(place: Path) -> Path:
    """GPT-2 with a tokenizer of as many ids."""
    folder = materialise(GOLDEN / "gpt2", place)
    (folder / "tokenizer.json").write_text(LETTERS.text)
    config, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    tensors["transformer.wte.weight"] = tensors["transformer.wte.weight"][: LETTERS.classes].contiguous()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": LETTERS.classes, "eos_token_id": None}))
    (folder / "generation_config.json").write_text("{}")
    return folder


MADE: dict[str, Callable[[Path], Path]] = {
    "policy": lambda place: store.save(
        store.create("bc", PolicySpec.of_states({"observation.state": 3}, 2, 10)), place / "model", facts={}
    ),
    "text": lambda place: store.save(store.create("rnn", TextSpec("bytes", 8)), place, facts={"data": "nowhere"}),
    "image": lambda place: store.save(store.create("gan", ImageSpec(8, 8)), place, facts={"data": "nowhere"}),
    "tokenizer": lambda place: store.save(store.create("vqvae", ImageSpec(8, 8)), place, facts={"data": "nowhere"}),
    "act": lambda place: materialise(GOLDEN / "act_state", place),
    "diffusion": lambda place: materialise(GOLDEN / "diffusion_state", place),
    "flowpolicy": lambda place: materialise(GOLDEN / "flowpolicy", place),
    "gpt2": lambda place: materialise(GOLDEN / "gpt2", place),
    "llama": lambda place: materialise(GOLDEN / "llama", place),
    "words": words,
    "openvla": openvla,
}
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("policy", "text", "image", "tokenizer"), "nextmove"),
    **dict.fromkeys(("act", "diffusion"), "lerobot"),
    **dict.fromkeys(("gpt2", "llama", "words"), "hf"),
    "flowpolicy": "flowpolicy",
    "openvla": "openvla",
}  # type: ignore[assignment]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a model of that name, made once."""
    root, known = tmp_path_factory.mktemp("folders"), set[str]()

    def of(name: str) -> Path:
        if name not in known:
            MADE[name](root / name)
            known.add(name)
        return root / name

    return of


@pytest.mark.parametrize("name", MADE)
def test_every_kind_is_known(name: str, place: Callable[[str], Path]) -> None:
    saved = open_folder(place(name))
    assert saved.kind == KINDS[name]
    assert saved.folder == place(name) / ("model" if name == "policy" else "")


@pytest.mark.parametrize("inner", ["model", "pretrained_model", "checkpoints/last/pretrained_model"])
def test_runs_lead_to_their_model(inner: str, place: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(place("act"), tmp_path / inner)
    assert open_folder(tmp_path).folder == tmp_path / inner
    assert open_folder(tmp_path).whose == "LeRobot (act)"


def test_a_config_of_nobody_known_and_a_folder_without_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a saved model"):
        open_folder(tmp_path / "nothing")
    (tmp_path / "config.json").write_text('{"layers": 3}')
    with pytest.raises(ConfigError, match=r"config\.json: expected a model of nextmove .*found \['layers'\]"):
        open_folder(tmp_path)


JUDGES = "`nextmove evaluate` and `nextmove compare --runs` judge it"
DRAWS = "`nextmove generate` draws from it"
INSPECT = ("inspect", "PLACE")
EVALUATE = ("evaluate", "PLACE", "--out", "OUT", "--episodes", "1", "--workers", "0", "--video", "0")
JUDGE = ("evaluate", "PLACE", "--out", "OUT")
WRITE = ("generate", "PLACE", "--out", "OUT/x.png", "--length", "3")
DRAW = ("generate", "PLACE", "--out", "OUT/x.png", "--n", "1")
COMPARE = ("compare", "--out", "OUT", "--episodes", "1", "--runs", "PLACE", "OTHER")

ANSWERS: list[tuple[str, tuple[str, ...], int, str]] = [
    ("policy", INSPECT, 0, "BC"),
    ("text", INSPECT, 0, "RNN"),
    ("image", INSPECT, 0, "GAN"),
    ("tokenizer", INSPECT, 0, "VQ-VAE"),
    ("act", INSPECT, 0, "act"),
    ("diffusion", INSPECT, 0, "diffusion"),
    ("flowpolicy", INSPECT, 0, "flowpolicy"),
    ("gpt2", INSPECT, 0, "gpt2"),
    ("llama", INSPECT, 0, "llama"),
    ("words", INSPECT, 0, "gpt2"),
    ("openvla", INSPECT, 0, "statistics of actions of: bridge_orig"),
    # Each is read whole: what is wrong is that the simulator is another robot.
    ("policy", EVALUATE, 1, "pusht: observation.state: expected width 3, found 2"),
    ("act", EVALUATE, 1, "pusht: observation.state: expected width 7"),
    ("diffusion", EVALUATE, 1, "pusht: observation."),
    ("flowpolicy", EVALUATE, 1, "pusht: point_cloud: expected points"),
    ("text", JUDGE, 1, "nowhere"),
    ("image", JUDGE, 1, "nowhere"),
    ("tokenizer", JUDGE, 1, "nowhere"),
    ("openvla", JUDGE, 1, "image_resize_strategy: only 'resize-naive' is supported"),
    ("gpt2", JUDGE, 1, "gpt2: tokenizer: its tokenizer.json is absent"),
    ("words", JUDGE, 1, "words does not say what it was trained on; expected --data"),
    ("words", (*JUDGE, "--data", "TEXT"), 0, "nats per token"),
    ("llama", WRITE, 1, "llama: tokenizer: its tokenizer.json is absent"),
    ("words", (*WRITE, "--prompt", "a"), 0, "a"),
    ("policy", WRITE, 1, JUDGES),
    ("text", WRITE, 0, ""),
    ("image", DRAW, 0, "1 samples"),
    ("tokenizer", WRITE, 1, "found a tokenizer"),
    ("act", WRITE, 1, JUDGES),
    ("flowpolicy", WRITE, 1, JUDGES),
    ("openvla", WRITE, 1, JUDGES),
    ("text", COMPARE, 1, DRAWS),
    ("gpt2", COMPARE, 1, DRAWS),
    ("openvla", COMPARE, 1, "image_resize_strategy"),
    ("flowpolicy", COMPARE, 1, "pusht: point_cloud: expected points"),
]


@pytest.mark.parametrize(("name", "command", "status", "message"), ANSWERS, ids=[f"{a[0]}-{a[1][0]}" for a in ANSWERS])
def test_every_command_uses_a_model_or_says_which_does(
    name: str,
    command: tuple[str, ...],
    status: int,
    message: str,
    place: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = {"PLACE": str(place(name)), "OTHER": str(place("act")), "OUT": str(tmp_path), "OUT/x.png": f"{tmp_path}/x"}
    (tmp_path / "the.txt").write_text("the sea the tea " * 200)
    words["TEXT"] = str(tmp_path / "the.txt")
    before = sorted(place(name).rglob("*"))
    if name == "image" and command[0] == "generate":
        words["OUT/x.png"] += ".png"
    assert main([words.get(word, word) for word in command]) == status
    assert message in "".join(capsys.readouterr())
    assert sorted(place(name).rglob("*")) == before
