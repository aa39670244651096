"""Names and shapes of published checkpoints of towers, written down from their configurations: no weights."""

from __future__ import annotations

from typing import Any

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, out: int, width: int, *, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, width), **({f"{name}.bias": (out,)} if bias else {})}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def clip_block(name: str, width: int, hidden: int) -> Shapes:
    found = {**norm(f"{name}.layer_norm1", width), **norm(f"{name}.layer_norm2", width)}
    for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
        found |= linear(f"{name}.self_attn.{part}", width, width)
    return found | linear(f"{name}.mlp.fc1", hidden, width) | linear(f"{name}.mlp.fc2", width, hidden)


def clip_text(name: str, c: dict[str, Any], last: str = "final_layer_norm") -> Shapes:
    width = c["hidden_size"]
    found: Shapes = {
        f"{name}.embeddings.token_embedding.weight": (c["vocab_size"], width),
        f"{name}.embeddings.position_embedding.weight": (c["max_position_embeddings"], width),
        **norm(f"{name}.{last}", width),
    }
    for i in range(c["num_hidden_layers"]):
        found |= clip_block(f"{name}.encoder.layers.{i}", width, c["intermediate_size"])
    return found


def clip_vision(name: str, c: dict[str, Any], *, siglip: bool) -> Shapes:
    width, patch, side = c["hidden_size"], c["patch_size"], c["image_size"] // c["patch_size"]
    found: Shapes = {
        f"{name}.embeddings.patch_embedding.weight": (width, 3, patch, patch),
        f"{name}.embeddings.position_embedding.weight": (side**2 + (not siglip), width),
        **norm(f"{name}.post_layernorm", width),
    }
    for i in range(c["num_hidden_layers"]):
        found |= clip_block(f"{name}.encoder.layers.{i}", width, c["intermediate_size"])
    if not siglip:
        return found | {f"{name}.embeddings.class_embedding": (width,), **norm(f"{name}.pre_layrnorm", width)}
    found[f"{name}.embeddings.patch_embedding.bias"] = (width,)
    head = f"{name}.head"
    found |= {
        f"{head}.probe": (1, 1, width),
        f"{head}.attention.in_proj_weight": (3 * width, width),
        f"{head}.attention.in_proj_bias": (3 * width,),
        **linear(f"{head}.attention.out_proj", width, width),
        **norm(f"{head}.layernorm", width),
        **linear(f"{head}.mlp.fc1", c["intermediate_size"], width),
        **linear(f"{head}.mlp.fc2", width, c["intermediate_size"]),
    }
    return found


def clip(c: dict[str, Any]) -> Shapes:
    text, image, out = c["text_config"], c["vision_config"], c["projection_dim"]
    return {
        "logit_scale": (),
        "text_model.embeddings.position_ids": (1, text["max_position_embeddings"]),
        "vision_model.embeddings.position_ids": (1, (image["image_size"] // image["patch_size"]) ** 2 + 1),
        **clip_text("text_model", text),
        **clip_vision("vision_model", image, siglip=False),
        **linear("text_projection", out, text["hidden_size"], bias=False),
        **linear("visual_projection", out, image["hidden_size"], bias=False),
    }


def siglip(c: dict[str, Any]) -> Shapes:
    text, image = c["text_config"], c["vision_config"]
    return {
        "logit_scale": (1,),
        "logit_bias": (1,),
        **clip_text("text_model", text),
        **linear("text_model.head", text["hidden_size"], text["hidden_size"]),
        **clip_vision("vision_model", image, siglip=True),
    }


def patches(name: str, c: dict[str, Any]) -> Shapes:
    width, patch, side = c["hidden_size"], c["patch_size"], c["image_size"] // c["patch_size"]
    return {
        f"{name}embeddings.cls_token": (1, 1, width),
        f"{name}embeddings.position_embeddings": (1, side**2 + 1, width),
        f"{name}embeddings.patch_embeddings.projection.weight": (width, 3, patch, patch),
        f"{name}embeddings.patch_embeddings.projection.bias": (width,),
        **norm(f"{name}layernorm", width),
    }


def bert_attention(name: str, kind: str, width: int, source: int = 0) -> Shapes:
    found = {}
    for part in ("query", "key", "value"):
        found |= linear(f"{name}.{kind}.{part}", width, width if part == "query" else source or width)
    return found | linear(f"{name}.output.dense", width, width)


def vit(c: dict[str, Any]) -> Shapes:
    width, hidden = c["hidden_size"], c["intermediate_size"]
    found = patches("vit.", c)
    for i in range(c["num_hidden_layers"]):
        name = f"vit.encoder.layer.{i}"
        found |= bert_attention(f"{name}.attention", "attention", width)
        found |= linear(f"{name}.intermediate.dense", hidden, width) | linear(f"{name}.output.dense", width, hidden)
        found |= norm(f"{name}.layernorm_before", width) | norm(f"{name}.layernorm_after", width)
    return found | linear("classifier", len(c["id2label"]), width)


def dinov2(c: dict[str, Any]) -> Shapes:
    width = c["hidden_size"]
    found: Shapes = {**patches("", c), "embeddings.mask_token": (1, width)}
    if c["model_type"] == "dinov2_with_registers":
        found["embeddings.register_tokens"] = (1, c["num_register_tokens"], width)
    for i in range(c["num_hidden_layers"]):
        name = f"encoder.layer.{i}"
        found |= bert_attention(f"{name}.attention", "attention", width)
        found |= norm(f"{name}.norm1", width) | norm(f"{name}.norm2", width)
        found |= {f"{name}.layer_scale{k}.lambda1": (width,) for k in (1, 2)}
        if c.get("use_swiglu_ffn"):
            hidden = (width * 8 // 3 + 7) // 8 * 8
            found |= linear(f"{name}.mlp.weights_in", 2 * hidden, width)
            found |= linear(f"{name}.mlp.weights_out", width, hidden)
        else:
            found |= linear(f"{name}.mlp.fc1", 4 * width, width) | linear(f"{name}.mlp.fc2", width, 4 * width)
    return found


def bert(c: dict[str, Any], *, pooler: bool, words: bool, prefix: str = "bert.") -> Shapes:
    width, hidden = c["hidden_size"], c["intermediate_size"]
    found: Shapes = {
        f"{prefix}embeddings.word_embeddings.weight": (c["vocab_size"], width),
        f"{prefix}embeddings.position_embeddings.weight": (c["max_position_embeddings"], width),
        f"{prefix}embeddings.token_type_embeddings.weight": (2, width),
        f"{prefix}embeddings.position_ids": (1, c["max_position_embeddings"]),
        **norm(f"{prefix}embeddings.LayerNorm", width),
    }
    for i in range(c["num_hidden_layers"]):
        name = f"{prefix}encoder.layer.{i}"
        found |= bert_attention(f"{name}.attention", "self", width) | norm(f"{name}.attention.output.LayerNorm", width)
        found |= linear(f"{name}.intermediate.dense", hidden, width) | linear(f"{name}.output.dense", width, hidden)
        found |= norm(f"{name}.output.LayerNorm", width)
    if pooler:
        found |= linear(f"{prefix}pooler.dense", width, width)
    if words:
        found |= {
            "cls.predictions.bias": (c["vocab_size"],),
            "cls.predictions.decoder.bias": (c["vocab_size"],),
            "cls.predictions.decoder.weight": (c["vocab_size"], width),
            **linear("cls.predictions.transform.dense", width, width),
            **norm("cls.predictions.transform.LayerNorm", width),
            **linear("cls.seq_relationship", 2, width),
        }
    return found


def t5(c: dict[str, Any]) -> Shapes:
    width, hidden, inner = c["d_model"], c["d_ff"], c["num_heads"] * c["d_kv"]
    found: Shapes = {
        "shared.weight": (c["vocab_size"], width),
        "encoder.embed_tokens.weight": (c["vocab_size"], width),
        "encoder.final_layer_norm.weight": (width,),
        "lm_head.weight": (c["vocab_size"], width),
        "decoder.final_layer_norm.weight": (width,),
    }
    for i in range(c["num_layers"]):
        attention, units = f"encoder.block.{i}.layer.0", f"encoder.block.{i}.layer.1"
        found |= {f"{attention}.layer_norm.weight": (width,), f"{units}.layer_norm.weight": (width,)}
        for part in "qkv":
            found[f"{attention}.SelfAttention.{part}.weight"] = (inner, width)
        found[f"{attention}.SelfAttention.o.weight"] = (width, inner)
        ups = ("wi_0", "wi_1") if c["feed_forward_proj"].startswith("gated") else ("wi",)
        found |= {f"{units}.DenseReluDense.{up}.weight": (hidden, width) for up in ups}
        found[f"{units}.DenseReluDense.wo.weight"] = (width, hidden)
    distances = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return found | {distances: (c["relative_attention_num_buckets"], c["num_heads"])}


MPT1B = {
    "model_type": "mosaic_gpt",
    "alibi": True,
    "attn_qk_ln": True,
    "no_bias": True,
    "low_precision_layernorm": True,
}
"""Of 24 layers, 2048 wide, with 50368 ids, as the class has them by default."""


def mpt(name: str, c: dict[str, Any], layer: str = "", older: bool | None = None) -> Shapes:
    """layer: what stands behind the number of a block; older: names as of `mosaic_gpt`, None: as `model_type` says."""
    older = c["model_type"] == "mosaic_gpt" if older is None else older
    first, second, last, up, down = ["ln_1", "ln_2", "ln_f", "mlp.mlp_up", "mlp.mlp_down"] if older else (
        ["norm_1", "norm_2", "norm_f", "ffn.up_proj", "ffn.down_proj"]
    )  # fmt: skip
    width = c.get("d_model", 2048)
    found: Shapes = {f"{name}wte.weight": (c.get("vocab_size", 50368), width), f"{name}{last}.weight": (width,)}
    for i in range(c.get("n_layers", 24)):
        block = f"{name}blocks.{i}.{layer}"
        norms = [first, second, *(("attn.q_ln", "attn.k_ln") if c.get("attn_qk_ln") else ())]
        found |= {f"{block}{norm}.weight": (width,) for norm in norms}
        found |= linear(f"{block}attn.Wqkv", 3 * width, width, bias=False)
        found |= linear(f"{block}attn.out_proj", width, width, bias=False)
        found |= linear(f"{block}{up}", 4 * width, width, bias=False)
        found |= linear(f"{block}{down}", width, 4 * width, bias=False)
    return found


def openflamingo(text: dict[str, Any], seen: int, *, depth: int = 6, older: bool = True) -> Shapes:
    """MPT with a gated block in each layer, all heads 8 of 64, and the resampler of 64 tokens, `seen` wide."""
    width, inner = text.get("d_model", 2048), 8 * 64
    found = mpt("lang_encoder.transformer.", text, "decoder_layer.", older) | norm("perceiver.norm", seen)
    found["perceiver.latents"] = (64, seen)
    for i in range(text.get("n_layers", 24)):
        name = f"lang_encoder.transformer.blocks.{i}.gated_cross_attn_layer."
        found |= {f"{name}attn_gate": (1,), f"{name}ff_gate": (1,), **norm(f"{name}attn.norm", width)}
        found |= asking(f"{name}attn.", width, seen, inner) | hidden(f"{name}ff.", width)
    for i in range(depth):
        name = f"perceiver.layers.{i}."
        found |= norm(f"{name}0.norm_media", seen) | norm(f"{name}0.norm_latents", seen)
        found |= asking(f"{name}0.", seen, seen, inner) | hidden(f"{name}1.", seen)
    return found


def asking(name: str, width: int, source: int, inner: int) -> Shapes:
    shapes = {"to_q": (inner, width), "to_kv": (2 * inner, source), "to_out": (width, inner)}
    return {f"{name}{part}.weight": shape for part, shape in shapes.items()}


def hidden(name: str, width: int) -> Shapes:
    up, down = linear(f"{name}1", 4 * width, width, bias=False), linear(f"{name}3", width, 4 * width, bias=False)
    return norm(f"{name}0", width) | up | down
