"""A frozen backbone is called once a frame: training from what is kept is the same, what is of others is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nextmove import data, jobs, store
from nextmove.config import ConfigError
from nextmove.contracts import Optim, seeded
from nextmove.data import DataError
from nextmove.data.prefix_store import PrefixStore
from nextmove.decoders import Flow
from nextmove.encoders.prompt import Prompt
from nextmove.encoders.reading import Reading, ReadingEncoder
from nextmove.models.policy import Policy, PolicySpec, Timing
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import assemble
from nextmove.nn import Expert, Gpt
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import DenseMlp, GatedMlp
from nextmove.nn.norm import RmsNorm
from nextmove.nn.vit import VisionTower

CAMERA, STATE = "observation.image", "observation.state"
LANGUAGE = Gpt(16, 2, Heads(2, 1, 8, bias=False, out_bias=False), positions="rotary", norm=RmsNorm(), head="plain",
               feedforward=GatedMlp(24))  # fmt: skip
TOWER = VisionTower(8, 4, 12, 1, 2, DenseMlp(16), class_token=False, pool="none")
FROZEN = (("encoder", 0.0), ("encoder.state", 1.0))


@dataclass(frozen=True)
class Small:
    """SmolVLA's parts in the smallest sizes."""

    timing: Timing = Timing(1, 4, 2)
    encoder: Reading = Reading(LANGUAGE, towers=(TOWER,), prompt=Prompt(length=24), state="token", state_width=4)
    actions: ActionSpace = ActionSpace(per_step=False, space="absolute")
    decoder: Flow = Flow(trunk=Expert(12, 2, feedforward=GatedMlp(20), time="token", causal=True, joint_every=2))
    optim: Optim = Optim(lr=1e-2, batch=8, warmup=0, ema=0.0, scales=FROZEN)

    def build(self, spec: PolicySpec) -> Policy:
        """For a robot."""
        return assemble(spec, self)


def recorded(root: Path, seed: int = 0, tasks: tuple[str, ...] = ("go left", "run to the right")) -> Path:
    """Three episodes of a camera, a state and an instruction."""
    numbers = {n: {"dtype": "float32", "shape": [2], "names": None} for n in (STATE, "action")}
    entries = numbers | {CAMERA: {"dtype": "image", "shape": [8, 8, 3], "names": ["height", "width", "channels"]}}
    writer = data.DatasetWriter(root, entries, 10)
    for i in range(3):
        drawn = np.random.default_rng([seed, i])
        columns: dict[str, Any] = {n: drawn.normal(size=(6, 2)).astype(np.float32) for n in (STATE, "action")}
        columns[CAMERA] = drawn.integers(0, 256, (6, 8, 8, 3), np.uint8)
        writer.add_episode(columns, tasks[i % len(tasks)])
    return writer.finalize()


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("filmed") / "set")


def train(source: Path, out: Path, recipe: Any = Small(), **options: Any) -> Policy:
    settings: dict[str, Any] = {"steps": 5, "threads": 1, "bf16": "off", "holdout": 0.3, "predict": False}
    return jobs.train("flow-policy", source, out=out, recipe=recipe, progress="off", **(settings | options))


def losses(out: Path, kind: str = "step") -> list[float]:

    lines = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == kind]


def test_training_from_what_is_kept_is_the_training_without(filmed, tmp_path, monkeypatch):
    without = train(filmed, tmp_path / "a", log_every=1)
    read: list[int] = []
    looked = ReadingEncoder.seen
    monkeypatch.setattr(ReadingEncoder, "seen", lambda self, *a: read.append(1) or looked(self, *a))
    kept = train(filmed, tmp_path / "b", log_every=1, prefix_cache=str(tmp_path / "kept"))
    assert len(read) == 3  # of 12 frames trained on, eight at once, and of 6 held out
    for kind in ("step", "validation"):
        assert losses(tmp_path / "b", kind) == pytest.approx(losses(tmp_path / "a", kind), rel=1e-6)
    for name, value in without.named_parameters():
        torch.testing.assert_close(kept.get_parameter(name), value, atol=2e-6, rtol=1e-5)
    moved = kept.encoder.state.maps[0].weight
    assert not torch.equal(moved, store.create("flow-policy", kept.spec, Small()).encoder.state.maps[0].weight)
    assert kept.facts["prefixes"] == "float32"
    # A second training of the same backbone makes none.
    train(filmed, tmp_path / "c", prefix_cache=str(tmp_path / "kept"), steps=2)
    assert len(read) == 3


@pytest.mark.parametrize("reading", [
    Small().encoder,
    replace(Small().encoder, order="causal"),
    replace(Small().encoder, state="vector"),
    replace(Small().encoder, state="words", prompt=Prompt("{task} {state}", length=40)),
    replace(Small().encoder, state="none"),
])  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_are_those_of_the_whole_pass(filmed, tmp_path, reading, dtype):
    from nextmove.jobs.tasks import Asked
    from nextmove.jobs.tasks.policy import Options, task
    from nextmove.training.distributed import World

    scales = FROZEN if reading.state == "token" else (("encoder", 0.0),)
    recipe = replace(Small(), encoder=reading, optim=replace(Small().optim, scales=scales))
    torch.manual_seed(0)
    asked = Asked("flow-policy", str(filmed), recipe)
    plain = task(asked, Options(prefix_cache=str(tmp_path / "kept"), prefix_dtype=dtype))
    with_prefixes = plain.prepare(plain, World())
    policy = plain.model.train()
    found = []
    for source in (plain.source, with_prefixes.source):
        policy.zero_grad()
        sum(policy.loss(source.batch([0, 4, 9]), rng=seeded(1)).values()).backward()
        found.append({n: p.grad for n, p in policy.named_parameters() if n.startswith(("decoder", "encoder.state"))})
    for name, whole in found[0].items():
        if whole is not None:
            error = (found[1][name] - whole).abs().max()
            assert error <= (1e-6 if dtype == "float32" else 0.03) * whole.abs().max().clamp(min=1), name
    frozen = [p.grad for n, p in policy.named_parameters() if n.startswith("encoder.language")]
    assert all(grad is None or reading.state == "token" for grad in frozen)
    if dtype == "bfloat16":
        sizes = [path.stat().st_size for path in (tmp_path / "kept").glob("segment-*")]
        assert sum(sizes) < 0.6 * 12 * 2 * 2 * 8 * 4 * 18 * 2


def test_prefixes_of_other_data_backbones_or_preprocessing_are_refused(filmed, tmp_path):
    kept = str(tmp_path / "kept")
    train(filmed, tmp_path / "a", prefix_cache=kept, steps=1)
    other = recorded(tmp_path / "other", seed=1)
    with pytest.raises(DataError, match=r"kept: the prefixes there were made with another data \(expected .*, found"):
        train(other, tmp_path / "b", prefix_cache=kept, steps=1)
    with pytest.raises(DataError, match="made with another data"):
        train(recorded(tmp_path / "said", tasks=("stop",)), tmp_path / "b", prefix_cache=kept, steps=1)
    with pytest.raises(DataError, match="made with another backbone"):
        train(filmed, tmp_path / "b", prefix_cache=kept, steps=1, seed=1)
    scaled = replace(Small(), encoder=replace(Small().encoder, image_scale=2.0))
    with pytest.raises(DataError, match="made with another preprocessing"):
        train(filmed, tmp_path / "b", scaled, prefix_cache=kept, steps=1)
    with pytest.raises(DataError, match="made with another dtype"):
        train(filmed, tmp_path / "b", prefix_cache=kept, prefix_dtype="bfloat16", steps=1)


def test_what_is_trained_is_not_kept(filmed, tmp_path, demos):
    moving = replace(Small(), optim=replace(Small().optim, scales=()))
    with pytest.raises(
        ConfigError, match=r"expected a frozen encoder, found encoder\.language.* trained; add --recipe"
    ):
        train(filmed, tmp_path / "a", moving, prefix_cache=str(tmp_path / "kept"))
    with pytest.raises(ConfigError, match="expected a policy that reads a prefix by a language model"):
        jobs.train("bc", demos, out=tmp_path / "b", steps=1, prefix_cache=str(tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()


def test_a_store_takes_up_what_is_there_and_names_what_is_damaged(tmp_path):
    def make(rows):
        counts = torch.as_tensor(rows) + 1
        keys = torch.arange(len(rows) * 2 * 3 * 4.0).view(len(rows), 2, 1, 3, 4)
        return {"keys": keys, "values": -keys, "mask": torch.arange(3) < counts[:, None]}

    kept = PrefixStore(tmp_path, {"data": "x"}, "float32")
    assert list(kept.add(np.array([2, 0]), make, 1)) == [1, 2]
    again = PrefixStore(tmp_path, {"data": "x"}, "float32")
    assert again.missing(np.array([0, 1, 2])).tolist() == [1]
    assert list(again.add(np.array([1]), make, 4)) == [1]
    found = again.batch(np.array([1, 0]))
    assert found["keys"].shape == (2, 2, 1, 2, 4)
    assert found["mask"].tolist() == [[True, True], [True, False]]
    assert torch.equal(found["keys"][0], make([1])["keys"][0, :, :, :2])
    assert torch.equal(found["values"][1, :, :, :1], make([0])["values"][0, :, :, :1])
    assert not found["keys"][1, :, :, 1:].any()
    with pytest.raises(DataError, match="no prefix of frame 7"):
        again.batch(np.array([7]))
    segment = tmp_path / "segment-00000.kv"
    segment.write_bytes(segment.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"segment-00000\.kv: damaged .*; remove it"):
        PrefixStore(tmp_path, {"data": "x"}, "float32")
