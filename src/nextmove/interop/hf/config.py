"""config.json of transformers, read strictly: a key is used, known to have no effect on the numbers, or an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from nextmove.config import ConfigError, decode
from nextmove.nn.feedforward import Activation
from nextmove.nn.rope import RopeScaling, Rotary

T = TypeVar("T")

BOOKKEEPING = {
    "_name_or_path architectures transformers_version torch_dtype dtype transformers.js_config task_specific_params "
    "id2label label2id num_labels _num_labels problem_type finetuning_task output_attentions output_hidden_states "
    "return_dict n_special predict_special_tokens prefix output_past tokenizer_class processor_class _commit_hash "
    "output_scores return_dict_in_generate use_cache use_return_dict torchscript chunk_size_feed_forward "
    "use_bfloat16 xla_device keys_to_ignore_at_inference _flash_attn_2_enabled use_reentrant_checkpointing "
    "_attn_implementation attn_implementation _attn_implementation_autoset is_llama_config model_type "
    "attn_impl init_device verbose": "bookkeeping",
    "bos_token_id eos_token_id eos_token_ids pad_token_id sep_token_id unk_token_id decoder_start_token_id "
    "max_length min_length max_new_tokens do_sample num_beams num_beam_groups num_return_sequences early_stopping "
    "temperature top_k top_p typical_p repetition_penalty length_penalty diversity_penalty no_repeat_ngram_size "
    "encoder_no_repeat_ngram_size bad_words_ids suppress_tokens begin_suppress_tokens forced_bos_token_id "
    "forced_eos_token_id remove_invalid_values exponential_decay_length_penalty": "a matter of sampling",
    "cache_implementation": "a matter of memory",
    "initializer_factor logit_scale_init_value dropout dropout_rate classifier_dropout hidden_dropout_prob "
    "attention_probs_dropout_prob drop_path_rate initializer_range gradient_checkpointing attention_dropout attn_pdrop "
    "resid_pdrop embd_pdrop emb_pdrop embedding_fraction summary_first_dropout tf_legacy_loss neftune_noise_alpha "
    "init_config param_init_fn init_div_is_residual init_std emb_init_std emb_init_uniform_lim init_gain fan_mode "
    "init_nonlinearity": "a matter of training",
    "summary_type summary_use_proj summary_activation summary_proj_to_labels": "of a head that is not there",
    "perceiver_config pixel_shuffle_factor": "of a resampler that is not there, and a factor told elsewhere",
}
"""Keys that change no logits -> why."""
UNUSED = {key: why for keys, why in BOOKKEEPING.items() for key in keys.split()}
PREFIXES = ("unsloth_",)
"""Beginnings of the keys by which a tool that trains models marks its files."""
_OTHER = "attention to another model is not supported"
NEUTRAL: dict[str, tuple[tuple[Any, ...], str]] = {
    "pruned_heads": ((None, {}), "heads taken out of the layers are not supported"),
    "quantization_config": ((None,), "quantised weights are not supported; take the folder of the original ones"),
    "auto_map": ((None, {}), "code that a folder brings is never run"),
    "position_embedding_type": (("absolute",), "only positions that are counted from the beginning are supported"),
    "cross_attention_hidden_size": ((None,), _OTHER),
    "add_cross_attention": ((None, False), _OTHER),
    "tie_encoder_decoder": ((None, False), _OTHER),
    "qk_layer_norms": ((None, False), "norms of queries and keys are not supported in this family"),
    "use_resampler": ((None, False), "a resampler is not supported in this family"),
    "sliding_window": ((None,), "windows of attention are not supported"),
    "use_bidirectional_attention": ((None, False), "attention to what follows is not supported in a language model"),
}
"""Keys that change no logits as long as they have one of these values -> why they may not have another."""

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_python": "gelu",
    "gelu_python_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
}


def read(cls: type[T], data: Mapping[str, Any]) -> tuple[T, tuple[str, ...]]:
    """The family's dataclass, and the keys left aside; raises ConfigError for a key that is neither."""
    own = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    aside = tuple(key for key in data if key not in own and _idle(key, data[key]))
    return decode(cls, {k: v for k, v in data.items() if k not in aside}, where="config.json"), aside


def within(cls: type[T], data: Mapping[str, Any], key: str) -> tuple[T, tuple[str, ...]]:
    """`read` of the object at a key, of which an absent one is empty; what is wrong is said with the key."""
    inner = data.get(key) or {}
    if not isinstance(inner, Mapping):
        raise ConfigError(f"config.json: {key}: expected an object, found {inner!r:.80}")
    try:
        return read(cls, inner)
    except ConfigError as problem:
        raise ConfigError(str(problem).replace("config.json", f"config.json: {key}", 1)) from None


def side(name: str, found: int | list[int] | tuple[int, ...]) -> int:
    """A side, px, that a file gives as one number or as two equal ones."""
    sides = [found] if isinstance(found, int) else list(found)
    if len(set(sides)) != 1 or sides[0] < 1:
        raise ConfigError(f"config.json: {name}: expected a square, found {found!r}")
    return sides[0]


def _idle(key: str, value: Any) -> bool:
    """Whether a key changes no logits; raises ConfigError where it would, having this value."""
    if key not in NEUTRAL:
        return key in UNUSED or key.startswith(PREFIXES)
    allowed, why = NEUTRAL[key]
    if not any(type(value) is type(other) and value == other for other in allowed):
        raise ConfigError(f"config.json: {key}: {why}; found {value!r:.80}")
    return True


def release(data: Mapping[str, Any]) -> int:
    """The release of transformers that wrote a config.json, 0 where it does not say."""
    major = str(data.get("transformers_version") or "").partition(".")[0]
    return int(major) if major.isdigit() else 0


def expect(name: str, found: Any, *expected: Any) -> None:
    """Raises ConfigError for a value whose mathematics we do not have."""
    if found not in expected:
        known = " or ".join(map(repr, expected))
        raise ConfigError(f"config.json: {name}: only {known} is supported, found {found!r}")


def activation(name: str, found: str) -> Activation:
    """Our name of an activation."""
    expect(name, found, *ACTIVATIONS)
    return ACTIVATIONS[found]


LAYERS = ("full_attention", "sliding_attention")
"""What `layer_types` calls layers."""


def windows(kinds: Sequence[str] | None, layers: int, window: int | None, default: Sequence[bool]) -> tuple[int, ...]:
    """The window of each layer, 0 for none, from `layer_types`, or as `default` says which layers have one.

    () where none has.
    """
    if kinds is not None:
        if len(kinds) != layers:
            raise ConfigError(f"config.json: layer_types: expected {layers} layers, found {len(kinds)}")
        for kind in kinds:
            expect("layer_types", kind, *LAYERS)
        default = [kind == LAYERS[1] for kind in kinds]
    if not any(default):
        return ()
    if not window or window < 1:
        raise ConfigError(f"config.json: sliding_window: expected 1 or more for layers with a window, found {window!r}")
    return tuple(window if near else 0 for near in default)


def rotary(theta: float | None, scaling: Mapping[str, Any] | None, parameters: Mapping[str, Any] | None) -> Rotary:
    """Rotary positions from `rope_theta` and `rope_scaling`, or from the `rope_parameters` of releases 5 and later."""
    rules = {**(scaling or {}), **(parameters or {})}
    base = rules.pop("rope_theta", None)
    base = float(base if base is not None else 10000.0 if theta is None else theta)
    kind = rules.pop("rope_type", rules.pop("type", "default"))
    rules.pop("type", None)
    expect("rope_type", kind, "default", "linear", "llama3")
    names = {"linear": ("factor",), "llama3": tuple(_LLAMA3)}.get(kind, ())
    for name in rules:
        if name == "partial_rotary_factor":
            expect(name, rules[name], 1, None)
        elif name not in names:
            raise ConfigError(f"config.json: rope_parameters: unknown key {name!r} of type {kind!r}")
    for name in names:
        if not isinstance(rules.get(name), int | float):
            raise ConfigError(f"config.json: rope_parameters.{name}: expected a number, found {rules.get(name)!r}")
    if kind == "default":
        return Rotary(base)
    return Rotary(base, RopeScaling(**{_LLAMA3[name]: rules[name] for name in names}))


_LLAMA3 = {
    "factor": "factor",
    "low_freq_factor": "low_freq",
    "high_freq_factor": "high_freq",
    "original_max_position_embeddings": "original_length",
}
