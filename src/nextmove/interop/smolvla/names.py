"""One table of tensors: ours, and what LeRobot's SmolVLA calls them, packed ones part by part."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from nextmove.interop.hf import llama, vision
from nextmove.interop.weights import renamed
from nextmove.nn.attention import Heads

VLM = "model.vlm_with_expert.vlm"
EXPERT = "model.vlm_with_expert.lm_expert"
DIRECT = {
    "encoder.bridge.maps.0": f"{VLM}.model.connector.modality_projection.proj",
    "encoder.state.maps.0": "model.state_proj",
    "decoder.net.action": "model.action_in_proj",
    "decoder.net.head": "model.action_out_proj",
    "decoder.net.time.0": "model.action_time_mlp_in",
    "decoder.net.time.2": "model.action_time_mlp_out",
}
CROSS = {
    **llama.BLOCK,
    "cross_branch.norm": "input_layernorm",
    "cross.in_proj_weight": "self_attn.qkv_proj.weight",
    "cross.q_proj_weight": "self_attn.q_proj.weight",
    "cross.k_proj_weight": "self_attn.k_proj.weight",
    "cross.v_proj_weight": "self_attn.v_proj.weight",
    "cross.out_proj": "self_attn.o_proj",
}
"""Within a layer of the expert, of either kind."""
NEGATED = "decoder.net.head."
"""Velocities from noise to data are the negative of those from data to noise."""
Parts = tuple[tuple[str, int], ...]
"""Names of the file, and how many rows of ours each of them is."""


def table(tensors: Mapping[str, Tensor], heads: Heads) -> dict[str, Parts]:
    """Of our tensors by name, those of the file that they are made of; what no file holds (scales) is left out.

    heads: of the language model.
    """
    found = {}
    for ours, value in tensors.items():
        if (name := theirs(ours)) is not None:
            found[ours] = _parts(name, len(value), heads)
    return found


def theirs(ours: str) -> str | None:
    """The name in the file of one of our tensors, packed ones under a name of their own; None for scales."""
    if ours.startswith("encoder.towers.0."):
        name = vision.foreign(ours.removeprefix("encoder.towers.0."))
        return None if name is None else f"{VLM}.model.vision_model.{name}"
    if ours.startswith("encoder.language."):
        name = llama.foreign(ours.removeprefix("encoder.language."))
        return None if name is None else f"{VLM}.{'' if name.startswith('lm_head') else 'model.text_model.'}{name}"
    if ours.startswith("decoder.net.stream."):
        name = llama.named(ours.removeprefix("decoder.net."), CROSS)
        return None if name is None else f"{EXPERT}.{name}"
    return renamed(ours, DIRECT)


def _parts(name: str, rows: int, heads: Heads) -> Parts:
    """A packed tensor's parts, or itself."""
    for packed, cut in (("self_attn.qkv_proj.", True), ("self_attn.qkv.", False)):
        if packed in name:
            queries, pairs = (heads.n_heads * heads.head_dim, heads.n_kv_heads * heads.head_dim) if cut else (0, 0)
            sizes = (queries, pairs, pairs) if cut else (rows // 3,) * 3
            return tuple(
                (name.replace(packed, f"self_attn.{part}_proj."), n) for part, n in zip("qkv", sizes, strict=True)
            )
    if "mlp.gate_up_proj." in name:
        return tuple((name.replace("gate_up", part), rows // 2) for part in ("gate", "up"))
    return ((name, rows),)
