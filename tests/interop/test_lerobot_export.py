"""Policies written for LeRobot: what is written reads back to the same policy, and what has no place there is named.

That LeRobot itself loads them strictly and acts the same: benchmarks/lerobot_acts_ours.py.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.golden.materialise import materialise

from nextmove import store
from nextmove.config import ConfigError
from nextmove.contracts import Feature, normal, seeded
from nextmove.decoders import Diffusion, Latent, Regression, Sampler
from nextmove.decoders.grids import Indices
from nextmove.decoders.solvers import Ddim, Euler
from nextmove.encoders import Camera, Observation, State
from nextmove.interop import lerobot
from nextmove.jobs import export_lerobot
from nextmove.jobs.tasks.looking import recipe_for
from nextmove.models.policy import PolicySpec, Timing
from nextmove.models.policy.act import Act
from nextmove.models.policy.bc import BC
from nextmove.models.policy.diffusion_policy import DiffusionPolicy
from nextmove.nn import ActVaeEncoder, Detr, UNet1d
from nextmove.nn.resnet import ResNet

GOLDEN = Path(__file__).parents[1] / "golden"
STATE, ENV, GOAL, TOP = (f"observation.{n}" for n in ("state", "environment_state", "goal", "images.top"))
SIZES = {ENV: (4,), STATE: (5,), GOAL: (2,), TOP: (40, 48, 3)}
BOTH = State(view="plain", features=(STATE, ENV))
SMALL = {"width": 16, "heads": 2, "feedforward": 24}
TWO = Latent(
    Regression(Detr(**SMALL, encoder_layers=1, parts=(4, 5, 4)), "l1"), ActVaeEncoder(**SMALL, layers=1, state=5), 4
)
UNET = Diffusion(UNet1d((16, 32), time_width=8, groups=4), sampler=Sampler(Ddim(), 5, Indices(), clip=1.0))
ACT, DIFFUSION = Act.lerobot(), replace(DiffusionPolicy.lerobot(), decoder=UNET)


def spec(*shows):
    return PolicySpec({n: Feature("image" if len(SIZES[n]) == 3 else "state", SIZES[n]) for n in shows}, 3, 10.0)


def observed(policy, rows, rng):
    found = {}
    for name, feature in policy.spec.inputs.items():
        shape = (rows, policy.n_obs_steps, *feature.shape)
        image = feature.type == "image"
        found[name] = (
            torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8) if image else normal(shape, rng) + 2
        )
    return found


def made(recipe, *shows, name="act", constant=True):
    """A policy with fitted statistics; a dimension of the state and one of the actions stand still."""
    torch.manual_seed(0)
    policy, rng = store.create(name, spec(*shows), recipe), seeded(3)
    batch = {**observed(policy, 32, rng), "action": 4 * normal((32, policy.horizon, 3), rng)}
    if constant:
        batch[STATE][..., 1], batch["action"][..., 2] = 0.3, -1.7
    policy.fit([batch])
    return policy.eval()


def again(policy, folder):
    lerobot.export(policy, folder)
    return lerobot.load(folder, fps=10.0).policy


def same(policy, other, atol=1e-5):
    """Equal plans, also where what stood still in training moves."""
    obs = observed(policy, 2, seeded(5))
    one, two = (p.generate({n: obs[n] for n in p.inputs}, rng=seeded(6)) for p in (policy, other))
    unit = policy.codec.decode(torch.ones(1, 1, 3), {}) - policy.codec.decode(torch.zeros(1, 1, 3), {})
    assert ((one - two).abs() / unit.abs().clamp_min(1)).max() < atol
    return one


CAMERA = Camera(backbone=ResNet(norm="batch"), pool="tokens", width=16, shared=True)
KEYPOINTS = Camera(backbone=ResNet(norm="frozen"), keypoints=4, resize=(40, 50), whole=False, crop=(36, 45))
EXPORTED = {
    "act_states": (replace(ACT, encoder=Observation((BOTH,)), decoder=TWO), (ENV, STATE)),
    "act_images": (replace(ACT, encoder=Observation((BOTH, CAMERA)), decoder=TWO), (ENV, STATE, TOP)),
    "act_quantiles": (
        replace(
            ACT,
            encoder=Observation((replace(BOTH, scaling="quantiles"),)),
            actions=replace(ACT.actions, scaling="quantiles"),
            timing=replace(ACT.timing, n_action_steps=1, ensemble=0.02),
            decoder=TWO,
        ),
        (ENV, STATE),
    ),
    "diffusion_states": (replace(DIFFUSION, encoder=Observation((State(view="plain"),))), (ENV, STATE)),
    "diffusion_images": (
        replace(DIFFUSION, encoder=Observation((State(view="plain", scaling="min_max"), KEYPOINTS))),
        (ENV, STATE, TOP),
    ),
}


@pytest.mark.parametrize("case", EXPORTED)
def test_what_is_written_reads_back_to_the_same_plans(case, tmp_path):
    recipe, shows = EXPORTED[case]
    policy = made(recipe, *shows, name="act" if case.startswith("act") else "diffusion-policy")
    other = again(policy, tmp_path / "out")
    plan = same(policy, other)
    assert (plan[..., 2] == -1.7).all()
    for name in ("n_obs_steps", "horizon", "n_action_steps", "ensemble", "first"):
        assert getattr(other.timing, name) == getattr(policy.timing, name)


def test_the_parts_of_a_vector_are_put_into_lerobots_order(tmp_path):
    policy = made(*EXPORTED["diffusion_images"][:1], *EXPORTED["diffusion_images"][1], name="diffusion-policy")
    other = again(policy, tmp_path / "out")
    name = "decoder.net.down.0.first.film.weight"
    own, written = policy.state_dict()[name], other.state_dict()[name]
    # Ours: the environment's 4, the state's 5, the camera's 8; LeRobot's: 5, 8, 4; twice, behind the time's 8.
    step = [*range(4, 9), *range(9, 17), *range(4)]
    order = [*range(8), *(8 + i for i in step), *(25 + i for i in step)]
    assert torch.equal(written, own[:, order])


@pytest.mark.parametrize(
    "case",
    ["act_images", "act_state_legacy", "act_ensemble", "act_options", "diffusion_images_legacy", "diffusion_separate"],
)
def test_a_checkpoint_of_any_release_is_brought_up_to_date(case, tmp_path):
    folder = materialise(GOLDEN / case, tmp_path / "in")
    out = export_lerobot(folder, tmp_path / "out")
    before, after = (load_file(f / "model.safetensors") for f in (folder, out))
    kept = {n: v for n, v in before.items() if "normalize_" not in n}
    assert all(torch.equal(value, after[name]) for name, value in kept.items())
    # What LeRobot stores though it can be computed has to be there for it to load strictly.
    assert all(n.endswith(("pos_grid", "pos_enc")) for n in after.keys() - kept.keys())
    assert "0.6" in str(lerobot.load(out).report)
    assert json.loads((out / "config.json").read_text())["pretrained_backbone_weights"] is None


REFUSED = {
    "as it comes": (Act(), (ENV, STATE), ["--recipe.timing.n-obs-steps 1", "--recipe.actions.no-per-step"]),
    "another state": (ACT, (STATE, GOAL, TOP), [GOAL, f"--recipe.encoder.parts.0.features {STATE} {ENV}"]),
    "no camera": (replace(ACT, encoder=Observation((State(view="plain"),))), (STATE,), ["camera", ENV]),
    "group norm": (
        replace(ACT, encoder=Observation((BOTH, replace(CAMERA, backbone=ResNet())))),
        (STATE, ENV, TOP),
        ["--recipe.encoder.parts.1.backbone.norm", "--recipe.encoder.parts.1.width 128"],
    ),
    "parts": (replace(ACT, encoder=Observation((BOTH,))), (STATE, ENV), ["trunk.parts 32 5 4", "posterior.state 5"]),
    "resized": (
        replace(DIFFUSION, encoder=Observation((State(view="plain"), replace(KEYPOINTS, whole=True)))),
        (STATE, TOP),
        ["--recipe.encoder.parts.1.no-whole"],
    ),
    "two shares": (
        replace(DIFFUSION, encoder=Observation((State(view="plain"), replace(KEYPOINTS, crop=(36, 50))))),
        (STATE, TOP),
        ["(36, 50)", "(40, 50)", "--recipe.encoder.parts.1.crop"],
    ),
    "horizon": (
        replace(DIFFUSION, encoder=Observation((BOTH,)), timing=replace(DIFFUSION.timing, horizon=10)),
        (STATE, ENV),
        ["--recipe.timing.horizon 12"],
    ),
    "aligned": (
        replace(DIFFUSION, encoder=Observation((BOTH,)), timing=Timing(2, 16, 4)),
        (STATE, ENV),
        ["--recipe.timing.align first_observation"],
    ),
    "another decoder": (BC(), (STATE, ENV), ["decoder", "act and diffusion-policy"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_place_is_named_with_the_option(case, tmp_path):
    recipe, shows, words = REFUSED[case]
    with pytest.raises(ConfigError) as problem:
        lerobot.export(made(recipe, *shows), tmp_path / "out")
    for word in words:
        assert word in str(problem.value)
    assert not (tmp_path / "out").exists()


def test_a_sampler_that_lerobot_lacks(tmp_path):
    recipe = replace(EXPORTED["diffusion_states"][0])
    policy = made(recipe, ENV, STATE, name="diffusion-policy")
    policy.decoder.sampler = Sampler(Euler(), 5)
    with pytest.raises(ConfigError, match="--sampler ddim or ancestral"):
        lerobot.export(policy, tmp_path / "out")


def test_the_job_says_how_far_the_folder_is_and_keeps_what_is_there(tmp_path, capsys):
    policy = made(EXPORTED["act_states"][0], ENV, STATE)
    store.save(policy, tmp_path / "model")
    out = export_lerobot(tmp_path / "model", tmp_path / "out", execute=2)
    assert "read back" in capsys.readouterr().out
    assert lerobot.load(out).policy.n_action_steps == 2
    assert "10 actions a second" in (out / "README.md").read_text().replace("\n", " ")
    with pytest.raises(ConfigError, match="expected a new folder"):
        export_lerobot(tmp_path / "model", out)


@pytest.mark.parametrize("shows", [(ENV, GOAL, STATE), (GOAL, STATE, ENV, TOP)])
@pytest.mark.parametrize("system", ["act", "diffusion-policy"])
def test_size_lerobot_is_exportable_whatever_the_data_show(system, shows, tmp_path):
    recipe = recipe_for(system, spec(*shows).inputs, size="lerobot")
    policy = made(recipe, *shows, name=system, constant=False)
    lerobot.export(policy, tmp_path / "out")
    # A simulator's state of the world is no business of a policy that sees.
    assert set(lerobot.load(tmp_path / "out").policy.inputs) == ({STATE, TOP} if TOP in shows else {STATE, ENV})
