"""Random folders of OpenVLA and its fine-tuned form, as their own code writes them."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tests.golden.materialise import materialise

from nextmove.interop.openvla import Asked, load
from nextmove.interop.openvla.towers import Sizes

GOLDEN = Path(__file__).parents[1] / "golden"
SIZES = (Sizes("dinov2", 2), Sizes("siglip", 4))
WIDTH, ACTIONS, STEPS, PROPRIO, HIDDEN = 48, 7, 8, 8, 32


def folder_of(place):
    """The recorded case."""
    return materialise(GOLDEN / "openvla", place)


def asked(key="toy", **parts):
    return Asked(unnorm_key=key, towers=SIZES, fps=5.0, **parts)


def opened(folder, **parts):
    return load(folder, asked(**parts))


def tensors(folder):
    return load_file(folder / "model.safetensors")


def random(shapes, seed=0, prefix="module."):
    rng = torch.Generator().manual_seed(seed)
    return {prefix + name: 0.1 * torch.randn(shape, generator=rng) for name, shape in shapes.items()}


def mapped(numbers):
    return {"fc1.weight": (WIDTH, numbers), "fc1.bias": (WIDTH,), "fc2.weight": (WIDTH, WIDTH), "fc2.bias": (WIDTH,)}


def head(prefix):
    """Names and shapes of a head of actions."""
    wide = ACTIONS * WIDTH
    norms = {"layer_norm1": wide, "mlp_resnet_blocks.0.ffn.0": HIDDEN, "mlp_resnet_blocks.1.ffn.0": HIDDEN}
    norms["layer_norm2"] = HIDDEN
    maps = {"fc1": (HIDDEN, wide), "mlp_resnet_blocks.0.ffn.1": (HIDDEN, HIDDEN), "fc2": (ACTIONS, HIDDEN)}
    maps["mlp_resnet_blocks.1.ffn.1"] = (HIDDEN, HIDDEN)
    found = {f"{prefix}{name}.{part}": (size,) for name, size in norms.items() for part in ("weight", "bias")}
    found |= {f"{prefix}{name}.weight": shape for name, shape in maps.items()}
    return found | {f"{prefix}{name}.bias": shape[:1] for name, shape in maps.items()}


def tuned(folder, *, noise=False, film=False):
    """Heads beside the folder, as training in parallel leaves them."""
    statistics = json.loads((folder / "config.json").read_text())["norm_stats"]["toy"]
    low, high = [-1.0] * PROPRIO, [1.0 + i for i in range(PROPRIO)]
    statistics["proprio"] = {"q01": low, "q99": high, "min": low, "max": high}
    (folder / "dataset_statistics.json").write_text(json.dumps({"libero_toy": statistics}))
    prefix = "noise_predictor.mlp_resnet." if noise else "model."
    torch.save(random(head(prefix), 1), folder / "action_head--900_checkpoint.pt")
    torch.save(random(head(prefix), 9), folder / "action_head--80_checkpoint.pt")
    torch.save(random(mapped(PROPRIO), 2), folder / "proprio_projector--900_checkpoint.pt")
    if noise:
        torch.save(random(mapped(1), 3), folder / "noisy_action_projector--900_checkpoint.pt")
    if film:
        torch.save(steered(folder), folder / "vision_backbone--900_checkpoint.pt")
    return folder


def steered(folder):
    """Towers as they are saved where words scale and shift them, one matrix with a low-rank adapter."""
    found, rng = {}, torch.Generator().manual_seed(4)
    for name, value in tensors(folder).items():
        if not name.startswith("vision_backbone."):
            continue
        front, blocks, rest = name.partition(".blocks.")
        number, _, inner = rest.partition(".")
        found["module." + (f"{front}.blocks.{number}.block.{inner}" if blocks else name)] = value
        if inner == "norm1.weight":
            for part in ("scale", "shift"):
                found[f"module.{front}.blocks.{number}.{part}.weight"] = 0.02 * torch.randn(
                    len(value), WIDTH, generator=rng
                )
                found[f"module.{front}.blocks.{number}.{part}.bias"] = 0.02 * torch.randn(len(value), generator=rng)
    whole = "module.vision_backbone.featurizer.blocks.0.block.attn.proj"
    found[f"{whole}.base_layer.weight"] = found.pop(f"{whole}.weight")
    found[f"{whole}.base_layer.bias"] = found.pop(f"{whole}.bias")
    found[f"{whole}.lora_A.default.weight"] = torch.randn(32, 32, generator=rng)
    found[f"{whole}.lora_B.default.weight"] = torch.randn(32, 32, generator=rng)
    return found
