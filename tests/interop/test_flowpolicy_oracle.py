"""FlowPolicy with options the recorded case does not have, against plain functions of its tensors.

Shapes: B batch, T observation steps, H horizon, A action width.
"""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tests.interop.lerobot_folders import diffusion_shapes
from tests.interop.oracle_lerobot import DiffusionOracle

from nextmove.contracts import total
from nextmove.interop.flowpolicy import load

SMALL = {
    "point_count": 10,
    "use_pc_color": False,
    "agent_pos_dim": 4,
    "action_dim": 3,
    "horizon": 4,
    "n_obs_steps": 2,
    "n_action_steps": 4,
    "encoder_output_dim": 8,
    "diffusion_step_embed_dim": 12,
    "down_dims": [8, 16],
    "kernel_size": 5,
    "n_groups": 4,
    "eps": 0.01,
    "num_segments": 2,
    "boundary": 1,
    "delta": 0.01,
    "alpha": 1e-5,
    "num_inference_step": 1,
}
B = 6


def unet_config(c):
    """The same U-Net as LeRobot's, whose oracle serves here under translated names."""
    features = {"observation.state": {"shape": [0]}, "observation.environment_state": {"shape": [0]}}
    condition = {name: c[name] for name in ("diffusion_step_embed_dim", "down_dims", "kernel_size", "n_groups")}
    table = {"num_train_timesteps": 2, "beta_schedule": "linear", "beta_start": 0.1, "beta_end": 0.2}
    out = {"output_features": {"action": {"shape": [c["action_dim"]]}}, "use_film_scale_modulation": True}
    return {**condition, **table, **out, "input_features": features, "n_obs_steps": 0}


def theirs(name):
    """FlowPolicy's name of a tensor of LeRobot's U-Net."""
    name = name.replace("diffusion.unet", "model")
    name = name.replace("conv1.block", "blocks.0.block").replace("conv2.block", "blocks.1.block")
    head, _, tail = name.rpartition(".")
    resample = head.split(".")[1] in ("down_modules", "up_modules") and head.count(".") == 3
    return f"{head}.conv.{tail}" if resample else name


def make(folder, c, seed=0):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(c))
    generator = torch.Generator().manual_seed(seed)
    channels = 6 if c["use_pc_color"] else 3
    sizes = [channels, 64, 128, 256, *([512] if c["use_pc_color"] else [])]
    found, shapes = {}, {}
    condition = c["n_obs_steps"] * (c["encoder_output_dim"] + 64)
    for name, shape in diffusion_shapes(unet_config(c)).items():
        wide = name.endswith("cond_encoder.1.weight")
        shapes[theirs(name)] = (shape[0], shape[1] + condition) if wide else shape
    layers = {f"extractor.mlp.{3 * i}": pair for i, pair in enumerate(zip(sizes[1:], sizes, strict=False))}
    layers |= {"extractor.final_projection.0": (c["encoder_output_dim"], sizes[-1])}
    layers |= {"state_mlp.0": (64, c["agent_pos_dim"]), "state_mlp.2": (64, 64)}
    norms = {f"extractor.mlp.{3 * i + 1}": sizes[i + 1] for i in range(3)}
    norms |= {"extractor.final_projection.1": c["encoder_output_dim"]}
    for name, (out, inputs) in layers.items():
        shapes |= {f"obs_encoder.{name}.weight": (out, inputs), f"obs_encoder.{name}.bias": (out,)}
    for name, width in norms.items():
        shapes |= {f"obs_encoder.{name}.weight": (width,), f"obs_encoder.{name}.bias": (width,)}
    for name, shape in shapes.items():
        spread = 0.3 if len(shape) < 2 else 1.0 / math.sqrt(math.prod(shape[1:]))
        found[name] = spread * torch.randn(shape, generator=generator)
    widths = {"action": c["action_dim"], "agent_pos": c["agent_pos_dim"], "point_cloud": channels}
    for name, width in widths.items():
        at = f"normalizer.params_dict.{name}"
        found[f"{at}.scale"] = 0.5 + torch.rand(width, generator=generator)
        found[f"{at}.offset"] = torch.randn(width, generator=generator)
        found[f"{at}.input_stats.min"] = torch.zeros(width)
    found |= {"model.var_est.0.weight": torch.ones(512, c["action_dim"]), "_dummy_variable": torch.zeros(1)}
    save_file(found, folder / "model.safetensors")
    return folder, found


class Oracle:
    """Encoder, sampler and loss as their definitions."""

    def __init__(self, c, w):
        self.c, self.w = c, w
        names = {f"diffusion.unet.{n}": theirs(f"diffusion.unet.{n}") for n in self._unet_names()}
        self.unet = DiffusionOracle(unet_config(c), {ours: w[name] for ours, name in names.items()})

    def _unet_names(self):
        return [name.removeprefix("diffusion.unet.") for name in diffusion_shapes(unet_config(self.c))]

    def linear(self, name, x):
        return x @ self.w[f"obs_encoder.{name}.weight"].T + self.w[f"obs_encoder.{name}.bias"]

    def norm(self, name, x):
        at = f"obs_encoder.{name}"
        return F.layer_norm(x, x.shape[-1:], self.w[f"{at}.weight"], self.w[f"{at}.bias"])

    def scale(self, name, x):
        at = f"normalizer.params_dict.{name}"
        return x * self.w[f"{at}.scale"] + self.w[f"{at}.offset"]

    def condition(self, points, state):
        steps = []
        for i in range(self.c["n_obs_steps"]):
            h = self.scale("point_cloud", points[:, i, :, : 6 if self.c["use_pc_color"] else 3])
            for layer in range(3):
                h = F.relu(self.norm(f"extractor.mlp.{3 * layer + 1}", self.linear(f"extractor.mlp.{3 * layer}", h)))
            h = self.linear("extractor.mlp.9", h) if self.c["use_pc_color"] else h
            h = self.linear("extractor.final_projection.0", h.max(1).values)
            s = self.linear("state_mlp.2", F.relu(self.linear("state_mlp.0", self.scale("agent_pos", state[:, i]))))
            steps += [self.norm("extractor.final_projection.1", h), s]
        return torch.cat(steps, 1)

    def velocity(self, x, t, condition):
        return self.unet.net(x, t * 99, condition)

    def sample(self, condition, z):
        n, eps = self.c["num_inference_step"], self.c["eps"]
        for i in range(n):
            z = z + self.velocity(z, torch.full((len(z),), i / n * (1 - eps) + eps), condition) / n
        return z

    def loss(self, condition, x, a0, t):
        c, each = self.c, []
        r = (t + c["delta"]).clamp(max=1)
        v_t = self.velocity(t.view(-1, 1, 1) * x + (1 - t).view(-1, 1, 1) * a0, t, condition)
        v_r = self.velocity(r.view(-1, 1, 1) * x + (1 - r).view(-1, 1, 1) * a0, r, condition)
        for b in range(len(t)):
            edges = [(k + 1) / c["num_segments"] for k in range(c["num_segments"])]
            e = next(edge for edge in edges if edge >= float(t[b]))
            f_t = t[b] * x[b] + (1 - t[b]) * a0[b] + (e - t[b]) * v_t[b]
            if r[b] < c["boundary"]:
                f_r = r[b] * x[b] + (1 - r[b]) * a0[b] + (e - r[b]) * v_r[b]
            else:
                f_r = e * x[b] + (1 - e) * a0[b]
            apart = ((f_t - f_r) ** 2).mean()
            near = t[b] < c["boundary"] and e - t[b] > 1.01 * c["delta"]
            each.append(apart + (c["alpha"] * ((v_t[b] - v_r[b]) ** 2).mean() if near else 0.0))
        return torch.stack(each).mean()


OPTIONS = {
    "plain": {},
    "colour": {"use_pc_color": True},
    "steps": {"num_inference_step": 3, "num_segments": 3, "alpha": 0.1},
    "boundary": {"boundary": 0.6, "delta": 0.05, "alpha": 0.1},
    "long": {"horizon": 8, "n_obs_steps": 3, "n_action_steps": 4, "down_dims": [8, 8, 16], "kernel_size": 3},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name, tmp_path):
    c = {**SMALL, **OPTIONS[name]}
    folder, weights = make(tmp_path / "flow", c)
    loaded, oracle, generator = load(folder), Oracle(c, weights), torch.Generator().manual_seed(1)
    steps, shape = c["n_obs_steps"], (B, c["horizon"], c["action_dim"])
    # Colours are there in every case, used or not.
    points = torch.randn(B, steps, c["point_count"], 6, generator=generator)
    state = torch.randn(B, steps, c["agent_pos_dim"], generator=generator)
    action, noise = (torch.randn(shape, generator=generator) for _ in range(2))
    raw = {"point_cloud": points, "agent_pos": state}
    condition, ctx = oracle.condition(points, state), loaded.preprocess(raw)
    torch.testing.assert_close(ctx.vector, condition, rtol=1e-4, atol=1e-5)
    x = loaded.predict(ctx, noise=noise)
    torch.testing.assert_close(x, oracle.sample(condition, noise), rtol=1e-4, atol=2e-5)
    at = "normalizer.params_dict.action"
    torch.testing.assert_close(loaded.postprocess(x), (x - weights[f"{at}.offset"]) / weights[f"{at}.scale"])
    executed = x[:, steps - 1 : steps - 1 + c["n_action_steps"]]
    assert torch.equal(loaded.executed(x), executed)
    t = torch.tensor([0.01, 0.3, 0.495, 0.5, 0.7, 0.995])
    found = total(loaded.loss_at({**raw, "action": action}, t=t, noise=noise))
    torch.testing.assert_close(
        found, oracle.loss(condition, oracle.scale("action", action), noise, t), rtol=1e-3, atol=0
    )


def test_tensors_without_use_are_named_with_the_reason(tmp_path):
    folder, weights = make(tmp_path / "flow", SMALL)
    report = load(folder).report
    assert {*report.used, *report.ignored} == set(weights)
    assert "model.var_est.0.weight" in report.ignored
    assert "model.var_est.0.weight" in str(report)


def test_strict(tmp_path):
    folder, weights = make(tmp_path / "flow", SMALL)
    for change, words in (
        ({"model.extra": torch.zeros(1)}, "model.extra"),
        ({"normalizer.params_dict.action.scale": None}, "missing.*action.scale"),
        ({"obs_encoder.state_mlp.0.bias": torch.zeros(3)}, "state_mlp.0.bias.*expected shape"),
    ):
        changed = {name: value for name, value in {**weights, **change}.items() if value is not None}
        save_file(changed, folder / "model.safetensors")
        with pytest.raises(ValueError, match=words):
            load(folder)
    save_file(weights, folder / "model.safetensors")
    assert load_file(folder / "model.safetensors").keys() == weights.keys()
    (folder / "config.json").write_text(json.dumps({**SMALL, "num_segment": 2}))
    with pytest.raises(ValueError, match=r"num_segment.*num_segments"):
        load(folder)
