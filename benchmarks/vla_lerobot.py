"""LeRobot's side of `vla_peers.py`, run in its own environment: loads a folder of ours and acts.

The environment: Python 3.12, `pip install "lerobot[pi]==0.6.1" "transformers==5.5.4" num2words`. No hub is asked: what
a policy's config.json names there is made of the folder itself, and sizes that have no name are given.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from safetensors.torch import load_file

import vla_sizes


def words(theirs: Path, facts: dict[str, Any], folder: Path) -> None:
    """A folder of the tokenizer, with what says how it is used."""
    folder.mkdir()
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": facts["pad"], "bos_token": facts["begin"]}
    if facts["system"] == "smolvla":
        config |= {"extra_special_tokens": facts["marks"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    shutil.copy(theirs / "tokenizer.json", folder / "tokenizer.json")


def named(theirs: Path, folder: Path) -> None:
    """What `vlm_model_name` of a SmolVLA has to lead to beside the tokenizer."""
    vlm = json.loads((theirs / "vlm_config.json").read_text())
    side = vlm["vision_config"]["image_size"]
    shown = {"image_processor_type": "SmolVLMImageProcessor", "size": {"longest_edge": side}}
    shown |= {"max_image_size": {"longest_edge": side}}
    for file, content in (
        ("config.json", vlm),
        ("preprocessor_config.json", shown),
        ("processor_config.json", {"processor_class": "SmolVLMProcessor", "image_seq_len": 4}),
    ):
        (folder / file).write_text(json.dumps(content))


def sized(kind: str, ids: int) -> None:
    """Tells LeRobot's classes of pi0 sizes that they have no name for."""
    module = sys.modules[get_policy_class(kind).__module__]
    module.get_gemma_config = lambda variant: module.GemmaConfig(**vla_sizes.GEMMA[variant])
    vla_sizes.tell(module, "PaliGemmaForConditionalGenerationWithPiGemma", "PiGemmaForCausalLM", ids)


def tables(folder: Path) -> None:
    """Gives LeRobot the tables of a tokenizer of actions in place of its class, whose code lies on a hub."""
    from transformers import AutoProcessor, PreTrainedTokenizerFast

    stated = json.loads((folder / "processor_config.json").read_text())
    read = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), clean_up_tokenization_spaces=False)
    given = SimpleNamespace(bpe_tokenizer=read, scale=stated["scale"], min_token=stated["min_token"])
    AutoProcessor.from_pretrained = lambda *_, **__: given


def opened(folder: Path, facts: dict[str, Any], file: dict[str, torch.Tensor]) -> tuple[Any, Any, Any]:
    """The policy and both processors of the folder that was exported."""
    theirs, place = folder / "theirs", str(folder / "words")
    words(theirs, facts, folder / "words")
    config = PreTrainedConfig.from_pretrained(theirs)
    steps: dict[str, Any] = {"tokenizer_processor": {"tokenizer_name": place}}
    if config.type == "smolvla":
        named(theirs, folder / "words")
        config.vlm_model_name = place
    else:
        sized(config.type, len(next(value for name, value in file.items() if name.endswith("lm_head.weight"))))
    if config.type == "pi0_fast":
        tables(theirs / config.action_tokenizer_name)
        config.text_tokenizer_name = place
        steps["action_tokenizer_processor"] = {"paligemma_tokenizer_name": place}
    policy = get_policy_class(config.type).from_pretrained(theirs, config=config, strict=True)
    return policy, *make_pre_post_processors(config, pretrained_path=str(theirs), preprocessor_overrides=steps)


def wrong(policy: Any, file: dict[str, torch.Tensor]) -> int:
    """Tensors that the policy lacks, that the file lacks, or that are not the file's: pi0 says so in print alone."""
    own = policy.state_dict()
    differ = sum(not torch.equal(own[name], file[name]) for name in own.keys() & file.keys())
    return len(own.keys() ^ file.keys()) + differ


def heard(policy: Any) -> list[torch.Tensor]:
    """The ids that a pi0-FAST will write, as it writes them."""
    found: list[torch.Tensor] = []
    model = getattr(policy, "model", None)
    plain = getattr(model, "sample_actions_fast_kv_cache", None)

    def writing(*given: Any, **options: Any) -> torch.Tensor:
        found.append(plain(*given, **options))
        return found[-1]

    if plain is not None:
        model.sample_actions_fast_kv_cache = writing
    return found


def losses(policy: Any, batch: dict[str, Any], case: dict[str, torch.Tensor]) -> float | None:
    """The largest difference of a pi0-FAST's losses of the rows of given ids."""
    if "moves" not in case:
        return None
    images, masks = policy._preprocess_images(batch)
    words, told = batch["observation.language.tokens"], batch["observation.language.attention_mask"]
    found = []
    for i in range(len(words)):
        at, ids = slice(i, i + 1), case["moves"][i : i + 1]
        seen = [image[at] for image in images], [mask[at] for mask in masks]
        found.append(policy.model.forward(*seen, words[at], told[at], ids, ids > 0)["loss"])
    return float((torch.stack(found) - case["loss"]).abs().max())


def check(folder: Path) -> dict[str, Any]:
    """How the policy was read, and the largest difference of its plans, of its actions in a row, and of its ids."""
    case, facts = load_file(folder / "case.safetensors"), json.loads((folder / "case.json").read_text())
    file = load_file(folder / "theirs" / "model.safetensors")
    policy, before, after = opened(folder, facts, file)
    ids = heard(policy)
    seen: dict[str, Any] = {n.removeprefix("in."): v for n, v in case.items() if n.startswith("in.")}
    seen = {n: v.float() / 255 if v.dtype == torch.uint8 else v for n, v in seen.items()}
    given = {"noise": case["noise"]} if len(case["noise"]) else {}

    def shown() -> Any:
        return before({**seen, "task": list(facts["tasks"])})

    unit, out = case["unit"].clamp_min(1), case["out"]
    with torch.inference_mode():
        loss = losses(policy, shown(), case)
        plan = after(policy.predict_action_chunk(shown(), **given))
        policy.reset()
        # Of pi0 a single action is asked for without noise, which it draws.
        policy.model.sample_noise = lambda *_: case["noise"]
        acted = [after(policy.select_action(shown())) for _ in range(policy.config.n_action_steps)]
    wide = min(case["ids"].shape[1], ids[0].shape[1]) if ids else 0
    return {
        "tensors": len(file),
        "wrong": wrong(policy, file),
        "plan_diff": float(((plan - out).abs() / unit).max()),
        "action_diff": float(((torch.stack(acted, 1) - out[:, : len(acted)]).abs() / unit).max()),
        "ids": int((case["ids"][:, :wide] > 0).sum()) if ids else None,
        "ids_differ": int((case["ids"][:, :wide] != ids[0][:, :wide]).sum()) if ids else None,
        "loss_diff": loss,
        "spread": float((out / unit).std()),
        "lerobot": __import__("lerobot").__version__,
    }


if __name__ == "__main__":
    print(json.dumps(check(Path(sys.argv[1]))))
