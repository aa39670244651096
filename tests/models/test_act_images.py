"""ACT with cameras: LeRobot's plan and loss from its weights and normalised inputs, part by part as named here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.golden.materialise import materialise
from torch import Tensor

from nextmove.contracts import Feature
from nextmove.decoders import Latent, Regression
from nextmove.encoders import Camera, ObservationEncoder, Plain, StateEncoder
from nextmove.nn import ActVaeEncoder, Detr
from nextmove.nn.resnet import ResNet

GOLDEN = Path(__file__).parents[1] / "golden" / "act_images"
CAMERAS = ("observation.images.top_cam", "observation.images.wrist")
NAMES = {
    "model.backbone.": "encoder.parts.1.networks.0.0.",
    "model.encoder_img_feat_input_proj.": "encoder.parts.1.networks.0.1.projection.",
    "model.vae_encoder_cls_embed.": "decoder.posterior.cls.",
    "model.vae_encoder_robot_state_input_proj.": "decoder.posterior.state.",
    "model.vae_encoder_action_input_proj.": "decoder.posterior.action.",
    "model.vae_encoder_latent_output_proj.": "decoder.posterior.latent.",
    "model.vae_encoder.": "decoder.posterior.encoder.",
    "model.encoder_latent_input_proj.": "decoder.inner.net.inputs.0.",
    "model.encoder_robot_state_input_proj.": "decoder.inner.net.inputs.1.",
    "model.encoder_1d_feature_pos_embed.": "decoder.inner.net.position.",
    "model.decoder_pos_embed.": "decoder.inner.net.query.",
    "model.action_head.": "decoder.inner.net.head.",
    "model.encoder.": "decoder.inner.net.encoder.",
    "model.decoder.": "decoder.inner.net.decoder.",
}
INNER = {
    ".layers.": ".blocks.",
    ".self_attn.": ".attention.",
    ".multihead_attn.": ".cross.",
    ".linear1.": ".feedforward.up.",
    ".linear2.": ".feedforward.down.",
    ".norm1.": ".attention_branch.norm.",
    ".norm3.": ".feedforward_branch.norm.",
}


def ours(name: str) -> str:
    for theirs, own in NAMES.items():
        if name.startswith(theirs):
            name = own + name.removeprefix(theirs)
    if "blocks" in name or ".layers." in name:
        for theirs, own in INNER.items():
            name = name.replace(theirs, own)
        part = "cross" if ".net.decoder." in name else "feedforward"
        name = name.replace(".norm2.", f".{part}_branch.norm.")
    return name


class Same(torch.nn.Module):
    """The inputs are scaled already."""

    def encode(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[ObservationEncoder, Any, dict[str, Tensor], Any]:
    """Encoder and decoder with the reference's weights, its inputs and answers, and its scaling."""
    folder = tmp_path_factory.mktemp("act")
    materialise(GOLDEN, folder)
    io = load_file(folder / "io.safetensors")
    stats = load_file(folder / "policy_preprocessor_step_3_normalizer_processor.safetensors")

    def scaled(name: str, x: Tensor) -> Tensor:
        return (x - stats[f"{name}.mean"]) / (stats[f"{name}.std"] + 1e-8)

    cameras = {name: Feature("image", (33, 65, 3)) for name in CAMERAS}
    camera = Camera(pool="tokens", backbone=ResNet(norm="frozen"), width=32, shared=True)
    state = StateEncoder(Plain(), Same(), {"observation.state": Feature("state", (6,))})  # type: ignore[arg-type]
    encoder = ObservationEncoder([state, camera.build(cameras)], steps=1)
    sizes: dict[str, Any] = {"width": 32, "heads": 4, "feedforward": 48, "dropout": 0.0}
    decoder = Latent(
        Regression(Detr(**sizes, encoder_layers=2, parts=(8, 6)), loss="l1"),
        ActVaeEncoder(**sizes, layers=2, state=6),
        8,
    ).build(shape=(8, 6), context=encoder.spec)
    tensors = {ours(name): value for name, value in load_file(folder / "model.safetensors").items()}
    whole = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    whole.load_state_dict(tensors)
    return whole.eval()["encoder"], whole["decoder"], io, scaled  # type: ignore[return-value]


def shown(io: dict[str, Tensor], scaled: Any) -> dict[str, Tensor]:
    """As the house shows observations: a step's axis, channels last."""
    images = {name: io[f"in.{name}"].permute(0, 2, 3, 1)[:, None] for name in CAMERAS}
    return {"observation.state": scaled("observation.state", io["in.observation.state"])[:, None], **images}


def test_plan_and_loss_are_the_references(case: Any) -> None:
    encoder, decoder, io, scaled = case
    ctx = encoder(shown(io, scaled), batch=2)
    assert ctx.tokens.shape == ctx.positions.shape == (2, 2 * 2 * 3, 32)
    plan = decoder.sample(ctx, shape=(8, 6), rng=torch.Generator())
    torch.testing.assert_close(plan, io["out.normalized"], atol=1e-5, rtol=1e-5)
    terms = decoder.loss_at(
        ctx, scaled("action", io["train.action"]), weight=~io["train.action_is_pad"], eps=io["train.latent_eps"]
    )
    torch.testing.assert_close(terms["kl"] / 10, io["loss.kld_loss"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sum(terms.values()), io["loss"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("camera", [0, 1])
def test_every_camera_and_place_has_its_part_in_the_plan(case: Any, camera: int) -> None:
    encoder, decoder, io, scaled = case
    obs = shown(io, scaled)
    before = decoder.sample(encoder(obs, batch=2), shape=(8, 6), rng=torch.Generator())
    turned = {**obs, CAMERAS[camera]: obs[CAMERAS[camera]].flip(3)}
    after = decoder.sample(encoder(turned, batch=2), shape=(8, 6), rng=torch.Generator())
    assert not torch.allclose(before, after, atol=1e-4)
    swapped = {**obs, CAMERAS[0]: obs[CAMERAS[1]], CAMERAS[1]: obs[CAMERAS[0]]}
    # Positions are the same in every camera, and attention knows no order beside them: LeRobot cannot tell them apart.
    same = decoder.sample(encoder(swapped, batch=2), shape=(8, 6), rng=torch.Generator())
    torch.testing.assert_close(same, before, atol=1e-5, rtol=1e-5)
