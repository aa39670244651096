"""Do policies that read instructions and learned here act the same in LeRobot and openpi? One JSON line for each.

    python benchmarks/vla_peers.py DATA --lerobot PYTHON       # an environment as of `vla_lerobot.py`
    python benchmarks/vla_peers.py DATA --openpi PYTHON FOLDER # as of `vla_openpi.py`, and openpi's repository

A tokenizer is fitted on the tasks of a data set; `nextmove train` makes a SmolVLA, pi0, pi0.5 and pi0-FAST of it, which
are written in the peer's layout. The peer loads each, every tensor is compared with the file's, and it plans for raw
frames of the data and their tasks from given noise: LeRobot with its own processors, after which it acts in a row
through its own queue; openpi's model, of ids of the words. Differences are in raw units over max(1, what one unit of
the model's space is in them). Of pi0-FAST, which draws nothing, LeRobot's ids have to be ours, and its loss.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import vla_sizes

MARKS = {"fake_image_token": "<fake_token_around_image>", "global_image_token": "<global-img>",
         "image_token": "<image>", "end_of_utterance_token": "<end_of_utterance>"}  # fmt: skip
PAD, BEGIN, IDS, LAST, FRAMES = "<pad>", "<bos>", 400, 800, 6
STEPS = {"smolvla": 20, "pi0": 20, "pi05": 20, "pi0-fast": 200}
"""Of training: pi0-FAST goes on until its greedy ids are chunks, which LeRobot has no rule for."""
PIECES, HORIZON = 128, 6
HERE = Path(__file__).parent
OPENPI = ("pi0", "pi05")
"""What openpi's PyTorch code has."""


def tokenizer(texts: list[str], file: Path, last: int = 0) -> None:
    """Writes byte pairs that these texts have; last: tokens behind them that no text has, and one in front of all."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    special = [PAD, BEGIN, *MARKS.values()]
    trainer = trainers.BpeTrainer(vocab_size=IDS, special_tokens=special, initial_alphabet=letters, show_progress=False)
    backend.train_from_iterator([*texts, *["Action: |"] * 99], trainer)
    if last:
        backend.post_processor = processors.TemplateProcessing(f"{BEGIN} $A", special_tokens=[(BEGIN, 1)])
    whole = json.loads(backend.to_str())
    whole["model"]["vocab"] |= {f"<{i}>": backend.get_vocab_size() + i for i in range(last)}
    file.write_text(json.dumps(whole))


def small(recipe: Any) -> Any:
    """A recipe of the published kind at a size that trains in seconds, with the eight heads that LeRobot expects."""
    from nextmove.models.vision_language.paligemma import gemma
    from nextmove.nn.feedforward import DenseMlp, GatedMlp

    reading, (words, moves), eye = recipe.encoder, vla_sizes.GEMMA.values(), vla_sizes.VISION
    tower = replace(
        reading.towers[0], image=eye["image_size"], patch=eye["patch_size"], width=eye["hidden_size"],
        layers=eye["num_hidden_layers"], heads=eye["num_attention_heads"],
        feedforward=DenseMlp(eye["intermediate_size"]),
    )  # fmt: skip
    language = gemma(words["width"], words["depth"], words["num_heads"], words["head_dim"], words["mlp_dim"])
    prompt = replace(reading.prompt, length=96)
    made = replace(
        recipe,
        timing=replace(recipe.timing, horizon=HORIZON, n_action_steps=HORIZON),
        encoder=replace(reading, language=language, towers=(tower,), prompt=prompt),
        optim=replace(recipe.optim, lr=3e-3, warmup=10, batch=16, ema=0.0),
    )
    if recipe.actions.fast:
        ahead = recipe.decoder.trunk.lead[:1]
        actions = replace(recipe.actions, fast_scale=1.0, fast_length=0)
        return replace(made, encoder=replace(made.encoder, ahead=ahead), actions=actions)
    expert = replace(recipe.decoder.trunk, width=moves["width"], feedforward=GatedMlp(moves["mlp_dim"], "gelu_tanh"))
    return replace(made, decoder=replace(recipe.decoder, trunk=expert))


def begun(system: str, spec: Any, words: Path, folder: Path) -> None:
    """Writes the untrained policy of a small recipe, from which `nextmove train` starts."""
    from nextmove import store
    from nextmove.codecs.tokenizer import Tokenizer
    from nextmove.models.policy.pi0 import Pi0
    from nextmove.models.policy.pi0_fast import Pi0Fast
    from nextmove.models.policy.pi05 import Pi05

    read = Tokenizer.open(words)
    recipe: Any = {"pi0": Pi0, "pi05": Pi05, "pi0-fast": Pi0Fast}[system].published(spec.inputs)
    if recipe.actions.fast:
        recipe = replace(recipe, actions=replace(recipe.actions, fast=PIECES))
    policy: Any = store.create(system, spec, small(recipe.worded(read).seeing(spec.inputs)))
    policy.encoder.tokenizer.adopt(read)
    store.save(policy, folder)


def trained(system: str, dataset: Any, data: Path, steps: int, folder: Path) -> Any:
    """The policy that `nextmove train` makes of a data set, reading words of a tokenizer fitted on its tasks."""
    from nextmove import store
    from nextmove.jobs.tasks.policy import spec_of

    words = folder / "words.json"
    tokenizer(list(dataset.tasks.values()), words, 0 if system == "smolvla" else LAST)
    command = [sys.executable, "-m", "nextmove", "train", system, str(data), "--steps", str(steps)]
    command += ["--out", str(folder / "ours")]
    if system == "smolvla":
        command += ["--tokenizer", str(words)]
    else:
        begun(system, spec_of(dataset), words, folder / "begun")
        command += ["--from", str(folder / "begun")]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return store.load(folder / "ours" / "model").eval()


def written(policy: Any, folder: Path) -> None:
    """The policy in the peers' layouts; sizes of pi0 that LeRobot has no name for are not the command's to write."""
    from nextmove.interop import pi, pi_fast
    from nextmove.jobs import export_lerobot

    kind = {"pi0": pi, "pi05": pi, "pi0-fast": pi_fast}.get(policy.card.system)
    if kind is None:
        export_lerobot(folder / "ours", folder / "theirs")
    else:
        kind.export(policy, folder / "theirs")
    if policy.card.system in OPENPI:
        pi.export_openpi(policy, folder / "openpi")


def write(system: str, data: Path, steps: int, folder: Path) -> dict[str, Any]:
    """Our side: the trained policy, its folders for the peers, observations, noise and plans, how large units are."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from nextmove.data import open_dataset

    dataset = open_dataset(data)
    policy = trained(system, dataset, data, steps, folder)
    written(policy, folder)
    at = np.linspace(0, len(dataset) - HORIZON, FRAMES)
    items = [dataset.item(int(i), return_uint8=True) for i in at]
    seen = {n: torch.stack([item[n] for item in items]) for n in policy.inputs if n != "task"}
    tasks = [str(item["task"]) for item in items]
    obs: dict[str, Any] = {n: (v.movedim(-3, -1) if v.dtype == torch.uint8 else v)[:, None] for n, v in seen.items()}
    case = {f"in.{n}": v for n, v in seen.items()} | planned(policy, obs | {"task": tasks}, tasks)
    if policy.codec.fast is not None:
        moves = [[dataset.item(int(i) + k)["action"] for k in range(HORIZON)] for i in at]
        case |= told(policy, obs | {"task": tasks}, torch.stack([torch.stack(row) for row in moves]))
    save_file({n: v.contiguous() for n, v in case.items()}, folder / "case.safetensors")
    facts = {"system": system, "tasks": tasks, "pad": PAD, "begin": BEGIN, "marks": MARKS}
    (folder / "case.json").write_text(json.dumps(facts))
    return {"system": system, "parameters": sum(p.numel() for p in policy.parameters()), "steps": steps}


def planned(policy: Any, obs: dict[str, Any], tasks: list[str]) -> dict[str, Any]:
    """Our plans of observations, the noise that they begin with, what is read in words, and how large units are."""
    import torch

    from nextmove.contracts import normal, seeded

    fast, reading, scale = policy.codec.fast is not None, policy.encoder, policy.codec.scale
    noise = torch.zeros(0) if fast else normal((FRAMES, *policy.shape), seeded(1))
    with torch.inference_mode():
        ctx, given = reading.acting(obs, batch=FRAMES), {} if fast else {"noise": noise}
        made = policy.decoder.sample(ctx, shape=policy.shape, rng=seeded(2), **given)
        told = reading.shown(obs) if reading.config.state == "words" else None
        words = reading.config.prompt.ids(reading.tokenizer, reading.config.prompt.texts(tasks, told))
        ones, zeros = torch.ones(1, scale.width), torch.zeros(1, scale.width)
        unit, out = (scale.decode(ones) - scale.decode(zeros)).abs()[0], policy.codec.decode(made, obs)
    found = {"noise": noise, "out": out, "unit": unit, "words": words.ids, "told": words.mask}
    return found | ({"ids": spoken(policy, made)} if fast else {})


def told(policy: Any, obs: dict[str, Any], moves: Any) -> dict[str, Any]:
    """Demonstrated moves (B, H, A) as the ids that are learnt, and our loss of each row."""
    import torch

    x = policy.codec.encode(moves, obs)
    with torch.inference_mode():
        rows = [{name: value[i : i + 1] for name, value in obs.items()} for i in range(len(x))]
        loss = [policy.decoder.loss_at(policy.context(one), x[i : i + 1])["nll"] for i, one in enumerate(rows)]
    begin = torch.full((len(x), 1), policy.decoder.net.config.lead[0])
    return {"moves": torch.cat([begin, spoken(policy, x.clamp(min=0).where(x >= 0, policy.decoder.config.end))], 1),
            "loss": torch.stack(loss)}  # fmt: skip


def spoken(policy: Any, made: Any) -> Any:
    """Classes (B, L) as ids of the vocabulary, what stands in front of them first; 0 behind the end, as LeRobot has."""
    import torch

    net = policy.decoder.net
    lead = torch.tensor(net.config.lead[1:]).expand(len(made), -1)
    ended = (made == policy.decoder.config.end).cumsum(1)
    ids = net.table[made]
    return torch.cat([lead, ids.where((ended == 0) | ((ended == 1) & (made == policy.decoder.config.end)), 0)], 1)


def kept(found: list[dict[str, Any]], lerobot: bool) -> None:
    """The table of a peer in docs/data."""
    from kept_table import keep

    trained = "`nextmove train` on recorded demonstrations with a camera of 96 px, words read by a tokenizer fitted on "
    trained += "their tasks; pi0, pi0.5 and pi0-FAST are small ones of the published kinds of parts, whose sizes the "
    apart = "Differences in raw units over max(1, what a unit of the model's space is in them)."
    columns = ["policy", "steps", "parameters, M", "tensors", "lacking, left over or others", "frames"]
    rows = [[
        one["system"], str(one["steps"]), f"{one['parameters'] / 1e6:.2f}", str(one["tensors"]), str(one["wrong"]),
        str(FRAMES), f"{one['plan_diff']:.1e}",
    ] for one in found]  # fmt: skip
    if not lerobot:
        keep(
            "openpi-acts-trained",
            title="Policies that read instructions and learned here, in openpi",
            command="python benchmarks/vla_peers.py DATA --openpi OPENPI/bin/python FOLDER --keep",
            note=f"{trained}peer was told. `pi.export_openpi` wrote them, openpi's own PyTorch model loaded the file "
            "strictly, and both planned for frames of the data, the ids of their words and states, scaled by the "
            f"written statistics as openpi's transforms do, from the same noise. {apart}",
            columns=[*columns, "plan, largest difference"],
            rows=rows,
        )
        return
    keep(
        "lerobot-acts-trained",
        title="Policies that read instructions and learned here, in LeRobot",
        command="python benchmarks/vla_peers.py DATA --lerobot LEROBOT/bin/python --keep",
        note=f"{trained}peer, which has names for one size, was told. LeRobot {found[0]['lerobot']} loaded each "
        "exported folder with `strict=True`, its processors made of it and its own tokenizer of the file, and both "
        "planned for frames of the data and their instruction from the same noise; then LeRobot acted step by step "
        "through its own queue. Of pi0-FAST's tokenizer of actions it was given the tables, for its class lies on a "
        "hub; it draws nothing, and LeRobot chose among all ids of the vocabulary, where we choose among those that "
        "keep a chunk decodable. After so few steps those chunks are one piece each, so its loss of demonstrated ones, "
        f"in which every id counts, is compared row by row beside them. {apart}",
        columns=[*columns, "plan, largest difference", "actions in a row", "ids that differ", "losses"],
        rows=[
            [
                *row,
                f"{one['action_diff']:.1e}",
                "–" if one["ids"] is None else f"{one['ids_differ']} of {one['ids']}",
                "–" if one["loss_diff"] is None else f"{one['loss_diff']:.1e}",
            ]
            for row, one in zip(rows, found, strict=True)
        ],
    )


def asked(command: list[str], system: str) -> dict[str, Any]:
    """What a peer prints last."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{system}: {done.stdout[-1000:]}{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of a data set with a camera and tasks")
    parser.add_argument("--lerobot", default="", help="the Python of an environment with LeRobot 0.6.1, transformers")
    parser.add_argument("--openpi", nargs=2, default=(), help="the Python of an environment, and openpi's repository")
    parser.add_argument("--only", default="", choices=("", *STEPS), help="one of the systems")
    parser.add_argument("--keep", action="store_true", help="write the tables in docs/data")
    given = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"lerobot": [], "openpi": []}
    for system, steps in STEPS.items():
        if given.only not in ("", system) or not (given.lerobot or system in OPENPI):
            continue
        with tempfile.TemporaryDirectory() as place:
            facts = write(system, given.data, steps, Path(place))
            if given.lerobot:
                found["lerobot"].append(facts | asked([given.lerobot, str(HERE / "vla_lerobot.py"), place], system))
            if given.openpi and system in OPENPI:
                python, source = given.openpi
                found["openpi"].append(facts | asked([python, str(HERE / "vla_openpi.py"), source, place], system))
        print(json.dumps({peer: rows[-1] for peer, rows in found.items() if rows}), flush=True)
    for peer, rows in found.items():
        if given.keep and rows:
            kept(rows, peer == "lerobot")


if __name__ == "__main__":
    main()
