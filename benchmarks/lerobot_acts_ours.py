"""Do policies of ours act the same in LeRobot once they are exported? Prints one JSON line a case.

    python benchmarks/lerobot_acts_ours.py --peer LEROBOT/bin/python      # an environment with LeRobot 0.6.1, diffusers

Each case is a policy of ours with random weights and fitted statistics, a constant dimension among them, saved and
written by `nextmove export-lerobot`. LeRobot loads the folder with `strict=True`, makes its processors of it, and plans
for raw observations from given noise; then it acts in a closed loop through its own queues. Differences are in raw
units over max(1, what one unit of the model's space is in them); an ensemble's actions depend on earlier plans and are
not compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

STATE, ENV, TOP, SIDE = (f"observation.{n}" for n in ("state", "environment_state", "images.top", "images.side"))
ROWS, TICKS, FPS = 2, 9, 10.0
SIZES = {STATE: (5,), ENV: (4,), TOP: (44, 60, 3), SIDE: (44, 60, 3)}


def recipes() -> dict[str, tuple[tuple[str, ...], Callable[[], Any]]]:
    """By case: what the robot shows, and the recipe."""
    from nextmove.contracts import Feature
    from nextmove.decoders import Diffusion, Latent, Regression, Sampler
    from nextmove.decoders.grids import Indices
    from nextmove.decoders.solvers import Ddim
    from nextmove.encoders import Camera, Observation, State
    from nextmove.models.policy.act import Act
    from nextmove.models.policy.diffusion_policy import DiffusionPolicy
    from nextmove.nn import ActVaeEncoder, Detr, UNet1d
    from nextmove.nn.resnet import ResNet

    def shown(*names: str) -> dict[str, Feature]:
        return {n: Feature("image" if len(SIZES[n]) == 3 else "state", SIZES[n]) for n in names}

    act, diffusion = Act.lerobot(), DiffusionPolicy.lerobot()
    plain = State(view="plain", features=(STATE, ENV))
    ddim = Diffusion(UNet1d((32, 64), time_width=16), sampler=Sampler(Ddim(), 10, Indices(), clip=1.0))

    def env(recipe: Any, *cameras: Camera, state: State = plain) -> Any:
        return replace(recipe, encoder=Observation((state, *cameras)))

    def two(**options: Any) -> Latent:
        sizes: dict[str, Any] = {"width": 64, "heads": 4, "feedforward": 96, **options}
        posterior = ActVaeEncoder(**sizes, layers=2, state=5)
        return Latent(Regression(Detr(**sizes, encoder_layers=2, parts=(8, 5, 4)), "l1"), posterior, 8)

    tokens = Camera(backbone=ResNet(norm="frozen"), pool="tokens", width=64, shared=True)
    ensembled = replace(act.timing, n_action_steps=1, ensemble=0.01)
    quantiles = replace(act.actions, scaling="quantiles")
    return {
        "act_states": ((STATE, ENV), lambda: replace(env(act), decoder=two())),
        "act_images": ((STATE, TOP, SIDE), lambda: Act.lerobot(shown(STATE, TOP, SIDE))),
        "act_everything": ((STATE, ENV, TOP, SIDE), lambda: replace(
            env(act, tokens, state=replace(plain, scaling="quantiles")), decoder=two(pre_norm=True, activation="gelu"),
            timing=ensembled, actions=quantiles)),
        "diffusion_states": ((STATE, ENV), lambda: replace(env(diffusion), decoder=ddim)),
        "diffusion_images": ((STATE, TOP, SIDE), lambda: replace(
            DiffusionPolicy.lerobot(shown(STATE, TOP, SIDE)), decoder=ddim)),
        "diffusion_everything": ((ENV, STATE, TOP, SIDE), lambda: replace(
            env(diffusion, Camera(crop=(35, 47), backbone=ResNet(norm="batch"), keypoints=6, shared=True),
                state=State(view="plain", scaling="min_max")), decoder=ddim)),
        "diffusion_resized": ((STATE, TOP), lambda: replace(
            diffusion, decoder=ddim, encoder=Observation((
                State(view="plain", scaling="min_max"),
                Camera(resize=(40, 50), whole=False, crop=(36, 45), backbone=ResNet(norm="frozen"), keypoints=4),
            )))),
    }  # fmt: skip


def write(name: str, folder: Path) -> dict[str, Any]:
    """Our side: the policy, its folder for LeRobot, observations, noise and plans; how large its units are."""
    import torch
    from safetensors.torch import save_file

    from nextmove import store
    from nextmove.contracts import Feature, normal, seeded
    from nextmove.jobs import export_lerobot
    from nextmove.models.policy import PolicySpec

    shows, recipe = recipes()[name]
    spec = PolicySpec({n: Feature("image" if len(SIZES[n]) == 3 else "state", SIZES[n]) for n in shows}, 3, FPS)
    torch.manual_seed(0)
    policy = store.create("act" if name.startswith("act") else "diffusion-policy", spec, recipe())
    rng = seeded(1)

    def observed(*lead: int) -> dict[str, torch.Tensor]:
        found = {}
        for feature in shows:
            shape = (*lead, *SIZES[feature])
            if len(shape) > len(lead) + 1:
                found[feature] = torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8)
            else:
                found[feature] = 3 * normal(shape, rng) + 5
                found[feature][..., 1] = 0.3
        return found

    batch = observed(64, policy.n_obs_steps)
    batch["action"] = 10 * normal((64, policy.horizon, 3), rng)
    batch["action"][..., 2] = -1.7
    policy.fit([batch])
    for module in policy.modules():  # statistics of its own for every norm that keeps some
        if hasattr(module, "running_var"):
            module.running_var.uniform_(0.5, 1.5, generator=rng)
            module.running_mean.uniform_(-0.2, 0.2, generator=rng)
    store.save(policy.eval(), folder / "ours")
    export_lerobot(folder / "ours", folder / "theirs")
    obs, noise = observed(ROWS, policy.n_obs_steps), normal((ROWS, policy.horizon, 3), rng)
    options = {} if name.startswith("act") else {"noise": noise}
    with torch.inference_mode():
        plan = policy.codec.decode(
            policy.decoder.sample(policy.context(obs), shape=policy.shape, rng=rng, **options), obs
        )
    codec, first = policy.codec, policy.timing.first
    unit = (codec.decode(torch.ones(1, 1, 3), {}) - codec.decode(torch.zeros(1, 1, 3), {})).abs()[0, 0]
    plan = plan[:, first:] if name.startswith("act") else plan[:, first : first + policy.n_action_steps]
    save_file({**{f"in.{n}": v for n, v in obs.items()}, "noise": noise, "out": plan.contiguous(), "unit": unit},
              folder / "case.safetensors")  # fmt: skip
    return {"parameters": sum(p.numel() for p in policy.parameters())}


def check(folder: Path) -> dict[str, Any]:
    """LeRobot's side, in its own environment: the largest difference of its plans, and of its actions in a row."""
    import torch
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors
    from safetensors.torch import load_file

    case = load_file(folder / "case.safetensors")
    config = PreTrainedConfig.from_pretrained(folder / "theirs")
    policy = get_policy_class(config.type).from_pretrained(folder / "theirs", config=config, strict=True)
    before, after = make_pre_post_processors(config, pretrained_path=str(folder / "theirs"))
    seen = {n.removeprefix("in."): v for n, v in case.items() if n.startswith("in.")}
    # As its data sets and robots give images: channels first, in [0, 1].
    seen = {n: v.movedim(-1, -3).float() / 255 if v.dtype == torch.uint8 else v for n, v in seen.items()}
    is_act = config.type == "act"
    given = {n: v[:, 0] if is_act else v for n, v in seen.items()}
    plan = after(policy.predict_action_chunk(before(given), **({} if is_act else {"noise": case["noise"]})))
    unit = case["unit"].clamp_min(1)
    policy.reset()
    steps = min(plan.shape[1], config.n_action_steps)
    acted = []
    for tick in range(steps):
        # The last steps observed, one after the other, so that its queue holds them when it plans.
        if not tick and not is_act:
            for older in range(config.n_obs_steps - 1):
                policy._queues = _filled(policy, before({n: v[:, older] for n, v in seen.items()}))
        now = before({n: v[:, -1] for n, v in seen.items()})
        acted.append(after(policy.select_action(now, **({} if is_act else {"noise": case["noise"]}))))
    return {
        "plan_diff": float(((plan - case["out"]).abs() / unit).max()),
        "action_diff": float(((torch.stack(acted, 1) - case["out"][:, :steps]).abs() / unit).max())
        if config.__dict__.get("temporal_ensemble_coeff") is None else None,
        "lerobot": __import__("lerobot").__version__,
    }  # fmt: skip


def _filled(policy: Any, batch: dict[str, Any]) -> Any:
    """Its queues with one older observation in each."""
    import torch
    from lerobot.policies.utils import populate_queues

    if policy.config.image_features:
        images = torch.stack([batch[key] for key in policy.config.image_features], dim=-4)
        batch = {**batch, "observation.images": images}
    return populate_queues(policy._queues, {key: value for key, value in batch.items() if key != "action"})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python of an environment with LeRobot")
    parser.add_argument("--check", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    if given.check:
        print(json.dumps(check(given.check)))
        return
    for name in recipes():
        if given.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            facts = write(name, Path(folder))
            there = [given.peer, __file__, "--check", folder]
            done = subprocess.run(there, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{name}: {done.stderr[-2000:]}")
            print(json.dumps({"case": name, **facts, **json.loads(done.stdout.splitlines()[-1])}), flush=True)


if __name__ == "__main__":
    main()
