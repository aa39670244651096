"""OpenVLA's folders: recorded answers, both spellings of names, shards, and what is wrong with a folder, named."""

import json
import shutil
from dataclasses import asdict, replace

import pytest
import torch
from benchmarks.parity import run
from safetensors.torch import save_file
from tests.golden.materialise import materialise
from tests.interop.edits import edit
from tests.interop.openvla_folders import GOLDEN, SIZES, asked, folder_of, opened, tensors

from nextmove import store
from nextmove.codecs.byte_level import bpe
from nextmove.config import ConfigError
from nextmove.contracts import TASK, Context, Feature, seeded
from nextmove.folders import open_folder
from nextmove.interop.hf.tensors import INDEX
from nextmove.interop.openvla import Asked, export, load
from nextmove.interop.openvla.config import describe
from nextmove.interop.openvla.described import described
from nextmove.interop.openvla.exporting import _tensors
from nextmove.jobs import load_policy
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.openvla import OpenVla
from nextmove.weights import without_storage

SPEC = PolicySpec({"observation.images.image": Feature("image", (32, 40, 3)), TASK: Feature("text")}, 7, 5.0)


@pytest.fixture
def folder(tmp_path):
    return folder_of(tmp_path / "openvla")


@pytest.mark.parametrize("name", ["openvla", "openvla_oft"])
def test_equals_the_reference(name, tmp_path):
    result = run(GOLDEN / name, tmp_path)
    assert "error" not in result
    assert "not_compared" not in result
    assert result["max_abs_diff"] < 1e-5
    assert result["loss_diff"] < 1e-6
    assert result["greedy_equal"]


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("openvla", "vision_backbone.featurizer.blocks.1.ls2.scale_factor"),
        ("openvla", "vision_backbone.fused_featurizer.pos_embed"),
        ("openvla", "projector.fc2.bias"),
        ("openvla_oft", "film_block.shift.bias"),
        ("openvla_oft", "action_head.model.mlp_resnet_blocks.1.ffn.0.bias"),
    ],
)
def test_a_changed_weight_shows(case, name, tmp_path):
    place = materialise(GOLDEN / case, tmp_path / "case")
    found = tensors(place)
    found[name].view(-1)[0] += 1.0
    save_file(found, place / "model.safetensors")
    (place / "weights.json").unlink()
    assert run(place, tmp_path / "unused")["max_abs_diff"] > 1e-4


def test_the_published_model_has_its_count_and_all_names():
    with without_storage():
        policy = OpenVla.published().build(SPEC)
    assert sum(weight.numel() for weight in policy.parameters()) == 7_541_237_184
    policy.codec.scale.set_ranges([-1] * 7, [1] * 7, [True] * 7)
    said = describe(asdict(described(policy, "here")))
    assert (said.vocabulary, said.family.classes) == (32000, 32064)
    found = {
        name: tuple(value.shape) for name, value in _tensors(policy, said.family, policy.encoder.config.towers).items()
    }
    assert found == published()


def published():
    """Names and shapes of the released weights, written down from its file list."""

    def pair(name, *shape):
        return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}

    made = {}
    for name, width, layers, hidden, scaled in (
        ("featurizer", 1024, 24, 4096, True),
        ("fused_featurizer", 1152, 27, 4304, False),
    ):
        top = f"vision_backbone.{name}"
        made[f"{top}.pos_embed"] = (1, 256, width)
        made |= pair(f"{top}.patch_embed.proj", width, 3, 14, 14) | pair(f"{top}.norm", width)
        for i in range(layers):
            block = f"{top}.blocks.{i}"
            made |= pair(f"{block}.norm1", width) | pair(f"{block}.norm2", width)
            made |= pair(f"{block}.attn.qkv", 3 * width, width) | pair(f"{block}.attn.proj", width, width)
            made |= pair(f"{block}.mlp.fc1", hidden, width) | pair(f"{block}.mlp.fc2", width, hidden)
            made |= {f"{block}.ls{k}.scale_factor": (width,) for k in (1, 2)} if scaled else {}
    made |= {"vision_backbone.featurizer.cls_token": (1, 1, 1024), "vision_backbone.featurizer.reg_token": (1, 4, 1024)}
    pool = "vision_backbone.fused_featurizer.attn_pool"
    made[f"{pool}.latent"] = (1, 1, 1152)
    made |= pair(f"{pool}.q", 1152, 1152) | pair(f"{pool}.kv", 2304, 1152) | pair(f"{pool}.proj", 1152, 1152)
    made |= pair(f"{pool}.norm", 1152) | pair(f"{pool}.mlp.fc1", 4304, 1152) | pair(f"{pool}.mlp.fc2", 1152, 4304)
    made |= pair("projector.fc1", 8704, 2176) | pair("projector.fc2", 4096, 8704) | pair("projector.fc3", 4096, 4096)
    top = "language_model.model"
    made |= {
        f"{top}.embed_tokens.weight": (32064, 4096),
        f"{top}.norm.weight": (4096,),
        "language_model.lm_head.weight": (32064, 4096),
    }
    for i in range(32):
        block = f"{top}.layers.{i}"
        made |= {f"{block}.self_attn.{part}_proj.weight": (4096, 4096) for part in "qkvo"}
        made |= {f"{block}.mlp.{part}_proj.weight": (11008, 4096) for part in ("gate", "up")}
        made[f"{block}.mlp.down_proj.weight"] = (4096, 11008)
        made |= {f"{block}.{part}_layernorm.weight": (4096,) for part in ("input", "post_attention")}
    return made


def test_a_folder_goes_in_and_back_out_in_shards(folder, tmp_path):
    loaded = opened(folder)
    (folder / "special.json").write_text("{}")
    export(loaded.policy, tmp_path / "out", config=loaded.config, like=folder, shard=100_000)
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert INDEX in files
    assert "special.json" in files
    assert len([name for name in files if name.startswith("model-0000")]) > 3
    before, after = tensors(folder), {}
    where = json.loads((tmp_path / "out" / INDEX).read_text())["weight_map"]
    assert where.keys() == before.keys()
    again = opened(tmp_path / "out")
    after = again.policy.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in loaded.policy.state_dict().items())


def test_prismatic_names_are_the_same_model(folder, tmp_path):
    def native(name):
        name = name.replace("vision_backbone.featurizer", "vision_backbone.dino_featurizer")
        name = name.replace("vision_backbone.fused_featurizer", "vision_backbone.siglip_featurizer")
        name = name.replace("scale_factor", "gamma").replace("language_model.", "llm_backbone.llm.")
        for i in range(3):
            name = name.replace(f"projector.fc{i + 1}", f"projector.projector.{2 * i}")
        return name

    expected = opened(folder).policy.state_dict()
    save_file({native(name): value for name, value in tensors(folder).items()}, folder / "model.safetensors")
    found = opened(folder).policy.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_a_training_of_prismatics_own_is_read(folder, tmp_path):
    parts = {"vision_backbone": {}, "llm_backbone": {}, "projector": {}}
    for name, value in tensors(folder).items():
        part, _, rest = name.partition(".")
        rest = rest.replace("fused_featurizer", "siglip_featurizer").replace(".scale_factor", ".gamma")
        rest = rest if rest.startswith("siglip") else rest.replace("featurizer", "dino_featurizer", 1)
        if part == "language_model":
            parts["llm_backbone"][f"llm.{rest}"] = value
        elif part == "projector":
            parts["projector"][f"projector.{2 * (int(rest[2]) - 1)}.{rest[4:]}"] = value
        else:
            parts["vision_backbone"][rest] = value
    native = tmp_path / "run"
    (native / "checkpoints").mkdir(parents=True)
    torch.save({"model": parts, "optimizer": {}}, native / "checkpoints" / "step-000900-epoch-01-loss=0.1.pt")
    torch.save({"model": {}}, native / "checkpoints" / "step-000100-epoch-00-loss=0.9.pt")
    config = {"vla": {"type": "x", "base_vlm": "prism-dinosiglip-224px+7b"}, "seed": 7}
    (native / "config.json").write_text(json.dumps(config))
    norms = json.loads((folder / "config.json").read_text())["norm_stats"]
    (native / "dataset_statistics.json").write_text(json.dumps(norms))
    assert open_folder(native).kind == "openvla"
    found, expected = opened(native).policy, opened(folder).policy
    theirs = found.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in expected.state_dict().items())
    # The conversion to transformers has another constant than the training.
    assert (found.recipe.encoder.language.norm.eps, expected.recipe.encoder.language.norm.eps) == (1e-5, 1e-6)
    (native / "config.json").write_text(json.dumps({"vla": {"base_vlm": "phi"}}))
    with pytest.raises(ConfigError, match=r"vla.base_vlm: expected one of prism-dinosiglip-224px\+7b, found 'phi'"):
        opened(native)


def test_the_loss_counts_the_whole_vocabulary_and_only_words_of_actions_are_drawn(folder):
    policy = opened(folder).policy
    encoder, picture = policy.encoder, torch.rand(2, 3, 28, 28, generator=seeded(0))
    ids, actions = (
        torch.randint(0, 60, (2, 6), generator=seeded(1)),
        1.4 * torch.rand(2, 1, 7, generator=seeded(2)) - 0.9,
    )
    ctx = encoder.prefix([(picture, None)], ids, None)
    classes = policy.codec.bins.encode(actions)
    (lead,), vocabulary = policy.decoder.net.config.lead, 320
    words = torch.cat([ids, torch.full((2, 1), lead), vocabulary - 1 - classes], 1)
    x, _, _ = encoder.embedded([(picture, None)], words, None)
    h, _ = encoder.language.read_embedded(x, Context.empty(2))
    logits = encoder.language.logits(h[:, -8:-1])
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), words[:, -7:].flatten())
    weights = [encoder.language.embedding.weight, encoder.towers[0].embed.weight]
    one = torch.autograd.grad(expected, weights)
    found = policy.decoder.loss(ctx, classes, weight=None, rng=seeded(0))["nll"]
    two = torch.autograd.grad(found, weights)
    assert torch.allclose(found, expected, atol=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(one, two, strict=True))
    with torch.no_grad():
        drawn = policy.decoder.sample(ctx, shape=(7,), rng=seeded(0))
    assert int(drawn.max()) < 256
    # Each is the likeliest of the words of actions, whatever other ids are likelier.
    first = logits[:, 0, vocabulary - 256 : vocabulary].argmax(-1)
    assert torch.equal(drawn[:, 0], 255 - first)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("bridge", r"unnorm_key: expected one of bridge_orig, toy, found 'bridge', did you mean 'bridge_orig'"),
        (None, r"unnorm_key: expected one of bridge_orig, toy, for actions are in the units of one"),
    ],
)
def test_a_data_set_that_is_not_there_is_named_with_those_that_are(key, message, folder):
    with pytest.raises(ConfigError, match=message):
        load(folder, asked(key))


def test_a_tuned_folders_own_statistics_count(folder):
    own = json.loads((folder / "config.json").read_text())["norm_stats"]["toy"]
    own["action"] |= {"q01": [0.0] * 7, "q99": [2.0] * 6 + [0.0]}
    (folder / "dataset_statistics.json").write_text(json.dumps({"mine": own}))
    loaded = load(folder, asked(None))
    assert any(
        "q01 and q99 are equal in dimensions [6]: their values are shifted, not divided" in n
        for n in loaded.report.notes
    )
    scale = loaded.policy.codec.scale
    assert torch.allclose(scale.decode(torch.ones(7)), torch.tensor([2.0] * 6 + [0.0]))
    assert torch.allclose(scale.encode(torch.tensor([1.0] * 6 + [0.25])), torch.tensor([0.0] * 6 + [0.25]), atol=1e-6)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"pad_token_id": 384},
            r"pad_token_id: expected 320.* pad it \(pad_to_multiple_of\), found 384.*moves every action",
        ),
        ({"pad_to_multiple_of": 128}, r"pad_token_id: expected 256"),
        ({"image_resize_strategy": "letterbox"}, r"only 'resize-naive' is supported, found 'letterbox'"),
        ({"timm_override_act_layers": [None, "quick_gelu"]}, "only towers with their own activations"),
        ({"norm_stats": None}, "norm_stats: expected statistics"),
        ({"n_action_bin": 256}, "n_action_bin"),
    ],
)
def test_a_config_that_means_another_model_is_refused(keys, message, folder):
    with pytest.raises(ConfigError, match=message):
        opened(edit(folder, **keys))


def test_a_tokenizer_of_another_size_is_refused(folder):
    letters = tuple(map(chr, range(256, 256 + 128)))
    (folder / "tokenizer.json").write_text(bpe((*"abc", *letters), ()).text)
    with pytest.raises(ConfigError, match=r"tokenizer.json: expected 320 ids, or one more for padding.*found 131"):
        opened(folder)


def test_partial_weights_are_named(folder, tmp_path):
    loaded = opened(folder)
    export(loaded.policy, tmp_path / "out", config=loaded.config, shard=100_000)
    missing = next((tmp_path / "out").glob("model-00002*"))
    missing.unlink()
    with pytest.raises(FileNotFoundError, match="model-00002"):
        opened(tmp_path / "out")
    found = tensors(folder)
    del found["vision_backbone.fused_featurizer.blocks.1.attn.proj.bias"]
    save_file(found, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=r"missing tensor '?.*fused_featurizer.blocks.1.attn.proj.bias"):
        opened(folder)


def test_a_folder_shown_several_cameras_reads_the_first_and_says_so(folder):
    asked_for = replace(Asked.shown("toy", {"a": (32, 40), "b": (16, 16)}, 10.0), towers=SIZES)
    loaded = load(folder, asked_for)
    assert {name: feature.shape for name, feature in loaded.policy.inputs.items() if name != TASK} == {"a": (32, 40, 3)}
    assert "it reads one camera, a; b are not read" in loaded.report.notes
    assert loaded.policy.spec.fps == 10


def test_what_was_read_is_saved_as_a_model_of_ours(folder, tmp_path):
    letters = bpe(tuple(map(chr, range(0x4E00, 0x4E00 + 320))), ())
    (folder / "tokenizer.json").write_text(letters.text)
    policy = opened(folder).policy
    again = store.load(store.save(policy, tmp_path / "ours"))
    assert again.encoder.tokenizer.text == letters.text
    mine, theirs = policy.state_dict(), again.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    ctx = [
        one.encoder.prefix([(torch.full((1, 3, 28, 28), 0.5), None)], torch.tensor([[1, 5, 9]]), None)
        for one in (policy, again)
    ]
    ids = [one.decoder.sample(c, shape=(7,), rng=seeded(0)) for one, c in zip((policy, again), ctx, strict=True)]
    assert torch.equal(*ids)


def test_a_unit_is_asked_for_of_openvlas_folders_alone(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"unnorm_key: .*only OpenVLA's folders have several units"):
        load_policy(materialise(GOLDEN / "act_state", tmp_path / "act"), unnorm_key="bridge_orig")
    with pytest.raises(ConfigError, match=r"unnorm_key: expected one of bridge_orig, toy, found 'kuka'"):
        load_policy(folder, unnorm_key="kuka")


def test_a_folder_is_known_as_a_policy(folder):
    saved = open_folder(shutil.copytree(folder, folder.parent / "copy"))
    assert (saved.kind, saved.holds, saved.whose) == ("openvla", "policy", "OpenVLA")
    assert SIZES
