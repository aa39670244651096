"""Run a foreign checkpoint with our parts and compare with what its own code gave; prints one JSON line.

    python -m benchmarks.parity CASE [--golden DIR] [--recorded]

CASE is a folder, or the name of one in DIR (default tests/golden), that holds `io.safetensors` and a checkpoint: whole,
or described by `weights.json`. A family is one function `answers(folder, io)` and one line in `FAMILIES`.

max_abs_diff covers outputs, conditions, closed-loop sequences and ensembles, in the model's space or in raw units over
max(1, the unit's size in them), and logits. Policies give it in float64, so that what is left is the rounding of the
recorded answers alone, and float32_diff in their own precision: where a sampler divides by small numbers, two
computations in float32 are as far apart as 2e-5, whoever made them. loss_diff and grad_diff are relative,
grad_abs_diff is not (null where there is nothing to compare); greedy_equal says whether the likeliest texts are the
same. keys_* count the tensors of the checkpoint; why one is ignored goes to stderr.

Gradients are those of every tensor of the file, as the case records them, or else, unless --recorded is given, as
transformers computes them where it is installed, or a restatement of what it lacks; grad_reference says which.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from benchmarks.parity import blip, fast, filters, language, openvla, pi, pi_fast, policy, reading, rt1, smolvla, towers
from benchmarks.parity import reference as references
from benchmarks.parity.answers import Answers, compare
from safetensors.torch import load_file
from tests.golden.materialise import materialise
from torch import Tensor

from nextmove.config import ConfigError, read_object
from nextmove.folders import open_folder

ROOT = Path(__file__).resolve().parents[2]
IO = "io.safetensors"
CASE = "case.json"
"""What a case says of sizes and options that its reference has in its code."""
READERS = ("flamingo", "idefics", "idefics3", "llava", "paligemma", "smolvlm")
POLICIES = {"act": policy.act, "diffusion": policy.diffusion, "flowpolicy": policy.flowpolicy}
FAMILIES: dict[str, Callable[[Path, Mapping[str, Tensor]], Answers]] = {
    **POLICIES,
    **dict.fromkeys(("gpt2", "llama", "qwen2", "gemma", "gemma2", "gemma3_text", "mpt"), language.answers),
    "filters": filters.answers,
    "fast": fast.answers,
    **dict.fromkeys(READERS, reading.answers),
    **dict.fromkeys(("vit", "dinov2", "dinov2_with_registers"), towers.images),
    **dict.fromkeys(("bert", "t5"), towers.texts),
    **dict.fromkeys(("clip", "siglip"), towers.pairs),
    **dict.fromkeys(("blip", "blip-pretrain"), blip.answers),
    **dict.fromkeys(("pi0", "pi05"), pi.answers),
    "pi0_fast": pi_fast.answers,
    "rt1": rt1.answers,
    "openvla": openvla.answers,
    "openvla_oft": openvla.tuned,
    "smolvla": smolvla.answers,
}


def family(folder: Path) -> str:
    """The name in `FAMILIES` of a case; raises ConfigError for one that none knows."""
    if (folder / filters.PARAMS).is_file():
        return "filters"
    if (folder / fast.CONFIG).is_file():
        return "fast"
    described = folder / CASE
    if described.is_file() and (name := read_object(described).get("family")) in FAMILIES:
        return str(name)
    saved = open_folder(folder)
    name = str(saved.config.get("type") or saved.config.get("model_type") or saved.kind)
    if name not in FAMILIES:
        raise ConfigError(f"{folder}: expected a case of {', '.join(FAMILIES)}, found one of {saved.whose}")
    return name


def run(case: Path, folder: Path, *, recorded: bool = True) -> dict[str, Any]:
    """The comparison of one case, materialised in `folder`; a case that does not load gives `error`.

    recorded: gradients that the case does not record are not asked of its reference.
    """
    whole = materialise(case, folder) if (case / "weights.json").is_file() else case
    io = load_file(whole / IO)
    grads, whose = ({}, None) if recorded else references.gradients(whole, io)
    io |= grads
    try:
        name = family(whole)
        answers = FAMILIES[name](whole, io)
    except (ConfigError, FileNotFoundError) as problem:
        return {"case": case.name, "max_abs_diff": None, "loss_diff": None, "grad_diff": None, "error": str(problem)}
    if answers.report is not None:
        print(answers.report, file=sys.stderr)
    result = {"case": case.name, **compare(answers, io), **({"grad_reference": whose} if whose else {})}
    if name in POLICIES:
        result["float32_diff"] = result["max_abs_diff"]
        result["max_abs_diff"] = compare(POLICIES[name](whole, io, torch.float64), io)["max_abs_diff"]
    return result


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", help="a case folder, or the name of one in --golden")
    parser.add_argument("--golden", type=Path, default=ROOT / "tests" / "golden")
    parser.add_argument("--recorded", action="store_true", help="gradients that the case records alone")
    arguments = parser.parse_args()
    case = Path(arguments.case)
    if not (case / IO).is_file():
        case = arguments.golden / arguments.case
    if not (case / IO).is_file():
        parser.error(f"case: expected a folder with {IO}, found {arguments.case!r}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = run(case.resolve(), Path(folder), recorded=arguments.recorded)
    print(json.dumps(result))
    return 1 if "error" in result else 0
