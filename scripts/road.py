"""The figures of every system: what docs/data says of it, most telling first.

A report's figure is the system's likelihood, sample quality or share of solved seeds. What else tells of a system
stands in tables, and `TOLD` says in which cell; a table that is not there yet is passed over, one without the cell's
column is an error. The first figure is what `nextmove road` shows, a system without any is "not measured".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Content = dict[str, Any]
Rule = Callable[[Content], str]
ABSENT = "not measured"


def cells(content: Content) -> list[dict[str, str]]:
    """The rows of a table by column, without emphasis and intervals."""
    plain = [[re.sub(r"\*\*|`| \(.*\)", "", str(value)) for value in row] for row in content["rows"]]
    return [dict(zip(content["columns"], row, strict=True)) for row in plain]


def cell(column: str, row: str, words: str, **others: str) -> Rule:
    """Words with the row's cells in braces, of the first row that is `row` in `column`, and `others` in theirs."""

    def rule(content: Content) -> str:
        wanted = {column: row, **others}
        for found in cells(content):
            if all(found[name] == value for name, value in wanted.items()):
                return words.format_map(found)
        return ""

    return rule


def solved(content: Content) -> str:
    """Solved seeds of all tasks of a table of tasks."""
    pairs = [row["solved"].split("/") for row in cells(content) if not row["task"].startswith("mean")]
    tried = sum(int(b) for _, b in pairs)
    return f"{sum(int(a) for a, _ in pairs)}/{tried} seeds of {len(pairs)} tasks" if pairs else ""


def _parity(case: str) -> tuple[str, Rule]:
    return "parity-policies", cell("case", case, "{largest difference} from the reference's plans")


def _outputs(case: str) -> tuple[str, Rule]:
    return "parity-transformers", cell("case", case, "{largest difference} from the reference's outputs")


def _heard(system: str) -> tuple[str, Rule]:
    words = "{right} motions right, {told otherwise} told otherwise"
    return "listening", cell("system", system, words)


def _head(head: str) -> tuple[str, Rule]:
    return "language-policies", cell("head", head, "{success} seeds of ten tasks by its kind of head")


def _chunk(system: str) -> tuple[str, Rule]:
    return "speed-chunks", cell("system", system, "{ms a chunk} ms a chunk")


def _said(model: str, judged: str, words: str) -> tuple[str, Rule]:
    return "see-and-speak", cell("model", model, words, judged=judged)


def _shown(judged: str, words: str) -> tuple[str, Rule]:
    return "few-shot", cell("judged", judged, words)


def _found(model: str) -> tuple[str, Rule]:
    return _said(model, "image finds its text", "{right} images of unseen combinations find their text among 64")


CLIP = "an image {x transformers} x as fast as by transformers"
PLAN = "a plan of 450 M in {ms a plan} ms, {x LeRobot float32} x LeRobot"
AHEAD = "a plan in bf16 in {ms a plan} ms, {x the peer's best} x vla.cpp at its best"
PLANNED = "a plan of 3.24 B in {a chunk, s} s"
KEPT = "a step of 450 M {faster} x as fast with kept prefixes"
TOLD: dict[str, tuple[tuple[str, Rule], ...]] = {
    "bc-z": (_chunk("bc-z"),),
    "flow-policy-3d": (
        ("metaworld-points-steps", solved),
        ("parity", cell("case", "flowpolicy", "{in float32} from the reference's plans")),
        ("speed-flowpolicy", cell("a call", "one plan", "{x} x as fast as its authors' network at its published size")),
        _chunk("flow-policy-3d"),
    ),
    "mp1": (("metaworld-mp1", solved), _chunk("mp1")),
    "ofp": (("metaworld-ofp", solved), _chunk("ofp")),
    "clip": (_found("clip"), ("speed-clip", cell("images", "1", CLIP, engine="openvino")), _outputs("clip")),
    "siglip": (_found("siglip, batches of 32"), _outputs("siglip")),
    "blip": (
        _said("blip, longer", "captions exact", "{right} captions word for word"),
        _found("blip, longer"),
        _outputs("blip-caption"),
    ),
    "flamingo": (
        _shown("4 examples", "{right} names never trained, of two shown by four examples"),
        _shown("4 examples without their images", "{right} without the examples' images"),
        _outputs("flamingo"),
    ),
    "llava": (_said("llava", "answers exact", "{right} answers word for word"), _outputs("llava")),
    "paligemma": (_outputs("paligemma"),),
    "smolvlm": (_outputs("smolvlm"),),
    "rt1": (_heard("rt1"), _parity("rt1/small"), _chunk("rt1")),
    "rt2": (_head("bins"), _heard("rt2"), _chunk("rt2")),
    "openvla": (_head("bins"), _heard("openvla"), _parity("openvla/small"), _chunk("openvla")),
    "openvla-oft": (_head("l1"), _heard("openvla-oft"), _parity("openvla_oft/small"), _chunk("openvla-oft")),
    "pi0": (
        ("speed-pi0", cell("", "later plans", PLANNED)),
        _heard("pi0"),
        _head("flow"),
        _parity("pi0/small"),
        _chunk("pi0"),
    ),
    "pi05": (_heard("pi05"), _parity("pi05/small"), _chunk("pi05")),
    "pi0-fast": (_head("fast"), _heard("pi0-fast"), _parity("pi0_fast/small"), _chunk("pi0-fast")),
    "smolvla": (
        ("speed-smolvla", cell("engine", "openvino-w8a8", PLAN)),
        ("smolvla-precision", cell("precision", "w8a8", "{success} seeds of one task in 8 bits")),
        ("speed-smolvla-vlacpp", cell("engine", "nextmove bf16", AHEAD)),
        _heard("smolvla"),
        ("prefix-speed", cell("size", "published", KEPT)),
        _parity("smolvla/small"),
        _chunk("smolvla"),
    ),
}
"""By system the tables that tell of it and where, most telling first."""


def told(system: str, contents: Mapping[str, Content]) -> list[tuple[str, str]]:
    """All that tables say of a system, each as the words and the table's name."""
    found = []
    for name, rule in TOLD.get(system, ()):
        if name in contents:
            try:
                words = rule(contents[name])
            except KeyError as absent:
                columns = ", ".join(contents[name]["columns"])
                raise SystemExit(f"docs/data/{name}.json: expected a column {absent}, found {columns}") from None
            found += [(words, name)] if words else []
    return found


def figures(contents: Mapping[str, Content]) -> dict[str, str]:
    """One figure for each line of a report and each system that tables tell of, with the file's name."""
    found: dict[str, str] = {}
    for name, content in contents.items():
        for run, one in content.get("generators", {}).items():
            likely, quality = one["likelihood"], one["quality"]
            if likely:
                key, value = next(iter(likely.items()))
                found.setdefault(run, f"{value:.4g} {key.replace('_', ' ')} ({name})")
            elif quality:
                found.setdefault(run, f"1-NN {quality['against_test']['accuracy']:.3f} ({name})")
    for name, content in contents.items():
        for policy, one in content.get("policies", {}).items():
            s = one["success"]
            found.setdefault(re.sub(r"-n\d+.*", "", policy), f"{s['successes']}/{s['episodes']} seeds ({name})")
    for system in TOLD:
        for words, name in told(system, contents)[:1]:
            found.setdefault(system, f"{words} ({name})")
    return found
