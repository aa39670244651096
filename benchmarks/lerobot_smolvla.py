"""LeRobot's side of `smolvla_speed.py`, run in its own environment: a SmolVLA of the published size, random weights.

    python benchmarks/smolvla_speed.py --peer /path/to/lerobot/bin/python    # starts this, and takes turns

The environment: Python 3.12, `pip install "lerobot==0.6.1" "transformers==5.5.4" num2words`. Configuration and special
tokens of the vision-language model are given here, so no hub is asked.
"""

from __future__ import annotations

import argparse
import resource
import time
import types
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import turns

VISION = {
    "model_type": "smolvlm_vision", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "image_size": 512, "patch_size": 16, "num_channels": 3,
}  # fmt: skip
TEXT = {
    "model_type": "llama", "hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32,
    "num_attention_heads": 15, "num_key_value_heads": 5, "head_dim": 64, "vocab_size": 49280, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 8192,
}  # fmt: skip
SIDE, STATE, ACTION, WORDS = 256, 6, 6, 48


def policy(cameras: int, steps: int) -> Any:
    """The published configuration with random weights."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.smolvla import modeling_smolvla, smolvlm_with_expert
    from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
    from transformers import SmolVLMConfig

    own = SmolVLMConfig(
        vision_config=VISION, text_config=TEXT, scale_factor=4, image_token_id=49190, pad_token_id=2,
        tie_word_embeddings=False,
    ).to_dict()  # fmt: skip
    marks = types.SimpleNamespace(fake_image_token_id=49189, global_image_token_id=49152)
    inner: Any = smolvlm_with_expert
    inner.AutoConfig = types.SimpleNamespace(from_pretrained=lambda *_, **__: SmolVLMConfig.from_dict(dict(own)))
    inner.AutoProcessor = types.SimpleNamespace(from_pretrained=lambda *_, **__: types.SimpleNamespace(tokenizer=marks))
    config = SmolVLAConfig(device="cpu", num_steps=steps, push_to_hub=False, load_vlm_weights=False)
    names = [f"observation.images.c{i}" for i in range(cameras)]
    config.input_features = {"observation.state": PolicyFeature(FeatureType.STATE, (STATE,))}
    config.input_features |= {name: PolicyFeature(FeatureType.VISUAL, (3, SIDE, SIDE)) for name in names}
    config.output_features = {"action": PolicyFeature(FeatureType.ACTION, (ACTION,))}
    torch.manual_seed(0)
    return modeling_smolvla.SmolVLAPolicy(config).eval()


class Side:
    """The policy in two precisions, and how long its parts take."""

    def __init__(self, made: Any, again: Any) -> None:
        """again: makes the same policy anew, for another precision."""
        self.policies, self.again = {"float32": made}, again
        self.ms: dict[str, float] = {}
        self._watch(made.model)

    def _watch(self, model: Any) -> None:
        """Vision and prefix are what is computed before the first step, vision its images."""
        for owner, name, part in (
            (model.vlm_with_expert, "embed_image", "vision"),
            (model, "embed_prefix", "embedded"),
            (model, "denoise_step", "denoising"),
        ):
            setattr(owner, name, self._timed(getattr(owner, name), part))

    def _timed(self, function: Any, part: str) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            found = function(*given, **named)
            self.ms[part] = self.ms.get(part, 0.0) + 1000 * (time.perf_counter() - began)
            return found

        return call

    def plan(self, precision: str, inputs: str) -> dict[str, Any]:
        """Milliseconds of a plan and of its parts, and the plan (H, A), of inputs in a file."""
        if precision not in self.policies:
            self.policies[precision] = self.again().to(torch.bfloat16)
            self._watch(self.policies[precision].model)
        given = torch.load(inputs, weights_only=True)
        batch = {name: value for name, value in given.items() if name != "noise"}
        made = self.policies[precision]
        noise = given["noise"].to(next(made.parameters()).dtype)
        self.ms, low = {}, precision == "bf16"
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=low):
            made.reset()
            began = time.perf_counter()
            actions = made.predict_action_chunk(batch, noise=noise)
            whole = 1000 * (time.perf_counter() - began)
        parts = {"ms": whole, "vision": self.ms["vision"], "denoising": self.ms["denoising"]}
        parts["prefix"] = whole - parts["vision"] - parts["denoising"]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return parts | {"actions": actions[0].float().tolist(), "peak_mib": peak}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the weights are written")
    for name, default in (("threads", 2), ("cameras", 2), ("steps", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    made = policy(arguments.cameras, arguments.steps)
    save_file(made.state_dict(), arguments.folder / "model.safetensors")
    made.config._save_pretrained(arguments.folder)
    side = Side(made, lambda: policy(arguments.cameras, arguments.steps))
    turns.answer({"plan": side.plan}, {"parameters": sum(p.numel() for p in made.parameters())})


if __name__ == "__main__":
    main()
