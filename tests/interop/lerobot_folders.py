"""Random checkpoints of LeRobot's two policies on states, of any options, as each release would have written them."""

import json
import math

import torch
from safetensors.torch import save_file

STATE, ENV = 5, 3
ACT = {
    "type": "act",
    "n_obs_steps": 1,
    "chunk_size": 6,
    "n_action_steps": 4,
    "dim_model": 16,
    "n_heads": 4,
    "dim_feedforward": 24,
    "feedforward_activation": "relu",
    "n_encoder_layers": 2,
    "n_decoder_layers": 1,
    "pre_norm": False,
    "use_vae": True,
    "latent_dim": 4,
    "n_vae_encoder_layers": 1,
    "dropout": 0.1,
    "kl_weight": 7.0,
    "normalization_mapping": {"VISUAL": "MEAN_STD", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"},
}
DIFFUSION = {
    "type": "diffusion",
    "n_obs_steps": 2,
    "horizon": 8,
    "n_action_steps": 5,
    "down_dims": [16, 24],
    "kernel_size": 5,
    "n_groups": 8,
    "diffusion_step_embed_dim": 12,
    "use_film_scale_modulation": True,
    "noise_scheduler_type": "DDPM",
    "num_train_timesteps": 40,
    "num_inference_steps": 5,
    "beta_schedule": "squaredcos_cap_v2",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "prediction_type": "epsilon",
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "do_mask_loss_for_padding": False,
    "normalization_mapping": {"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"},
}
SINCE = {
    "0.3": {},
    "0.4": {},
    "0.5": {"use_peft": False, "pretrained_path": None},
    "0.6": {"use_peft": False, "pretrained_path": None, "pretrained_revision": None},
}


def config(base, version="0.6", *, env=ENV, action=3, **changes):
    features = {"observation.state": {"type": "STATE", "shape": [STATE]}}
    if env:
        # First in the file; the network still sees the state first.
        features = {"observation.environment_state": {"type": "ENV", "shape": [env]}, **features}
    outputs = {"action": {"type": "ACTION", "shape": [action]}}
    return {**base, "input_features": features, "output_features": outputs, **SINCE[version], **changes}


def widths(c):
    env = c["input_features"].get("observation.environment_state", {"shape": [0]})["shape"][0]
    return STATE, env, c["output_features"]["action"]["shape"][0]


# Tensors


def tensors(c, seed=0):
    """Random tensors of every name the configuration calls for."""
    generator = torch.Generator().manual_seed(seed)
    shapes = act_shapes(c) if c["type"] == "act" else diffusion_shapes(c)
    found = {}
    for name, shape in shapes.items():
        spread = 0.4 if len(shape) < 2 else 1.2 / math.sqrt(math.prod(shape[1:]))
        shift = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        found[name] = shift + spread * torch.randn(shape, generator=generator)
    return found


def linear(name, out, inputs):
    return {f"{name}.weight": (out, inputs), f"{name}.bias": (out,)}


def act_shapes(c):
    D, ff, latent = c["dim_model"], c["dim_feedforward"], c["latent_dim"]
    state, env, action = widths(c)

    def attention(name):
        packed = {f"{name}.in_proj_weight": (3 * D, D), f"{name}.in_proj_bias": (3 * D,)}
        return packed | linear(f"{name}.out_proj", D, D)

    def norm(name):
        return {f"{name}.weight": (D,), f"{name}.bias": (D,)}

    def layers(stack, count, cross=False):
        found = {}
        for i in range(count):
            at = f"{stack}.layers.{i}"
            found |= attention(f"{at}.self_attn") | linear(f"{at}.linear1", ff, D) | linear(f"{at}.linear2", D, ff)
            found |= norm(f"{at}.norm1") | norm(f"{at}.norm2")
            if cross:
                found |= attention(f"{at}.multihead_attn") | norm(f"{at}.norm3")
        return found | (norm(f"{stack}.norm") if cross or c["pre_norm"] else {})

    found = layers("encoder", c["n_encoder_layers"]) | layers("decoder", c["n_decoder_layers"], cross=True)
    found |= linear("encoder_robot_state_input_proj", D, state) | linear("encoder_latent_input_proj", D, latent)
    found |= linear("encoder_env_state_input_proj", D, env) if env else {}
    found |= {
        "encoder_1d_feature_pos_embed.weight": (2 + bool(env), D),
        "decoder_pos_embed.weight": (c["chunk_size"], D),
    }
    found |= linear("action_head", action, D)
    if c["use_vae"]:
        found |= layers("vae_encoder", c["n_vae_encoder_layers"]) | {"vae_encoder_cls_embed.weight": (1, D)}
        found |= linear("vae_encoder_robot_state_input_proj", D, state)
        found |= linear("vae_encoder_action_input_proj", D, action)
        found |= linear("vae_encoder_latent_output_proj", 2 * latent, D)
    return {f"model.{name}": shape for name, shape in found.items()}


def diffusion_shapes(c):
    step, kernel, dims = c["diffusion_step_embed_dim"], c["kernel_size"], c["down_dims"]
    state, env, action = widths(c)
    condition = step + c["n_obs_steps"] * (state + env)

    def conv(name, inputs, out, kernel):
        return {f"{name}.weight": (out, inputs, kernel), f"{name}.bias": (out,)}

    def block(name, inputs, out):
        return conv(f"{name}.0", inputs, out, kernel) | {f"{name}.1.weight": (out,), f"{name}.1.bias": (out,)}

    def residual(name, inputs, out):
        found = block(f"{name}.conv1.block", inputs, out) | block(f"{name}.conv2.block", out, out)
        found |= linear(f"{name}.cond_encoder.1", out * (2 if c["use_film_scale_modulation"] else 1), condition)
        return found | (conv(f"{name}.residual_conv", inputs, out, 1) if inputs != out else {})

    found = linear("diffusion_step_encoder.1", 4 * step, step) | linear("diffusion_step_encoder.3", step, 4 * step)
    for i, (inputs, out) in enumerate(zip([action, *dims], dims, strict=False)):
        found |= residual(f"down_modules.{i}.0", inputs, out) | residual(f"down_modules.{i}.1", out, out)
        found |= conv(f"down_modules.{i}.2", out, out, 3) if i < len(dims) - 1 else {}
    found |= residual("mid_modules.0", dims[-1], dims[-1]) | residual("mid_modules.1", dims[-1], dims[-1])
    for i, (wide, narrow) in enumerate(zip(dims[:0:-1], dims[-2::-1], strict=True)):
        found |= residual(f"up_modules.{i}.0", 2 * wide, narrow) | residual(f"up_modules.{i}.1", narrow, narrow)
        found |= conv(f"up_modules.{i}.2", narrow, narrow, 4)
    found |= block("final_conv.0.block", dims[0], dims[0]) | conv("final_conv.1", dims[0], action, 1)
    return {f"diffusion.unet.{name}": shape for name, shape in found.items()}


# Statistics


def statistics(c, seed=1):
    """Random statistics of every feature; the state's channel 1 is constant."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    state, env, action = widths(c)
    sizes = {"observation.state": state, "observation.environment_state": env, "action": action, "timestamp": 1}
    for name, width in sizes.items():
        low = torch.randn(width, generator=generator)
        span = 0.5 + torch.rand(width, generator=generator)
        std = 0.3 + torch.rand(width, generator=generator)
        if name == "observation.state":
            span[1], std[1] = 0.0, 0.0
        levels = {"min": 0.0, "q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99, "max": 1.0}
        found[name] = {key: low + level * span for key, level in levels.items()}
        found[name] |= {"mean": low + span / 2, "std": std, "count": torch.ones(1)}
    return found


# Folders


def write(folder, c, weights, stats, *, legacy=False, rename=None):
    """The folder LeRobot would have written."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(c))
    if legacy:
        weights = {**weights, **buffers(c, stats)}
    else:
        processors(folder, c, stats, rename or {})
    save_file(weights, folder / "model.safetensors")
    return folder


def buffers(c, stats):
    """Statistics among the weights, as up to 0.3.3."""
    found = {}
    for group, name, kind in (
        ("normalize_inputs", "observation.state", "STATE"),
        ("normalize_targets", "action", "ACTION"),
        ("unnormalize_outputs", "action", "ACTION"),
    ):
        keys = {"MEAN_STD": ("mean", "std"), "MIN_MAX": ("min", "max")}[c["normalization_mapping"][kind]]
        for key in keys:
            found[f"{group}.buffer_{name.replace('.', '_')}.{key}"] = stats[name][key].clone()
    return found


def processors(folder, c, stats, rename):
    """The two lists of steps, each with its state."""
    flat = {f"{name}.{key}": value.clone() for name, by in stats.items() for key, value in by.items() if value.numel()}
    outputs = c["output_features"]
    device = {"registry_name": "device_processor", "config": {"device": "cuda", "float_dtype": None}}
    before = [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": rename}},
        {"registry_name": "to_batch_processor", "config": {}},
        device,
    ]
    for name, step, first, shown, after in (
        ("policy_preprocessor", "normalizer_processor", before, {**c["input_features"], **outputs}, []),
        ("policy_postprocessor", "unnormalizer_processor", [], outputs, [device]),
    ):
        file = f"{name}_step_{len(first)}_{step}.safetensors"
        condition = {"eps": 1e-8, "features": shown, "norm_map": c["normalization_mapping"]}
        steps = [*first, {"registry_name": step, "config": condition, "state_file": file}, *after]
        (folder / f"{name}.json").write_text(json.dumps({"name": name, "steps": steps}))
        save_file(flat, folder / file)
