"""Language models of transformers: golden cases, that a changed weight shows, and that nothing is passed over."""

import json
import math

import pytest
import torch
from benchmarks.parity import run
from safetensors.torch import load_file, save_file
from tests.golden.materialise import materialise
from tests.interop.edits import edit, edit_tensors
from tests.interop.test_cases import GOLDEN

from nextmove.contracts import Context, seeded
from nextmove.interop import hf
from nextmove.interop.hf.language import FAMILIES

CASES = ["gpt2", "llama", "smollm2", "qwen2", "gemma", "gemma2", "gemma3", "mpt"]


@pytest.fixture
def folder(request, tmp_path):
    return materialise(GOLDEN / request.param, tmp_path / "model")


@pytest.mark.parametrize("name", [*CASES, "sampling"])
def test_equals_the_reference(name, tmp_path):
    result = run(GOLDEN / name, tmp_path)
    assert "error" not in result
    assert "not_compared" not in result
    assert result["max_abs_diff"] < 1e-5
    if name == "sampling":
        assert result["equal"]
        return
    assert result["loss_diff"] < 1e-6
    assert result["greedy_equal"]
    assert result["keys_used"] == len(
        json.loads((GOLDEN / name / "weights.json").read_text())["files"]["model.safetensors"]
    )


def test_gradients_below_a_tied_head_equal_the_reference(tmp_path):
    result = run(GOLDEN / "mpt", tmp_path)
    assert result["grad_diff"] < 1e-5
    grads = [name for name in load_file(GOLDEN / "mpt" / "io.safetensors") if name.startswith("grad.")]
    assert len(grads) == 14


def test_gradients_of_packed_weights_equal_the_reference(tmp_path):
    result = run(GOLDEN / "qwen2_gradients", tmp_path / "same")
    assert "not_compared" not in result
    assert result["grad_diff"] < 1e-5
    io = load_file(GOLDEN / "qwen2_gradients" / "io.safetensors")
    assert {"grad.model.layers.0.self_attn.k_proj.weight", "grad.model.embed_tokens.weight"} <= io.keys()
    folder = materialise(GOLDEN / "qwen2_gradients", tmp_path / "other")
    edit_tensors(folder, lambda found: found["model.layers.0.self_attn.k_proj.weight"][0].add_(0.1))
    (folder / "weights.json").unlink()
    assert run(folder, tmp_path / "unused")["grad_diff"] > 1e-3


@pytest.mark.parametrize("name", CASES)
def test_a_change_of_any_weight_shows(name, tmp_path):
    folder = materialise(GOLDEN / name, tmp_path)
    ids = load_file(folder / "io.safetensors")["in.input_ids"]
    model = hf.load(folder)
    assert set(model.names) == set(load_file(folder / "model.safetensors")) == set(model.report.used)
    with torch.no_grad():
        before = model.logits(ids)
        for weight in model.decoder.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
            after = model.logits(ids)
            assert (after - before).abs().max() > 1e-3
            before = after


@pytest.mark.parametrize("folder", CASES, indirect=True)
def test_every_tensor_is_used_or_an_error(folder):
    names = list(load_file(folder / "model.safetensors"))
    for name in (names[0], names[-1], next(n for n in names if ".0." in n and "bias" not in n)):
        edit_tensors(folder, lambda found, name=name: found.update(kept=found.pop(name)))
        with pytest.raises(ValueError, match=r"missing tensor|belongs to no part"):
            hf.load(folder)
        edit_tensors(folder, lambda found, name=name: found.update({name: found.pop("kept")}))
    edit_tensors(folder, lambda found: found.update(other=torch.zeros(3)))
    with pytest.raises(ValueError, match="tensor 'other' belongs to no part"):
        hf.load(folder)


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
def test_parts_of_another_shape_are_named(folder):
    def swap(found):
        q, k = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight"
        found[q], found[k] = found[k], found[q]

    edit_tensors(folder, swap)
    with pytest.raises(ValueError, match=r"q_proj.weight: expected shape \(64, 64\), found \(32, 64\)"):
        hf.load(folder)


@pytest.mark.parametrize("folder", ["gpt2"], indirect=True)
def test_the_layout_of_the_published_gpt2(folder):
    expected = hf.load(folder).logits(torch.arange(9)[None])

    def published(found):
        for name in list(found):
            found[name.removeprefix("transformer.")] = found.pop(name)
        found["lm_head.weight"] = found["wte.weight"].clone()
        for layer in range(2):
            found[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 64, 64).tril()

    edit_tensors(folder, published)
    edit(folder, n_ctx=64, task_specific_params={"text-generation": {"do_sample": True}}, tie_word_embeddings=...)
    model = hf.load(folder)
    torch.testing.assert_close(model.logits(torch.arange(9)[None]), expected, atol=0, rtol=0)
    assert set(model.report.ignored) == {"h.0.attn.bias", "h.1.attn.bias", "lm_head.weight"}
    assert "causal mask" in str(model.report)
    edit_tensors(folder, lambda found: found["lm_head.weight"].add_(1))
    with pytest.raises(ValueError, match=r"lm_head.weight: expected a copy of wte.weight \(tied\)"):
        hf.load(folder)
    edit(folder, tie_word_embeddings=False)
    assert not torch.allclose(hf.load(folder).logits(torch.arange(9)[None]), expected, atol=0.1)


@pytest.mark.parametrize("folder", ["smollm2"], indirect=True)
def test_shards_are_read_by_their_index(folder):
    whole = load_file(folder / "model.safetensors")
    expected = hf.load(folder).logits(torch.arange(9)[None])
    names, files = sorted(whole), ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    where = {name: files[i % 2] for i, name in enumerate(names)}
    for file in files:
        save_file({n: whole[n] for n in names if where[n] == file}, folder / file)
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    torch.testing.assert_close(hf.load(folder).logits(torch.arange(9)[None]), expected, atol=0, rtol=0)
    index.write_text(json.dumps({"weight_map": {**where, "more": files[0]}}))
    with pytest.raises(ValueError, match="more: expected in the index and in its file"):
        hf.load(folder)
    index.write_text(json.dumps({"weight_map": {"more": "../model.safetensors"}}))
    with pytest.raises(ValueError, match="expected files of the folder"):
        hf.load(folder)


@pytest.mark.parametrize(
    ("folder", "changes", "message"),
    [
        ("gpt2", {"n_heads": 4}, "unknown key 'n_heads', did you mean 'n_head'"),
        ("gpt2", {"activation_function": "tanh"}, "activation_function: only .* is supported, found 'tanh'"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx: only False"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention: only False"),
        ("gpt2", {"n_head": 5}, "config.json: heads: expected a divisor of width 32, found 5"),
        ("gpt2", {"model_type": "mamba"}, "model_type: only 'gpt2' or 'llama' or .*, found 'mamba'"),
        ("gpt2", {"n_positions": 32}, r"wpe.weight: expected shape \(32, 32\), found \(64, 32\)"),
        ("llama", {"hidden_act": "tanh"}, "hidden_act: only .* is supported, found 'tanh'"),
        ("llama", {"quantization_config": {}}, "quantization_config: quantised weights are not supported"),
        ("llama", {"quantization_config": {"bits": 4}}, r"take the folder of the original ones; found {'bits': 4}"),
        ("llama", {"pruned_heads": {"0": [1]}}, r"pruned_heads: heads taken out .* found {'0': \[1\]}"),
        ("gpt2", {"pruned_heads": {"0": [1]}}, "pruned_heads: heads taken out"),
        ("llama", {"auto_map": {"AutoModel": "a.B"}}, "auto_map: code that a folder brings is never run"),
        ("llama", {"sliding_window": 64}, "sliding_window: windows of attention are not supported; found 64"),
        ("llama", {"sliding_window": 0}, "sliding_window: windows"),
        ("llama", {"add_cross_attention": True}, "add_cross_attention: attention to another model"),
        ("llama", {"max_sequence_length": 77}, "max_sequence_length: only .* is supported, found 77"),
        ("llama", {"logit_scale": 0.5}, "unknown key 'logit_scale'"),
        ("gpt2", {"rope_theta": 1e4}, "unknown key 'rope_theta'"),
        ("gpt2", {"max_sequence_length": 64}, "unknown key 'max_sequence_length'"),
        ("gpt2", {"prefixes": ""}, "unknown key 'prefixes'"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rope_type: only .*, found 'yarn'"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "linear"}},
            "rope_parameters.factor: expected a number, found None",
        ),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "beta": 1}}, "rope_parameters: unknown key 'beta'"),
        ("llama", {"rope_interleaved": True}, "rope_interleaved: only False"),
        ("llama", {"num_key_value_heads": 3}, "num_key_value_heads: expected a divisor of 4, found 3"),
        ("llama", {"attention_bias": True}, "missing tensor 'layers.0.self_attn.q_proj.bias'"),
        ("llama", {"tie_word_embeddings": True}, "lm_head.weight: expected a copy of embed_tokens.weight"),
        ("smollm2", {"tie_word_embeddings": False}, "missing tensor 'lm_head.weight'"),
        ("qwen2", {"use_mrope": True}, "use_mrope: only False"),
        ("qwen2", {"layer_types": ["full_attention"]}, "layer_types: expected 2 layers, found 1"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 2}, "sliding_window: expected 1 or more .*, found None"),
        ("mpt", {"attn_config__alibi": False}, "alibi: only True is supported, found False"),
        ("mpt", {"attn_config__clip_qkv": 6.0}, "clip_qkv: only None is supported, found 6.0"),
        ("mpt", {"attn_config__prefix_lm": True}, "prefix_lm: only False"),
        (
            "mpt",
            {"attn_config__attn_type": "multiquery_attention"},
            "attn_config.attn_type: only 'multihead_attention'",
        ),
        ("mpt", {"attn_config__rope": True}, "config.json: attn_config: unknown key 'rope'"),
        ("mpt", {"attn_config__qk_ln": True}, "missing tensor .*q_ln.weight"),
        ("mpt", {"no_bias": False}, "no_bias: only True"),
        ("mpt", {"norm_type": "rmsnorm"}, "norm_type: only 'low_precision_layernorm' or 'layernorm'"),
        ("mpt", {"logit_scale": "inv_sqrt_d_model"}, "logit_scale: only None"),
        ("mpt", {"tie_word_embeddings": False}, "tie_word_embeddings: only True"),
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention: attention to what follows"),
        ("gemma", {"query_pre_attn_scalar": 16}, "unknown key 'query_pre_attn_scalar'"),
        ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar: expected more than 0, found 0"),
        ("gemma2", {"layer_types": ["chunked_attention"] * 2}, "layer_types: only 'full_attention' or 'sliding_att"),
        ("gemma2", {"hidden_activation": "tanh"}, "hidden_act: only .*, found 'tanh'"),
        ("gemma3", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_type: only .*'yarn'"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping: only None is supported, found 50.0"),
    ],
    indirect=["folder"],
)
def test_what_would_change_the_numbers_is_an_error(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(ValueError, match=message):
        hf.load(folder)


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
def test_older_spellings_of_rotary_positions(folder):
    ids = torch.arange(40)[None]
    expected = hf.load(folder).logits(ids)
    edit(folder, rope_parameters=..., rope_theta=10000.0, rope_scaling=None, head_dim=...)
    torch.testing.assert_close(hf.load(folder).logits(ids), expected, atol=0, rtol=0)
    edit(folder, rope_theta=500.0)
    assert not torch.allclose(hf.load(folder).logits(ids), expected, atol=1e-3)
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    edit(folder, rope_scaling={**scaling, "original_max_position_embeddings": 64})
    rotary = hf.load(folder).decoder.config.trunk.rotary
    assert (rotary.base, rotary.scaling.factor, rotary.scaling.original_length) == (500.0, 8.0, 64)
    edit(folder, rope_scaling={"type": "linear", "factor": 2.0}, rope_theta=10000.0)
    halved = hf.load(folder).decoder.config.trunk.rotary.angles(torch.tensor([6.0]), 16)
    plain = torch.tensor(3.0 * 10000 ** -(2 / 16)).cos()
    assert math.isclose(halved[0][0, 1], plain, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("folder", "older"),
    [
        (
            "gemma",
            {
                "rope_theta": 10000.0, "rope_scaling": None, "hidden_act": "gelu", "hidden_activation": None,
                "transformers_version": "4.38.0",
            },
        ),
        ("gemma2", {"rope_theta": 10000.0, "hidden_act": "gelu", "cache_implementation": "hybrid", "layer_types": ...}),
        ("qwen2", {"rope_theta": 1000000.0, "layer_types": ..., "sliding_window": 32768}),
        (
            "gemma3",
            {
                "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "sliding_window_pattern": 3,
                "rope_scaling": {"rope_type": "linear", "factor": 4.0}, "layer_types": ...,
                "_sliding_window_pattern": ...,
            },
        ),
    ],
    indirect=["folder"],
)  # fmt: skip
def test_published_spellings_of_the_families(folder, older):
    ids = torch.arange(20)[None]
    expected = hf.load(folder).logits(ids)
    edit(folder, rope_parameters=..., dtype=..., torch_dtype="bfloat16", **older)
    assert torch.equal(hf.load(folder).logits(ids), expected)


@pytest.mark.parametrize(
    ("kind", "said", "meant"),
    [
        ("gemma", {"hidden_act": "gelu"}, "gelu_tanh"),
        ("gemma", {"hidden_act": "gelu", "transformers_version": "4.38.0"}, "gelu_tanh"),
        ("gemma", {"hidden_act": "gelu", "transformers_version": "5.5.4"}, "gelu"),
        ("gemma", {"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"}, "gelu_tanh"),
        ("gemma", {"hidden_activation": "gelu"}, "gelu"),
        ("gemma2", {"hidden_act": "gelu"}, "gelu_tanh"),
        ("gemma2", {"hidden_activation": "gelu"}, "gelu"),
        ("llama", {"hidden_act": "gelu_python"}, "gelu"),
        ("llama", {"hidden_act": "gelu_accurate"}, "gelu_tanh"),
    ],
)
def test_activations_are_those_that_releases_mean(kind, said, meant):
    assert FAMILIES[kind]({"model_type": kind, **said}).trunk.feedforward.activation == meant


def test_width_of_qwen2s_heads():
    data = {"model_type": "qwen2", "hidden_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    assert FAMILIES["qwen2"](data).trunk.heads.head_dim == 12
    assert FAMILIES["qwen2"](data | {"head_dim": 20}).trunk.heads.head_dim == 20


MOSAIC = {
    "model_type": "mosaic_gpt", "attn_config": ..., "expansion_ratio": ..., "layer_norm_epsilon": ..., "mlp_ratio": 4,
    "learned_pos_emb": ..., "norm_type": ..., "tie_word_embeddings": ..., "alibi": True,
    "low_precision_layernorm": True, "init_std": 0.02, "verbose": 0, "attn_impl": "triton", "attn_clip_qkv": None,
    "n_heads": 4,
}  # fmt: skip
OLDER = {
    "norm_1": "ln_1",
    "norm_2": "ln_2",
    "norm_f": "ln_f",
    "ffn.up_proj": "mlp.mlp_up",
    "ffn.down_proj": "mlp.mlp_down",
}


@pytest.mark.parametrize("folder", ["mpt"], indirect=True)
def test_mpt_under_its_older_name(folder):
    ids = torch.arange(20)[None]
    edit(folder, n_heads=4)
    expected = hf.load(folder).logits(ids)

    def renamed(found):
        for today, older in OLDER.items():
            found = {name.replace(today, older): value for name, value in found.items()}
        return found | {"lm_head.weight": found["transformer.wte.weight"].clone()}

    edit_tensors(folder, renamed)
    edit(folder, **MOSAIC)
    read = hf.load(folder)
    assert torch.equal(read.logits(ids), expected)
    assert read.report.ignored == {"lm_head.weight": "a copy of wte.weight, to which it is tied"}
    edit_tensors(folder, lambda found: {n: torch.rand(24) for n in normed(2)} | found)
    with pytest.raises(ValueError, match=r"tensor 'blocks.0.attn.k_ln.weight' belongs to no part"):
        hf.load(folder)
    edit(folder, attn_qk_ln=True)
    assert not torch.allclose(hf.load(folder).logits(ids), expected, atol=1e-3)
    edit(folder, n_heads=6)
    with pytest.raises(ValueError, match="n_heads: expected a power of two in mosaic_gpt, found 6"):
        hf.load(folder)


def normed(layers):
    return [f"transformer.blocks.{i}.attn.{part}_ln.weight" for i in range(layers) for part in "qk"]


@pytest.mark.parametrize("folder", ["qwen2"], indirect=True)
def test_windows_of_the_last_layers(folder):
    ids = torch.arange(20)[None]
    whole = hf.load(folder)
    edit(folder, use_sliding_window=True, sliding_window=4, max_window_layers=1, layer_types=...)
    near = hf.load(folder)
    assert [b.attention.heads.window for b in near.decoder.net.stream.blocks] == [0, 4]
    assert torch.allclose(near.logits(ids)[:, :4], whole.logits(ids)[:, :4], atol=1e-6)
    assert not torch.allclose(near.logits(ids)[:, 4:], whole.logits(ids)[:, 4:], atol=1e-3)


@pytest.mark.parametrize("folder", ["gemma2", "gemma3"], indirect=True)
def test_windows_and_caps_with_a_state_equal_one_pass(folder):
    net = hf.load(folder).decoder.net
    ids, ctx = torch.arange(24).view(2, 12), Context.empty(2)
    with torch.no_grad():
        whole, state, made = net(ids, ctx)[0], None, []
        for part in ids.split([7, 1, 1, 3], 1):
            logits, state = net(part, ctx, state)
            made.append(logits)
    torch.testing.assert_close(torch.cat(made, 1), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("folder", ["gemma"], indirect=True)
def test_the_factor_of_embeddings_has_their_dtype(folder):
    net = hf.load(folder, dtype=torch.bfloat16).decoder.net
    rows = net.embedding.weight[:5]
    factor = torch.tensor(48**0.5, dtype=torch.bfloat16)
    assert float(factor) != 48**0.5
    assert torch.equal(net.embed(torch.arange(5)[None])[0], rows * factor)


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
def test_biases_and_other_activations(folder):
    edit(folder, attention_bias=True, mlp_bias=True, hidden_act="gelu_pytorch_tanh")

    def biased(found):
        for name in list(found):
            if "_proj.weight" in name:
                found[name.replace("weight", "bias")] = torch.linspace(-1, 1, len(found[name]))

    edit_tensors(folder, biased)
    model = hf.load(folder)
    assert len(model.report.used) == 21 + 14
    block = model.decoder.net.stream.blocks[0]
    packed = [torch.linspace(-1, 1, n) for n in (64, 32, 32)]
    assert torch.equal(block.attention.in_proj_bias, torch.cat(packed))
    assert torch.equal(block.feedforward.up.bias, torch.cat([torch.linspace(-1, 1, 96)] * 2))
    assert torch.equal(block.feedforward.down.bias, block.attention.out_proj.bias)


@pytest.mark.parametrize("folder", ["gpt2"], indirect=True)
def test_keys_of_the_larger_published_gpt2s_are_known(folder):
    before = hf.load(folder).report.used
    edit(folder, n_special=0, predict_special_tokens=True, _num_labels=1)
    assert hf.load(folder).report.used == before


BOOKKEEPING = {
    "output_past": True, "prefix": None, "tokenizer_class": "X", "pruned_heads": {}, "use_bfloat16": False,
    "_name_or_path": "a/b", "transformers_version": "4.28.0", "torch_dtype": "float16", "_commit_hash": None,
    "unsloth_fixed": True, "unsloth_version": "2025.1", "quantization_config": None, "auto_map": None,
    "add_cross_attention": False, "tie_encoder_decoder": False, "cross_attention_hidden_size": None,
    "decoder_start_token_id": None, "num_beam_groups": 1, "bad_words_ids": None, "suppress_tokens": None,
    "typical_p": 1.0, "tf_legacy_loss": False, "xla_device": None, "eos_token_ids": [0], "is_decoder": False,
}  # fmt: skip


@pytest.mark.parametrize("folder", ["gpt2", "llama"], indirect=True)
def test_bookkeeping_of_published_folders_changes_no_logit(folder):
    ids = torch.arange(9)[None]
    expected = hf.load(folder).logits(ids)
    config = json.loads((folder / "config.json").read_text())
    length = config.get("max_position_embeddings")
    more = {"max_sequence_length": length, "rope_scaling": None} if length else {"n_ctx": 64}
    for key, value in {**BOOKKEEPING, **more}.items():
        edit(folder, **{key: value})
        assert torch.equal(hf.load(folder).logits(ids), expected), key
    assert "tokenizer_class" in str(hf.load(folder).report)


def test_padding_of_all_rows_takes_no_positions(tmp_path):
    """Positions count real ids, as in transformers: 20 + 40 + 20 ids are fine where 64 positions exist."""
    model = hf.load(materialise(GOLDEN / "gpt2", tmp_path))
    ids = torch.arange(40)[None].repeat(2, 1)
    alone = model.model.complete(ids, new=20, rng=seeded(0), stop=())
    padded = torch.nn.functional.pad(ids, (20, 0))
    mask = torch.nn.functional.pad(torch.ones_like(ids), (20, 0))
    made = model.model.complete(padded, mask, new=20, rng=seeded(0), stop=())
    assert torch.equal(made[:, :20], padded[:, :20])
    assert torch.equal(made[:, 20:], alone)


def test_padding_between_ids_is_refused(tmp_path):
    model = hf.load(materialise(GOLDEN / "gpt2", tmp_path))
    prompt, mask = torch.ones(1, 3, dtype=torch.long), torch.tensor([[1, 0, 1]])
    with pytest.raises(ValueError, match="mask: expected padding on the left only"):
        model.model.complete(prompt, mask, new=2, rng=torch.Generator())
