"""pi0-FAST in LeRobot's layout: in strictly, out as it came, all names, every bad folder named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks.parity import run
from safetensors.torch import load_file, save_file
from tests.golden.materialise import materialise
from tests.interop.edits import edit

from nextmove import store, weights
from nextmove.codecs.byte_level import bpe
from nextmove.codecs.spelling import spelling
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError
from nextmove.contracts import TASK, Feature, seeded
from nextmove.folders import open_folder
from nextmove.interop import pi_fast
from nextmove.interop.pi import layout
from nextmove.interop.pi.config import Sizes, Stack
from nextmove.interop.pi_fast.composed import Places
from nextmove.interop.pi_fast.loading import FAST, table
from nextmove.models.policy import PolicySpec, Timing
from nextmove.models.policy.action_tokens import ActionTokens
from nextmove.models.policy.pi0_fast import TOLD, Pi0Fast, written
from nextmove.models.vision_language.paligemma import gemma
from nextmove.nn.feedforward import DenseMlp

GOLDEN = Path(__file__).parents[1] / "golden"
TOP, OWN = "observation.images.top", "observation.state"
SPEC = PolicySpec(
    {TOP: Feature("image", (20, 16, 3)), OWN: Feature("state", (3,)), TASK: Feature("text")}, 2, 10.0, ("x", "gripper")
)
PIECES, SKIPPED = 300, 4
WORDS = bpe([*spelling(), "<pad>", "<bos>", "<eos>", *(f"<{i}>" for i in range(400))], [])
IDS = 256 + 3 + 400
FIRST = IDS - 1 - SKIPPED
SMALL = Sizes(
    replace(Sizes().tower, image=16, patch=8, width=16, layers=1, heads=2, feedforward=DenseMlp(24)),
    Stack(32, 2, 48, 4, 1, 8), Stack(16, 2, 24, 4, 1, 8), IDS,
)  # fmt: skip


def lead():
    """What stands in front of the ids, as the tokenizer has it."""
    return (WORDS.id_of("<bos>"), *WORDS.encode("Action: ").tolist())


def batch(rows=6):
    rng = seeded(0)
    return {
        TOP: torch.randint(0, 256, (rows, 1, 20, 16, 3), generator=rng, dtype=torch.uint8),
        OWN: torch.randn(rows, 1, 3, generator=rng),
        "action": torch.randn(rows, 6, 2, generator=rng).cumsum(1),
        TASK: ["push the block"] * rows,
        "action_is_pad": torch.zeros(rows, 6, dtype=torch.bool),
    }


def policy(head="plain", **changes):
    torch.manual_seed(0)
    own = Pi0Fast()
    language = replace(gemma(32, 2, 4, 8, 48), head=head)
    prompt = replace(own.encoder.prompt, classes=IDS, hash=WORDS.hash, length=96)
    encoder = replace(own.encoder, language=language, ids=IDS, towers=(SMALL.tower,), prompt=prompt, ahead=lead()[:1])
    recipe = replace(
        own, encoder=encoder, decoder=written(FIRST, PIECES, -1, lead(), WORDS.id_of("|")),
        actions=replace(own.actions, fast=PIECES, space="absolute"),
        timing=replace(own.timing, horizon=6, n_action_steps=6),
    )  # fmt: skip
    made = store.create("pi0-fast", SPEC, replace(recipe, **changes))
    made.encoder.tokenizer.adopt(Tokenizer(WORDS.text, classes=IDS))
    made.fit([batch()])
    return made.eval()


def plan(made):
    obs = {n: v[:2] for n, v in batch().items() if n in SPEC.inputs}
    return made.act(obs, rng=seeded(1)).actions


@pytest.fixture
def folder(tmp_path):
    pi_fast.export(policy(), tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize("name", ["pi0_fast_small", "pi0_fast_one_camera"])
def test_equals_the_reference(name, tmp_path):
    result = run(GOLDEN / name, tmp_path)
    assert result["max_abs_diff"] < 1e-5
    assert result["loss_diff"] < 1e-6
    assert result["greedy_equal"]
    assert "not_compared" not in result
    assert result["keys_used"] == len(
        json.loads((GOLDEN / name / "weights.json").read_text())["files"]["model.safetensors"]
    )


def test_a_changed_weight_shows(tmp_path):
    case = materialise(GOLDEN / "pi0_fast_small", tmp_path / "case")
    found = load_file(case / "model.safetensors")
    found["model.paligemma_with_expert.paligemma.lm_head.weight"][41] += 0.1
    save_file(found, case / "model.safetensors")
    (case / "weights.json").unlink()
    assert run(case, tmp_path / "unused")["loss_diff"] > 1e-5


@pytest.mark.parametrize("head", ["plain", "tied"])
def test_out_and_in_again(head, tmp_path):
    made = policy(head)
    config = pi_fast.export(made, tmp_path / "out")
    assert (config.fast_skip_tokens, config.chunk_size, config.max_action_tokens) == (
        SKIPPED, 6, made.codec.fast.length + len(lead()),
    )  # fmt: skip
    assert (tmp_path / "out" / FAST / "processor_config.json").is_file()
    loaded = pi_fast.load(tmp_path / "out", sizes=SMALL, fps=10.0)
    assert open_folder(tmp_path / "out").kind == "lerobot"
    assert not loaded.report.ignored
    assert loaded.report.notes == ()
    assert torch.equal(plan(loaded.policy), plan(made))
    torch.testing.assert_close(loaded.policy.loss(batch(), rng=seeded(0)), made.loss(batch(), rng=seeded(0)))
    # LeRobot has a head of its own, which begins as the table.
    assert loaded.policy.encoder.language.head is not None
    kept = store.load(store.save(loaded.policy, tmp_path / "kept"))
    assert torch.equal(plan(kept), plan(made))


@pytest.mark.parametrize("joined", [False, True])
def test_lerobot_looks_for_the_words_in_front_of_the_ids_where_they_are_two(joined, tmp_path):
    made, merges = policy(), ["A c", "Ac t", "Act i", "Acti o", "Actio n"]
    pieces = [*spelling(), "<bos>", *(merge.replace(" ", "") for merge in merges)]
    made.encoder.tokenizer._expected = ""
    made.encoder.tokenizer.adopt(bpe(pieces, merges if joined else []))
    assert pi_fast.export(made, tmp_path / "out").validate_action_token_prefix is joined


def test_steps_are_in_lerobots_order(folder):
    names = [
        [step["registry_name"] for step in json.loads((folder / f"policy_{which}processor.json").read_text())["steps"]]
        for which in ("pre", "post")
    ]
    assert names == [
        ["rename_observations_processor", "to_batch_processor", "relative_actions_processor", "normalizer_processor",
         "pi0_fast_prepare_state_tokenizer_processor_step", "tokenizer_processor", "action_tokenizer_processor",
         "device_processor"],
        ["unnormalizer_processor", "absolute_actions_processor", "device_processor"],
    ]  # fmt: skip


def test_the_prefix_sees_the_beginning_of_the_answer_only_where_plans_are_made():
    made, obs = policy(), {n: v[:2] for n, v in batch().items() if n in SPEC.inputs}
    with torch.no_grad():
        trained, acting = made.context(obs).memory, made.encoder.acting(obs, batch=2).memory
        blind = policy(encoder=replace(made.encoder.config, ahead=())).encoder.acting(obs, batch=2).memory
    assert trained.length == acting.length
    assert torch.equal(trained.count, acting.count)
    assert not torch.allclose(trained.layers[-1].keys, acting.layers[-1].keys)
    assert torch.equal(trained.layers[-1].keys, blind.layers[-1].keys)


def test_all_names_of_the_published_size():
    own = Pi0Fast.published()
    own = replace(own, encoder=replace(own.encoder, language=replace(own.encoder.language, head="plain")))
    with weights.without_storage():
        made = own.build(SPEC)
    shapes = layout.shapes(table(made), made.state_dict())
    assert {n.split(".")[0] for n in shapes} == {"paligemma_with_expert"}
    assert tuple(shapes[layout.HEAD].shape) == tuple(shapes[layout.EMBEDDING].shape) == (257152, 2048)
    # 27 layers of the tower and 18 of the language model; one head, one table, bridge, patches, places, two norms.
    assert len(shapes) == 27 * 16 + 18 * 9 + 2 + 2 + 3 + 2 + 1
    assert sum(v.numel() for v in shapes.values()) == 2_923_335_408 + 526_647_296


def test_a_file_with_the_head_alone_is_tied(folder):
    found = load_file(folder / "model.safetensors")
    table_ = found.pop(f"model.{layout.EMBEDDING}")
    found[f"model.{layout.HEAD}"] = table_
    save_file(found, folder / "model.safetensors")
    assert pi_fast.load(folder, sizes=SMALL).policy.encoder.language.head is None


def test_without_a_tokenizer_of_actions_it_loads_and_says_so(folder):
    for file in (folder / FAST).iterdir():
        file.unlink()
    with pytest.raises(ConfigError, match="expected at least 2048 ids for actions"):
        pi_fast.load(folder, sizes=SMALL)
    other = policy().codec.fast.fast
    assert torch.equal(plan(pi_fast.load(folder, sizes=SMALL, fast=other).policy), plan(policy()))
    assert Places.of(pi_fast.load(folder, sizes=SMALL, fast=other).config, 3000, Tokenizer.absent(3000)).first == 2995


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"max_action_token": 3}, "max_action_token"),
        ({"n_action_steps": 7}, "n_action_steps: expected at most 6"),
        ({"tokenizer_max_length": 50}, "tokenizer_processor: max_length: expected 50"),
        ({"max_action_tokens": 50}, "action_tokenizer_processor: max_action_tokens: expected 50"),
        ({"use_relative_actions": True}, "relative_actions_processor: enabled: expected True"),
        ({"fast_skip_tokens": 500}, "fast_skip_tokens: expected at least 300 ids"),
        ({"paligemma_variant": "gemma_9b"}, None),
    ],
)
def test_a_wrong_config_is_named(folder, change, error):
    edit(folder, **change)
    if error is None:
        with pytest.raises(ConfigError, match="paligemma_variant"):
            pi_fast.load(folder)
        return
    with pytest.raises(ConfigError, match=error):
        pi_fast.load(folder, sizes=SMALL)


@pytest.mark.parametrize("wrong", ["missing", "extra", "shape"])
def test_a_wrong_tensor_is_named(folder, wrong):
    found, name = load_file(folder / "model.safetensors"), f"model.{layout.SEEN}.language_model.norm.weight"
    if wrong == "missing":
        del found[name]
    elif wrong == "extra":
        found["model.state_proj.weight"] = torch.zeros(2, 2)
    else:
        found[name] = torch.zeros(5)
    save_file(found, folder / "model.safetensors")
    with pytest.raises(ConfigError, match="state_proj" if wrong == "extra" else r"language_model\.norm\.weight"):
        pi_fast.load(folder, sizes=SMALL)


def test_what_lerobot_has_no_place_for_is_named():
    own = policy()
    prompt = replace(own.encoder.config.prompt, template=TOLD + "Now: ")
    other = policy(encoder=replace(own.encoder.config, prompt=prompt, order="causal"))
    with pytest.raises(ConfigError, match=r"(?s)encoder.order 'causal'.*the prompt"):
        pi_fast.export(other, "unused")
    # LeRobot reads a chunk's ids as one of as many actions as are executed, and shows its prompt the first of them.
    blind = policy(encoder=replace(own.encoder.config, ahead=()), timing=Timing(1, 6, 2))
    with pytest.raises(ConfigError, match=r"(?s)--recipe.encoder.ahead 257.*2 executed of 6 actions.*--execute 6"):
        pi_fast.export(blind, "unused")
    bins = store.create("action-tokens", PolicySpec.of_states({OWN: 3}, 2, 10.0), ActionTokens())
    with pytest.raises(ConfigError, match="no pi0-FAST"):
        pi_fast.export(bins, "unused")
