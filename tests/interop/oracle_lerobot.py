"""LeRobot's two state policies as plain functions of a checkpoint's tensors, under the checkpoint's own names.

Written from the published definitions, with nothing of the package. Shapes: B batch, H horizon, A action width.
"""

import math

import torch
import torch.nn.functional as F

PAIRS = {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "QUANTILE10": ("q10", "q90")}


def scaled(x, mode, stats, legacy=False):
    if mode == "IDENTITY":
        return x
    if mode == "MEAN_STD":
        return (x - stats["mean"]) / (stats["std"] + 1e-8)
    low, high = (stats[key] for key in PAIRS[mode])
    if legacy:
        return (x - low) / (high - low + 1e-8) * 2 - 1
    span = torch.where(high == low, torch.tensor(1e-8), high - low)
    return 2 * (x - low) / span - 1


def unscaled(x, mode, stats):
    if mode == "IDENTITY":
        return x
    if mode == "MEAN_STD":
        return x * stats["std"] + stats["mean"]
    low, high = (stats[key] for key in PAIRS[mode])
    return (x + 1) / 2 * (high - low) + low


# ACT


def sines(length, width):
    rows = [[p / 10000 ** (2 * (j // 2) / width) for j in range(width)] for p in range(length)]
    return torch.tensor([[math.cos(a) if j % 2 else math.sin(a) for j, a in enumerate(row)] for row in rows])


class ActOracle:
    """Section by section: posterior, encoder, decoder."""

    def __init__(self, c, weights):
        self.c, self.w = c, {name.removeprefix("model."): value for name, value in weights.items()}

    def linear(self, name, x):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def attention(self, name, query, key, value, hidden=None):
        D, heads = self.c["dim_model"], self.c["n_heads"]
        parts = []
        for i, x in enumerate((query, key, value)):
            weight, bias = self.w[f"{name}.in_proj_weight"], self.w[f"{name}.in_proj_bias"]
            y = x @ weight[i * D : (i + 1) * D].T + bias[i * D : (i + 1) * D]
            parts.append(y.reshape(*y.shape[:2], heads, D // heads).transpose(1, 2))
        q, k, v = parts
        scores = q @ k.transpose(2, 3) / math.sqrt(D // heads)
        if hidden is not None:
            scores = scores.masked_fill(hidden[:, None, None], -math.inf)
        return self.linear(f"{name}.out_proj", (scores.softmax(-1) @ v).transpose(1, 2).flatten(2))

    def forward_part(self, at, x):
        act = {"relu": F.relu, "gelu": F.gelu}[self.c["feedforward_activation"]]
        return self.linear(f"{at}.linear2", act(self.linear(f"{at}.linear1", x)))

    def encoder(self, stack, count, x, position, hidden=None):
        pre = self.c["pre_norm"]
        for i in range(count):
            at = f"{stack}.layers.{i}"
            h = self.norm(f"{at}.norm1", x) if pre else x
            x = x + self.attention(f"{at}.self_attn", h + position, h + position, h, hidden)
            x = x if pre else self.norm(f"{at}.norm1", x)
            x = x + self.forward_part(at, self.norm(f"{at}.norm2", x) if pre else x)
            x = x if pre else self.norm(f"{at}.norm2", x)
        return self.norm(f"{stack}.norm", x) if pre else x

    def posterior(self, state, actions, pad):
        cls = self.w["vae_encoder_cls_embed.weight"].expand(len(state), 1, -1)
        robot = self.linear("vae_encoder_robot_state_input_proj", state)[:, None]
        tokens = torch.cat([cls, robot, self.linear("vae_encoder_action_input_proj", actions)], 1)
        hidden = torch.cat([torch.zeros(len(pad), 2, dtype=torch.bool), pad], 1)
        position = sines(tokens.shape[1], self.c["dim_model"])
        out = self.encoder("vae_encoder", self.c["n_vae_encoder_layers"], tokens, position, hidden)
        return self.linear("vae_encoder_latent_output_proj", out[:, 0]).chunk(2, -1)

    def __call__(self, state, env, z=None):
        z = torch.zeros(len(state), self.c["latent_dim"]) if z is None else z
        condition = [self.linear("encoder_latent_input_proj", z), self.linear("encoder_robot_state_input_proj", state)]
        condition += [self.linear("encoder_env_state_input_proj", env)] if env is not None else []
        position = self.w["encoder_1d_feature_pos_embed.weight"]
        memory = self.encoder("encoder", self.c["n_encoder_layers"], torch.stack(condition, 1), position)
        asks, pre = self.w["decoder_pos_embed.weight"], self.c["pre_norm"]
        x = torch.zeros(len(state), *asks.shape)
        for i in range(self.c["n_decoder_layers"]):
            at = f"decoder.layers.{i}"
            h = self.norm(f"{at}.norm1", x) if pre else x
            x = x + self.attention(f"{at}.self_attn", h + asks, h + asks, h)
            x = x if pre else self.norm(f"{at}.norm1", x)
            h = self.norm(f"{at}.norm2", x) if pre else x
            x = x + self.attention(f"{at}.multihead_attn", h + asks, memory + position, memory)
            x = x if pre else self.norm(f"{at}.norm2", x)
            x = x + self.forward_part(at, self.norm(f"{at}.norm3", x) if pre else x)
            x = x if pre else self.norm(f"{at}.norm3", x)
        return self.linear("action_head", self.norm("decoder.norm", x))

    def loss(self, state, env, actions, pad, eps, valid_only):
        """Sum of the terms and the L1 alone."""
        z, divergence = None, 0.0
        if self.c["use_vae"]:
            mean, logvar = self.posterior(state, actions, pad)
            z = mean + torch.exp(logvar / 2) * eps
            divergence = (-0.5 * (1 + logvar - mean**2 - logvar.exp())).sum(-1).mean()
        error = (actions - self(state, env, z)).abs() * ~pad[..., None]
        count = (~pad).sum() * actions.shape[2] if valid_only else error.numel()
        return error.sum() / count + self.c["kl_weight"] * divergence, error.sum() / count


# Diffusion


class DiffusionOracle:
    """U-Net, table, both samplers and the loss."""

    def __init__(self, c, weights):
        self.c, self.w = c, {n.removeprefix("diffusion.unet."): value for n, value in weights.items()}
        T = c["num_train_timesteps"]
        if c["beta_schedule"] == "linear":
            betas = torch.linspace(c["beta_start"], c["beta_end"], T)
        else:
            f = [math.cos((i / T + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(T + 1)]
            betas = torch.tensor([min(1 - f[i + 1] / f[i], 0.999) for i in range(T)])
        self.bar = torch.cumprod(1 - betas, 0)

    def linear(self, name, x):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def block(self, name, x, groups):
        weight = self.w[f"{name}.0.weight"]
        x = F.conv1d(x, weight, self.w[f"{name}.0.bias"], padding=weight.shape[2] // 2)
        return F.mish(F.group_norm(x, groups, self.w[f"{name}.1.weight"], self.w[f"{name}.1.bias"]))

    def residual(self, name, x, condition):
        film = self.linear(f"{name}.cond_encoder.1", F.mish(condition))[..., None]
        h = self.block(f"{name}.conv1.block", x, self.c["n_groups"])
        if self.c["use_film_scale_modulation"]:
            half = film.shape[1] // 2
            h = film[:, :half] * h + film[:, half:]
        else:
            h = h + film
        h = self.block(f"{name}.conv2.block", h, self.c["n_groups"])
        if f"{name}.residual_conv.weight" in self.w:
            x = F.conv1d(x, self.w[f"{name}.residual_conv.weight"], self.w[f"{name}.residual_conv.bias"])
        return h + x

    def net(self, x, steps, condition):
        """x (B, H, A), integer steps (B,)."""
        half = self.c["diffusion_step_embed_dim"] // 2
        angle = steps[:, None] * torch.tensor([10000 ** (-i / (half - 1)) for i in range(half)])
        time = F.mish(self.linear("diffusion_step_encoder.1", torch.cat([angle.sin(), angle.cos()], 1)))
        condition = torch.cat([self.linear("diffusion_step_encoder.3", time), condition], 1)
        x, skips, levels = x.transpose(1, 2), [], len(self.c["down_dims"])
        for i in range(levels):
            x = self.residual(f"down_modules.{i}.1", self.residual(f"down_modules.{i}.0", x, condition), condition)
            skips.append(x)
            if i < levels - 1:
                weight, bias = self.w[f"down_modules.{i}.2.weight"], self.w[f"down_modules.{i}.2.bias"]
                x = F.conv1d(x, weight, bias, stride=2, padding=1)
        x = self.residual("mid_modules.1", self.residual("mid_modules.0", x, condition), condition)
        for i in range(levels - 1):
            x = torch.cat([x, skips[levels - 1 - i]], 1)
            x = self.residual(f"up_modules.{i}.1", self.residual(f"up_modules.{i}.0", x, condition), condition)
            weight, bias = self.w[f"up_modules.{i}.2.weight"], self.w[f"up_modules.{i}.2.bias"]
            x = F.conv_transpose1d(x, weight, bias, stride=2, padding=1)
        x = self.block("final_conv.0.block", x, 8)
        return F.conv1d(x, self.w["final_conv.1.weight"], self.w["final_conv.1.bias"]).transpose(1, 2)

    def sample(self, condition, noise, step_noise):
        c, x = self.c, noise
        T = c["num_train_timesteps"]
        n = c["num_inference_steps"] or T
        for k in range(n):
            t = (T // n) * (n - 1 - k)
            a = self.bar[t]
            y = self.net(x, torch.full((len(x),), t), condition)
            x0 = y if c["prediction_type"] == "sample" else (x - (1 - a).sqrt() * y) / a.sqrt()
            e = y if c["prediction_type"] == "epsilon" else (x - a.sqrt() * x0) / (1 - a).sqrt()
            if c["clip_sample"]:
                x0 = x0.clamp(-c["clip_sample_range"], c["clip_sample_range"])
            before = t - T // n
            b = self.bar[before] if before >= 0 else torch.tensor(1.0)
            if c["noise_scheduler_type"] == "DDIM":
                x = b.sqrt() * x0 + (1 - b).sqrt() * e
                continue
            alpha = a / b
            mean = b.sqrt() * (1 - alpha) / (1 - a) * x0 + alpha.sqrt() * (1 - b) / (1 - a) * x
            spread = ((1 - b) / (1 - a) * (1 - alpha)).clamp(min=1e-20).sqrt()
            x = mean + (spread * step_noise[k] if t > 0 else 0.0)
        return x

    def loss(self, condition, x, noise, steps, pad, valid_only):
        a = self.bar[steps][:, None, None]
        y = self.net(a.sqrt() * x + (1 - a).sqrt() * noise, steps, condition)
        error = (y - (noise if self.c["prediction_type"] == "epsilon" else x)) ** 2
        if not self.c["do_mask_loss_for_padding"]:
            return error.mean()
        error = error * ~pad[..., None]
        return error.sum() / ((~pad).sum() * x.shape[2] if valid_only else error.numel())
