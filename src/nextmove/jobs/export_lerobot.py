"""Writes a trained policy as a checkpoint of LeRobot's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nextmove.config import ConfigError
from nextmove.contracts import seeded
from nextmove.interop import lerobot_types
from nextmove.jobs.evaluate import load_policy
from nextmove.models.policy import Policy

ROWS = 4


def export_lerobot(
    model: str | Path,
    out: str | Path,
    *,
    sampler: str | None = None,
    steps: int = 0,
    execute: int = 0,
) -> Path:
    """Writes an ACT, Diffusion Policy, SmolVLA, pi0, pi0.5 or pi0-FAST as a folder that LeRobot 0.6 runs alike.

    What LeRobot has no place for is named, with the option of `nextmove train` that makes a policy exportable. The
    folder is read back and its plans are compared with the policy's before this ends.

    Args:
        model: Run, saved model, or a checkpoint of LeRobot's of an older release, which is brought up to date.
        out: The new folder.
        sampler: ddim or ancestral, of a Diffusion Policy; as trained if not given.
        steps: Network calls of the sampler; 0: as trained.
        execute: Actions executed of each plan; 0: as trained.

    Raises:
        FileNotFoundError: for a folder without a model.
        ConfigError: naming all that LeRobot has no place for, or a folder that is there already.
    """
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: expected a new folder, found one that holds something")
    policy = load_policy(model, sampler=sampler, steps=steps, execute=execute)
    config = lerobot_types.export(policy, folder)
    apart = difference(policy, lerobot_types.load(folder, fps=policy.spec.fps).policy)
    print(f"{folder}: {config.type} for LeRobot 0.6; read back, its plans are {apart:.1e} from the policy's (spread 1)")
    if not apart < 1e-3:
        raise ConfigError(f"{folder}: expected the policy's plans, found plans {apart:.3g} away; do not use it")
    return folder


def difference(policy: Policy, other: Policy) -> float:
    """The largest difference of their plans on drawn observations and equal noise, in the model's space."""
    rng, obs = seeded(0), dict[str, Any]()
    for name, feature in policy.inputs.items():
        shape = (ROWS, policy.n_obs_steps, *feature.shape)
        if feature.type == "text":
            obs[name] = ["push the block"] * ROWS
        elif feature.type == "image":
            obs[name] = torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8)
        else:
            obs[name] = torch.rand(shape, generator=rng)
    with torch.inference_mode():
        made = [one.decoder.sample(one.context(obs), shape=one.shape, rng=seeded(1)) for one in (policy, other)]
    return float((made[0] - made[1]).abs().max())
