"""Does a SmolVLA that learned here act the same in LeRobot? Prints one JSON line, with --keep into docs/data.

    python benchmarks/lerobot_smolvla_acts.py DATA --peer LEROBOT/bin/python     # as of `lerobot_smolvla.py`

A tokenizer is fitted on the tasks of a data set; `nextmove train smolvla DATA --tokenizer FILE` trains for a few steps
and `nextmove export-lerobot` writes the folder. LeRobot is given a folder for its `vlm_model_name`, with the config and
the tokenizer that lie beside the weights, loads the policy with `strict=True` and its own processors, and plans for raw
frames of the data and their tasks from given noise; then it acts in a row through its own queue. Differences are in raw
units over max(1, what one unit of the model's space is in them).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

MARKS = {"fake_image_token": "<fake_token_around_image>", "global_image_token": "<global-img>",
         "image_token": "<image>", "end_of_utterance_token": "<end_of_utterance>"}  # fmt: skip
PAD, IDS, FRAMES = "<pad>", 300, 6


def tokenizer(texts: list[str], file: Path) -> None:
    """Writes byte pairs that these texts have, with the special tokens of a SmolVLM."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=IDS, special_tokens=[PAD, *MARKS.values()], initial_alphabet=letters, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    backend.save(str(file))


def write(data: Path, steps: int, folder: Path) -> dict[str, Any]:
    """Our side: the trained policy, its folder for LeRobot, observations, noise and plans, and how large units are."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from nextmove import store
    from nextmove.contracts import normal, seeded
    from nextmove.data import open_dataset
    from nextmove.jobs import export_lerobot

    dataset = open_dataset(data)
    tokenizer(list(dataset.tasks.values()), folder / "words.json")
    command = [sys.executable, "-m", "nextmove", "train", "smolvla", str(data), "--steps", str(steps)]
    command += ["--tokenizer", str(folder / "words.json"), "--out", str(folder / "ours")]
    subprocess.run(command, check=True, stdout=sys.stderr)
    policy: Any = store.load(folder / "ours" / "model").eval()
    export_lerobot(folder / "ours", folder / "theirs")
    items = [dataset.item(int(i), return_uint8=True) for i in np.linspace(0, len(dataset) - 1, FRAMES)]
    seen = {n: torch.stack([item[n] for item in items]) for n in policy.inputs if n != "task"}
    tasks = [str(item["task"]) for item in items]
    obs: dict[str, Any] = {n: (v.movedim(-3, -1) if v.dtype == torch.uint8 else v)[:, None] for n, v in seen.items()}
    obs["task"] = tasks
    noise = normal((FRAMES, *policy.shape), seeded(1))
    with torch.inference_mode():
        made = policy.decoder.sample(policy.context(obs), shape=policy.shape, rng=seeded(2), noise=noise)
        plan = policy.codec.decode(made, obs)
        ends = [policy.codec.decode(torch.full_like(made, value), obs) for value in (0.0, 1.0)]
    unit = (ends[1] - ends[0]).abs()[0, 0]
    case = {**{f"in.{n}": v.contiguous() for n, v in seen.items()}, "noise": noise, "out": plan, "unit": unit}
    save_file({n: v.contiguous() for n, v in case.items()}, folder / "case.safetensors")
    (folder / "tasks.json").write_text(json.dumps(tasks))
    return {"parameters": sum(p.numel() for p in policy.parameters()), "steps": steps, "frames": FRAMES}


def named(theirs: Path, folder: Path) -> None:
    """What `vlm_model_name` has to lead to, of an exported folder: config, tokenizer, and what says how to use it."""
    folder.mkdir()
    vlm = json.loads((theirs / "vlm_config.json").read_text())
    side = vlm["vision_config"]["image_size"]
    words = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "extra_special_tokens": MARKS}
    shown = {"image_processor_type": "SmolVLMImageProcessor", "size": {"longest_edge": side}}
    shown |= {"max_image_size": {"longest_edge": side}}
    shutil.copy(theirs / "tokenizer.json", folder / "tokenizer.json")
    for file, content in (
        ("config.json", vlm),
        ("tokenizer_config.json", words),
        ("preprocessor_config.json", shown),
        ("processor_config.json", {"processor_class": "SmolVLMProcessor", "image_seq_len": 4}),
    ):
        (folder / file).write_text(json.dumps(content))


def check(folder: Path) -> dict[str, Any]:
    """LeRobot's side, in its own environment: the largest difference of its plans, and of its actions in a row."""
    import torch
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors
    from safetensors.torch import load_file

    case, tasks = load_file(folder / "case.safetensors"), json.loads((folder / "tasks.json").read_text())
    named(folder / "theirs", folder / "vlm")
    config = PreTrainedConfig.from_pretrained(folder / "theirs")
    config.vlm_model_name = str(folder / "vlm")
    policy = get_policy_class(config.type).from_pretrained(folder / "theirs", config=config, strict=True)
    words = {"tokenizer_processor": {"tokenizer_name": config.vlm_model_name}}
    before, after = make_pre_post_processors(
        config, pretrained_path=str(folder / "theirs"), preprocessor_overrides=words
    )
    seen: dict[str, Any] = {n.removeprefix("in."): v for n, v in case.items() if n.startswith("in.")}
    seen = {n: v.float() / 255 if v.dtype == torch.uint8 else v for n, v in seen.items()} | {"task": tasks}
    unit = case["unit"].clamp_min(1)
    with torch.inference_mode():
        plan = after(policy.predict_action_chunk(before(seen), noise=case["noise"]))
        policy.reset()
        acted = [after(policy.select_action(before(seen), noise=case["noise"])) for _ in range(config.n_action_steps)]
    out = case["out"]
    return {
        "plan_diff": float(((plan - out).abs() / unit).max()),
        "action_diff": float(((torch.stack(acted, 1) - out[:, : len(acted)]).abs() / unit).max()),
        "spread": float((out / unit).std()),
        "lerobot": __import__("lerobot").__version__,
    }


def kept(found: dict[str, Any]) -> None:
    """The table in docs/data."""
    from kept_table import keep

    keep(
        "lerobot-acts-trained",
        title="A SmolVLA that learned here, in LeRobot",
        command="python benchmarks/lerobot_smolvla_acts.py DATA --peer LEROBOT/bin/python --keep",
        note=f"`nextmove train smolvla DATA --tokenizer FILE` on recorded demonstrations with a camera of 96 px, then "
        f"`nextmove export-lerobot`. LeRobot {found['lerobot']} loaded the folder with `strict=True`, its "
        "processors made of it and its own tokenizer of the file, and both planned for frames of the data and their "
        "instruction from the same noise; then LeRobot acted step by step through its own queue. Differences in raw "
        "units over max(1, what a unit of the model's space is in them).",
        columns=["policy", "steps", "parameters, M", "frames", "plan, largest difference", "actions in a row"],
        rows=[[
            "smolvla", str(found["steps"]), f"{found['parameters'] / 1e6:.2f}", str(found["frames"]),
            f"{found['plan_diff']:.1e}", f"{found['action_diff']:.1e}",
        ]],
    )  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="the folder of a data set with a camera and tasks")
    parser.add_argument("--peer", help="the Python of an environment with LeRobot 0.6.1 and transformers")
    parser.add_argument("--steps", type=int, default=50, help="of training")
    parser.add_argument("--keep", action="store_true", help="write docs/data/lerobot-acts-trained.json")
    parser.add_argument("--check", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.check:
        print(json.dumps(check(given.check)))
        return
    if not given.data or not given.peer:
        parser.error("expected the folder of a data set and --peer")
    with tempfile.TemporaryDirectory() as place:
        facts = write(given.data, given.steps, Path(place))
        done = subprocess.run([given.peer, __file__, "--check", place], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        found = facts | json.loads(done.stdout.splitlines()[-1])
        print(json.dumps(found))
        if given.keep:
            kept(found)


if __name__ == "__main__":
    main()
