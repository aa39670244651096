"""What OpenVLA's config.json says of a policy of ours."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nextmove.config import ConfigError
from nextmove.interop.openvla.config import OpenVlaConfig
from nextmove.interop.openvla.statistics import set_scale
from nextmove.models.policy import Policy
from nextmove.models.policy.openvla import large
from nextmove.nn import Gpt
from nextmove.nn.vit import VisionTower

TIMM = ("vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224")
PAD = 64


def described(policy: Policy, key: str) -> OpenVlaConfig:
    """The config of a policy of the published architecture; raises ConfigError for one that OpenVLA cannot build."""
    encoder: Any = policy.encoder
    reading, language = encoder.config, encoder.config.language
    wanted = large().towers
    for i, (found, own) in enumerate(zip(reading.towers, wanted, strict=False)):
        if _bare(found) != _bare(own):
            raise ConfigError(
                f"encoder.towers.{i}: OpenVLA's code builds its towers by timm's names, of which {TIMM[i]} has other "
                "sizes; give the `config` of the folder that the policy was read from, or train one of these"
            )
    vocabulary = getattr(policy.decoder.net.config, "vocabulary", ())  # type: ignore[attr-defined]
    # Heads of numbers use no words; the table is padded as it was.
    words = vocabulary[0][0] + 1 if vocabulary else reading.ids - PAD
    return OpenVlaConfig(
        vision_backbone_id="dinosiglip-vit-so-224px",
        llm_backbone_id="llama2-7b-pure",
        arch_specifier="no-align+fused-gelu-mlp",
        use_fused_vision_backbone=True,
        image_resize_strategy="resize-naive",
        image_sizes=[reading.towers[0].image] * 2,
        timm_model_ids=list(TIMM),
        timm_override_act_layers=[None, None],
        hf_llm_id="meta-llama/Llama-2-7b-hf",
        pad_token_id=words,
        pad_to_multiple_of=reading.ids - words,
        norm_stats={key: statistics_of(policy)},
        text_config=text_config(language, reading.ids),
    )


def _bare(tower: VisionTower) -> VisionTower:
    """A tower without what its number of heads and its words do not tell the peer."""
    return replace(tower, film=0)


def text_config(language: Gpt, ids: int) -> dict[str, Any]:
    """The language model's part of the config."""
    heads, units, norm = language.heads, language.feedforward, language.norm
    count = heads if isinstance(heads, int) else heads.n_heads
    return {
        "model_type": "llama",
        "vocab_size": ids,
        "hidden_size": language.width,
        "intermediate_size": units.hidden or 8 * language.width // 3,
        "num_hidden_layers": language.layers,
        "num_attention_heads": count,
        "num_key_value_heads": (0 if isinstance(heads, int) else heads.n_kv_heads) or count,
        "rms_norm_eps": norm.eps,
        "rope_theta": language.rotary.base,
        "tie_word_embeddings": language.head == "tied",
    }


def statistics_of(policy: Policy) -> dict[str, Any]:
    """The ranges of actions, and of the state where it is shown, as a data set's statistics."""
    codec: Any = policy.codec
    encoder: Any = policy.encoder
    found = {"action": ranges(codec.scale)}
    return found if encoder.scale is None else {**found, "proprio": ranges(encoder.scale)}


def with_own(policy: Policy, known: Mapping[str, Any], key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What config.json says of data sets, and what counts: `known`, or where a policy acts in other units, its own.

    Its own are called `key`; raises ConfigError where another data set is.
    """
    if any(_acts_in(policy, stats) for stats in known.values()):
        return dict(known), dict(known)
    if key in known:
        raise ConfigError(
            f"key: expected a name of its own for the data set in whose units the policy acts, found {key!r}, which "
            f"has other statistics; there are {', '.join(sorted(known))}"
        )
    own = {key: statistics_of(policy)}
    return {**known, **own}, own


def _acts_in(policy: Policy, stats: Any) -> bool:
    """Whether a data set's statistics are those of the policy's actions, and of the state where it is shown."""
    codec: Any = policy.codec
    encoder: Any = policy.encoder
    scales = {"action": codec.scale} | ({} if encoder.scale is None else {"proprio": encoder.scale})
    for name, scale in scales.items():
        other = copy.deepcopy(scale)
        try:
            set_scale(other, stats[name], name, scale.mode)
        except (ConfigError, KeyError, TypeError):
            return False
        if not all(
            torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(scale.buffers(), other.buffers(), strict=True)
        ):
            return False
    return True


def ranges(scale: Any) -> dict[str, Any]:
    """What a scale maps to [-1, 1]; dimensions that it leaves as they are have a `mask` of False."""
    low: Tensor = scale.back_shift
    high = low + 2 * scale.back_scale
    plain = (scale.shift == 0) & (scale.scale == 1) & (scale.offset == 0)
    pair = {"q01": low.tolist(), "q99": high.tolist(), "min": low.tolist(), "max": high.tolist()}
    return {**pair, "mask": (~plain).tolist()}
