"""openpi's checkpoints of JAX: which arrays of their tree are which of its tensors in PyTorch.

Arrays of layers lie on top of each other, maps stand the other way round, and heads have an axis of their own. Names in
PyTorch are those of openpi's own conversion. Shapes: W width, N heads, E width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from nextmove.config import ConfigError, nearest
from nextmove.interop.pi.config import Sizes, Stack
from nextmove.interop.pi.layout import EMBEDDING, EXPERT, SEEN
from nextmove.models.policy.pi0 import SIGLIP
from nextmove.nn.feedforward import DenseMlp
from nextmove.weights.orbax import is_tree, names, read_tree

PARAMS = "params"
"""The folder of the tree in a checkpoint, and the first part of its arrays' paths."""
SIGHT, SPEECH = "PaliGemma/img", "PaliGemma/llm"
EYE = f"{SEEN}.vision_tower.vision_model"
MAPS = ("state_proj", "action_in_proj", "action_out_proj", "action_time_mlp_in", "action_time_mlp_out", "time_mlp_in",
        "time_mlp_out")  # fmt: skip

Turn = Callable[[Tensor], Tensor]
Rules = dict[str, tuple[tuple[str, Turn], ...]]
"""Path of an array -> the tensors that it becomes, by name and how."""


def _same(x: Tensor) -> Tensor:
    return x


def _map(x: Tensor) -> Tensor:
    """(in, out) -> (out, in)."""
    return x.T


def _into_heads(x: Tensor) -> Tensor:
    """(W, N, E) -> (N E, W)."""
    return x.flatten(1).T


def _from_heads(x: Tensor) -> Tensor:
    """(N, E, W) -> (W, N E)."""
    return x.flatten(0, 1).T


def _by_head(x: Tensor) -> Tensor:
    """(N, W, E) -> (N E, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def _part(i: int, turn: Turn) -> Turn:
    """One of two arrays that lie on top of each other."""
    return lambda x: turn(x[i])


def _layered() -> Rules:
    """Rules of one layer, of arrays of all: {} is its number."""
    start, own = f"{SIGHT}/Transformer/encoderblock", f"{EYE}.encoder.layers.{{}}"
    found: Rules = {}
    for i in (0, 1):
        for end, theirs in (("scale", "weight"), ("bias", "bias")):
            found[f"{start}/LayerNorm_{i}/{end}"] = ((f"{own}.layer_norm{i + 1}.{theirs}", _same),)
        found[f"{start}/MlpBlock_0/Dense_{i}/kernel"] = ((f"{own}.mlp.fc{i + 1}.weight", _map),)
        found[f"{start}/MlpBlock_0/Dense_{i}/bias"] = ((f"{own}.mlp.fc{i + 1}.bias", _same),)
    attention = f"{start}/MultiHeadDotProductAttention_0"
    for name in ("query", "key", "value"):
        found[f"{attention}/{name}/kernel"] = ((f"{own}.self_attn.{name[0]}_proj.weight", _into_heads),)
        found[f"{attention}/{name}/bias"] = ((f"{own}.self_attn.{name[0]}_proj.bias", torch.flatten),)
    found[f"{attention}/out/kernel"] = ((f"{own}.self_attn.out_proj.weight", _from_heads),)
    found[f"{attention}/out/bias"] = ((f"{own}.self_attn.out_proj.bias", _same),)
    for which, place in (("", f"{SEEN}.language_model"), ("_1", EXPERT)):
        found |= _block(f"{SPEECH}/layers", which, f"{place}.layers.{{}}")
    return found


def _block(start: str, which: str, own: str) -> Rules:
    """Rules of one layer of the language model or the expert, whose parts are named with `which`."""
    attention, units = f"{start}/attn", f"{start}/mlp{which}"
    found: Rules = {
        f"{attention}/q_einsum{which}/w": ((f"{own}.self_attn.q_proj.weight", _by_head),),
        f"{attention}/kv_einsum{which}/w": (
            (f"{own}.self_attn.k_proj.weight", _part(0, _by_head)),
            (f"{own}.self_attn.v_proj.weight", _part(1, _by_head)),
        ),
        f"{attention}/attn_vec_einsum{which}/w": ((f"{own}.self_attn.o_proj.weight", _from_heads),),
        f"{units}/gating_einsum": (
            (f"{own}.mlp.gate_proj.weight", _part(0, _map)),
            (f"{own}.mlp.up_proj.weight", _part(1, _map)),
        ),
        f"{units}/linear": ((f"{own}.mlp.down_proj.weight", _map),),
    }
    for name, theirs in (("pre_attention_norm", "input_layernorm"), ("pre_ffw_norm", "post_attention_layernorm")):
        found |= _norm(f"{start}/{name}{which}", f"{own}.{theirs}")
    return found


def _norm(start: str, own: str) -> Rules:
    """Rules of a norm with gains, or of one that a time steers."""
    return {
        f"{start}/scale": ((f"{own}.weight", _same),),
        f"{start}/Dense_0/kernel": ((f"{own}.dense.weight", _map),),
        f"{start}/Dense_0/bias": ((f"{own}.dense.bias", _same),),
    }


def _whole() -> Rules:
    """Rules of arrays that are no layers'."""
    bridge = f"{SEEN}.multi_modal_projector.linear"
    found: Rules = {
        f"{SIGHT}/embedding/kernel": ((f"{EYE}.embeddings.patch_embedding.weight", lambda x: x.permute(3, 2, 0, 1)),),
        f"{SIGHT}/embedding/bias": ((f"{EYE}.embeddings.patch_embedding.bias", _same),),
        f"{SIGHT}/pos_embedding": ((f"{EYE}.embeddings.position_embedding.weight", lambda x: x[0]),),
        f"{SIGHT}/Transformer/encoder_norm/scale": ((f"{EYE}.post_layernorm.weight", _same),),
        f"{SIGHT}/Transformer/encoder_norm/bias": ((f"{EYE}.post_layernorm.bias", _same),),
        f"{SIGHT}/head/kernel": ((f"{bridge}.weight", _map),),
        f"{SIGHT}/head/bias": ((f"{bridge}.bias", _same),),
        f"{SPEECH}/embedder/input_embedding": ((EMBEDDING, _same),),
        **_norm(f"{SPEECH}/final_norm", f"{SEEN}.language_model.norm"),
        **_norm(f"{SPEECH}/final_norm_1", f"{EXPERT}.norm"),
    }
    for name in MAPS:
        found |= {f"{name}/kernel": ((f"{name}.weight", _map),), f"{name}/bias": ((f"{name}.bias", _same),)}
    return found


LAYERED, WHOLE = _layered(), _whole()


def place(folder: Path) -> Path | None:
    """Where the tree of a checkpoint is: in its folder `params`, or there; None where there is none."""
    return next((one for one in (folder / PARAMS, folder) if is_tree(one)), None)


def plain(path: str) -> str:
    """A path without what a training's state has around it."""
    return path.removeprefix(f"{PARAMS}/").removesuffix("/value")


def acts(tree: Path) -> bool:
    """Whether a tree has an expert that acts (pi0, pi0.5), in place of a language model that does (pi0-FAST)."""
    return any(plain(path).startswith("action_in_proj/") for path in names(tree))


def read(tree: Path, dtype: torch.dtype | None = None) -> tuple[dict[str, Tensor], Sizes]:
    """The tensors of a tree by their names in PyTorch, and the sizes that their shapes say.

    Raises FileNotFoundError, or ConfigError naming an array that is damaged or belongs nowhere, and one that is needed
    for the sizes and missing.
    """
    found: dict[str, Tensor] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for path, value in read_tree(tree, dtype):
        name = plain(path)
        shapes[name] = tuple(value.shape)
        if name in WHOLE:
            found |= {theirs: turn(value) for theirs, turn in WHOLE[name]}
        elif name in LAYERED:
            for i, layer in enumerate(value):
                found |= {theirs.format(i): turn(layer) for theirs, turn in LAYERED[name]}
        else:
            lora = "; merge its adapters first" if "lora" in name else nearest(name, [*WHOLE, *LAYERED])
            raise ConfigError(f"{tree}: {name}: expected an array of pi0, pi0.5 or pi0-FAST, found another{lora}")
    return found, sizes(shapes, str(tree))


def sizes(shapes: Mapping[str, tuple[int, ...]], where: str) -> Sizes:
    """The sizes of the parts; raises ConfigError naming an array that is missing or misshapen."""

    def axes(name: str, count: int) -> tuple[int, ...]:
        found = shapes.get(name)
        if found is None or len(found) != count:
            raise ConfigError(f"{where}: {name}: expected an array of {count} axes, found {found or 'none'}")
        return found

    def stack(which: str) -> Stack:
        layers, heads, width, head = axes(f"{SPEECH}/layers/attn/q_einsum{which}/w", 4)
        pairs = axes(f"{SPEECH}/layers/attn/kv_einsum{which}/w", 5)[2]
        return Stack(width, layers, axes(f"{SPEECH}/layers/mlp{which}/linear", 3)[1], heads, pairs, head)

    block = f"{SIGHT}/Transformer/encoderblock"
    patch, _, _, width = axes(f"{SIGHT}/embedding/kernel", 4)
    layers, _, heads, _ = axes(f"{block}/MultiHeadDotProductAttention_0/query/kernel", 4)
    hidden = axes(f"{block}/MlpBlock_0/Dense_0/kernel", 3)[2]
    side = patch * round(axes(f"{SIGHT}/pos_embedding", 3)[1] ** 0.5)
    tower = replace(
        SIGLIP, image=side, patch=patch, width=width, layers=layers, heads=heads, feedforward=DenseMlp(hidden)
    )
    spoken = stack("")
    expert = stack("_1") if f"{SPEECH}/layers/attn/q_einsum_1/w" in shapes else Sizes().expert
    return Sizes(tower, spoken, expert, axes(f"{SPEECH}/embedder/input_embedding", 2)[0])
