"""Options and releases the recorded cases do not cover: random checkpoints against plain functions of their tensors."""

import pytest
import torch
from tests.interop.lerobot_folders import ACT, DIFFUSION, config, statistics, tensors, widths, write
from tests.interop.oracle_lerobot import ActOracle, DiffusionOracle, scaled, sines, unscaled

from nextmove.contracts import total
from nextmove.interop.lerobot import load

B = 3
MODES = {"STATE": "QUANTILES", "ACTION": "QUANTILE10"}


def observed(c, steps, seed=2):
    generator = torch.Generator().manual_seed(seed)
    state, env, _ = widths(c)
    raw = {"observation.state": torch.randn(B, steps, state, generator=generator)}
    # The constant channel at its value, as data have it; 1e-8 would magnify anything else.
    raw["observation.state"][..., 1] = statistics(c)["observation.state"]["min"][1]
    if env:
        raw["observation.environment_state"] = torch.randn(B, steps, env, generator=generator)
    return raw


def shown(c, raw, stats, legacy=False):
    """What the networks see: the state scaled, the environment by its type's mode."""
    modes, seen = c["normalization_mapping"], []
    for name, kind in (("observation.state", "STATE"), ("observation.environment_state", "ENV")):
        if name in raw:
            seen.append(scaled(raw[name], modes.get(kind, "IDENTITY"), stats[name], legacy))
    return seen


def targets(c, horizon, seed=3):
    generator = torch.Generator().manual_seed(seed)
    action = torch.randn(B, horizon, widths(c)[2], generator=generator)
    pad = torch.zeros(B, horizon, dtype=torch.bool)
    pad[0, -1], pad[2, horizon // 2 :] = True, True
    return action, pad, generator


def same_gradients(loaded, found, weights, expected):
    """Every parameter's gradient, by the file's names."""
    own = dict(loaded.policy.named_parameters())
    names = [name for name in weights if loaded.names.get(name) in own]
    grads = torch.autograd.grad(expected, [weights[name] for name in names], allow_unused=True)
    ours = torch.autograd.grad(found, [own[loaded.names[name]] for name in names], allow_unused=True)
    assert len(names) == len(own)
    given = [(name, x, y) for name, x, y in zip(names, grads, ours, strict=True) if x is not None]
    assert len(given) > 0.8 * len(own)
    for name, grad, other in given:
        torch.testing.assert_close(other, grad, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def watched(weights):
    """The same tensors, of which gradients are taken."""
    return {name: value.clone().requires_grad_(value.is_floating_point()) for name, value in weights.items()}


ACTS = {
    "pre_norm": ({"pre_norm": True, "feedforward_activation": "gelu", "n_decoder_layers": 2}, "0.6"),
    "no_vae": ({"use_vae": False}, "0.6"),
    "no_vae_0.4": ({"use_vae": False}, "0.4"),
    "no_env": ({"env": 0, "n_decoder_layers": 3}, "0.6"),
    "0.5": ({}, "0.5"),
    "0.4": ({"chunk_size": 3, "n_action_steps": 3}, "0.4"),
    "quantiles": ({"normalization_mapping": MODES}, "0.6"),
    "identity": ({"normalization_mapping": {"STATE": "IDENTITY", "ENV": "MEAN_STD"}}, "0.6"),
    "legacy": ({"normalization_mapping": {"STATE": "MIN_MAX", "ACTION": "MIN_MAX"}}, "0.3"),
    "legacy_pre_norm": ({"pre_norm": True}, "0.3"),
}


@pytest.mark.parametrize("name", ACTS)
def test_act(name, tmp_path):
    changes, version = ACTS[name]
    c, legacy = config(ACT, version, **changes), version == "0.3"
    c["normalization_mapping"] = {"ACTION": "IDENTITY", **c["normalization_mapping"]}
    weights, stats = tensors(c), statistics(c)
    loaded = load(write(tmp_path / "act", c, weights, stats, legacy=legacy))
    raw = observed(c, 1)
    state, env = [part[:, 0] for part in [*shown(c, raw, stats, legacy), torch.zeros(B, 1, 0)]][:2]
    env = None if "observation.environment_state" not in raw else env
    weights = watched(weights)
    oracle, mode = ActOracle(c, weights), c["normalization_mapping"]["ACTION"]
    x = loaded.predict(loaded.preprocess(raw))
    torch.testing.assert_close(x, oracle(state, env).detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(loaded.postprocess(x), unscaled(x, mode, stats["action"]), rtol=1e-5, atol=1e-5)
    action, pad, generator = targets(c, c["chunk_size"])
    eps = torch.randn(B, c["latent_dim"], generator=generator)
    goal = scaled(action, mode, stats["action"], legacy)
    expected, l1 = oracle.loss(state, env, goal, pad, eps, version == "0.6")
    draws = {"eps": eps} if c["use_vae"] else {}
    terms = loaded.loss_at({**raw, "action": action, "action_is_pad": pad}, **draws)
    torch.testing.assert_close(total(terms), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(terms["l1"], l1, rtol=1e-5, atol=0)
    same_gradients(loaded, total(terms), weights, expected)
    plan = loaded.act(raw, rng=torch.Generator()).actions
    torch.testing.assert_close(plan, loaded.postprocess(x), rtol=0, atol=0)


DIFFUSIONS = {
    "sample": ({"prediction_type": "sample"}, "0.6"),
    "ddim": ({"noise_scheduler_type": "DDIM", "num_inference_steps": 7}, "0.6"),
    "ddim_sample": ({"noise_scheduler_type": "DDIM", "prediction_type": "sample", "clip_sample_range": 0.5}, "0.6"),
    "all_steps": ({"num_inference_steps": None, "num_train_timesteps": 9, "beta_schedule": "linear"}, "0.6"),
    "unclipped": ({"clip_sample": False, "beta_schedule": "linear", "beta_end": 0.1}, "0.6"),
    "shift_only": ({"use_film_scale_modulation": False, "down_dims": [8, 16, 16], "n_groups": 4}, "0.6"),
    "kernel": ({"kernel_size": 3, "n_groups": 2, "down_dims": [8], "horizon": 6}, "0.6"),
    "long": ({"n_obs_steps": 3, "horizon": 16, "n_action_steps": 14}, "0.6"),
    "one_step": ({"n_obs_steps": 1, "env": 0, "action": 1}, "0.6"),
    "masked": ({"do_mask_loss_for_padding": True}, "0.6"),
    "masked_0.5": ({"do_mask_loss_for_padding": True}, "0.5"),
    "masked_legacy": ({"do_mask_loss_for_padding": True, "noise_scheduler_type": "DDIM"}, "0.3"),
    "mean_std": ({"normalization_mapping": {"STATE": "MEAN_STD", "ACTION": "MEAN_STD", "ENV": "MIN_MAX"}}, "0.4"),
    "quantiles": ({"normalization_mapping": MODES}, "0.6"),
}


@pytest.mark.parametrize("name", DIFFUSIONS)
def test_diffusion(name, tmp_path):
    changes, version = DIFFUSIONS[name]
    c, legacy = config(DIFFUSION, version, **changes), version == "0.3"
    weights, stats = tensors(c), statistics(c)
    loaded = load(write(tmp_path / "diffusion", c, weights, stats, legacy=legacy))
    raw = observed(c, c["n_obs_steps"])
    condition = torch.cat(shown(c, raw, stats, legacy), -1).flatten(1)
    weights = watched(weights)
    oracle, mode = DiffusionOracle(c, weights), c["normalization_mapping"]["ACTION"]
    ctx = loaded.preprocess(raw)
    torch.testing.assert_close(ctx.vector, condition, rtol=0, atol=1e-5)
    action, pad, generator = targets(c, c["horizon"])
    noise = torch.randn(action.shape, generator=generator)
    steps = (c["num_inference_steps"] or c["num_train_timesteps"]) - 1
    more = torch.randn(steps, *action.shape, generator=generator)
    x, expected = loaded.predict(ctx, noise=noise, step_noise=more), oracle.sample(condition, noise, more).detach()
    torch.testing.assert_close(x, expected, rtol=1e-5, atol=2e-5)
    first = c["n_obs_steps"] - 1
    torch.testing.assert_close(loaded.executed(x), x[:, first : first + c["n_action_steps"]], rtol=0, atol=0)
    torch.testing.assert_close(loaded.postprocess(x), unscaled(x, mode, stats["action"]), rtol=1e-5, atol=1e-5)
    index = torch.tensor([0, 5, c["num_train_timesteps"] - 1])
    goal = scaled(action, mode, stats["action"], legacy)
    want = oracle.loss(condition, goal, noise, index, pad, version == "0.6")
    t = 1 - (index + 1) / c["num_train_timesteps"]
    found = total(loaded.loss_at({**raw, "action": action, "action_is_pad": pad}, t=t, noise=noise))
    torch.testing.assert_close(found, want, rtol=1e-5, atol=0)
    same_gradients(loaded, found, weights, want)


def test_compiled_names_and_stored_tables_change_nothing(tmp_path):
    c = config(DIFFUSION)
    weights, stats = tensors(c), statistics(c)
    compiled = {name.replace("unet.", "unet._orig_mod."): value for name, value in weights.items()}
    folders = [write(tmp_path / name, c, w, stats) for name, w in (("a", weights), ("b", compiled))]
    one, other = (load(folder) for folder in folders)
    for name, value in one.policy.state_dict().items():
        assert torch.equal(value, other.policy.state_dict()[name])
    assert "_orig_mod" in str(other.report)
    c = config(ACT)
    weights = tensors(c)
    stored = {**weights, "model.vae_encoder_pos_enc": sines(c["chunk_size"] + 2, c["dim_model"])[None]}
    computed, accepted = (load(write(tmp_path / n, c, w, stats)) for n, w in (("c", weights), ("d", stored)))
    assert "model.vae_encoder_pos_enc" in computed.report.computed
    assert "model.vae_encoder_pos_enc" in accepted.report.ignored
    stored["model.vae_encoder_pos_enc"] = stored["model.vae_encoder_pos_enc"] + 0.1
    with pytest.raises(ValueError, match="vae_encoder_pos_enc"):
        load(write(tmp_path / "e", c, stored, stats))


def test_renamed_observations(tmp_path):
    c = config(DIFFUSION)
    weights, stats = tensors(c), statistics(c)
    plain = load(write(tmp_path / "plain", c, weights, stats))
    rename = {"observation.robot": "observation.state"}
    renamed = load(write(tmp_path / "renamed", c, weights, stats, rename=rename))
    raw = observed(c, c["n_obs_steps"])
    other = {"observation.robot": raw["observation.state"], **{n: v for n, v in raw.items() if "env" in n}}
    assert torch.equal(plain.preprocess(raw).vector, renamed.preprocess(other).vector)
    assert "observation.robot" in renamed.policy.features
    assert renamed.policy.encoder.inputs == renamed.policy.spec.inputs


@pytest.mark.parametrize("family", ["act", "diffusion"])
def test_every_tensor_is_in_the_policy(family, tmp_path):
    c = config(ACT if family == "act" else DIFFUSION)
    weights, stats = tensors(c), statistics(c)
    folder = write(tmp_path / "x", c, weights, stats)
    loaded = load(folder)
    assert set(loaded.names) == set(weights)
    for name, value in weights.items():
        assert torch.equal(loaded.policy.state_dict()[loaded.names[name]], value), name
