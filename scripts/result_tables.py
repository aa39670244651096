"""Markdown tables of what docs/data keeps: comparisons of policies, generators, and paired tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any


def generator_cells(found: dict[str, Any]) -> dict[str, str]:
    """Figures of one generator by the heading they stand under."""
    cells = {k.replace("_", " "): f"{v:.3f}" for k, v in found["likelihood"].items()}
    quality, speed, facts = found["quality"], found["speed"], found["facts"]
    if quality:
        near = quality["nearest_train"]
        for part in ("test", "train"):
            scores = quality[f"against_{part}"]
            cells[f"1-NN {part}"] = f"{scores['accuracy']:.3f} ({scores['real']:.2f}, {scores['generated']:.2f})"
        cells["SW2"] = f"{quality['sliced_w2']:.3f}"
        cells["nearest train (test images)"] = f"{near['generated']:.2f} ({near['test']:.2f})"
    if "class_share" in quality:
        share = quality["class_share"]
        cells["class share"] = f"{100 * min(share):.0f}–{100 * max(share):.0f} %"
    if "seconds_per_image" in speed:
        cells["s per image"] = f"{speed['seconds_per_image']:.3g}"
        cells["calls"] = f"{speed['network_calls']:.0f}"
    if "tokens_per_second" in speed:
        cells["tokens/s"] = f"{speed['tokens_per_second']:.0f}"
    return cells | {
        "M parameters": f"{facts['parameters'] / 1e6:.2f}",
        "minutes": f"{facts['minutes']:g}",
        "seed": str(facts["seed"]),
    }


def generator_table(generators: dict[str, Any], shown: Sequence[str] = ()) -> str:
    """All generators of a file, with the columns shown (none named: all); a figure that one does not have is a dash."""
    cells = {run: generator_cells(found) for run, found in generators.items()}
    if several(generators):
        cells = {run: row | {"machine": processor(generators[run])} for run, row in cells.items()}
    last = [c for c in ("M parameters", "minutes", "seed", "machine") if any(c in row for row in cells.values())]
    columns = list(dict.fromkeys(c for row in cells.values() for c in row if c not in last)) + last
    if unknown := set(shown) - set(columns):
        raise SystemExit(f"columns: expected some of {', '.join(columns)}, found {', '.join(sorted(unknown))}")
    columns = list(shown) or columns
    cells = {run: row for run, row in cells.items() if any(c in row for c in columns if c not in last)}
    return table(["run", *columns], [[f"`{run}`", *(row.get(c, "–") for c in columns)] for run, row in cells.items()])


def table(columns: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def policy_row(name: str, policy: dict[str, Any]) -> list[str]:
    """One line of a comparison."""
    s, ms = policy["success"], policy["ms_per_chunk"]
    return [
        f"`{name}`",
        f"**{s['successes']}/{s['episodes']}** ({100 * s['low']:.0f}–{100 * s['high']:.0f} %)",
        f"{policy['mean_max_reward']:.3f}",
        f"{policy['jerk']:.0f}",
        f"{ms['p50']:.1f} / {ms['p99']:.1f}",
        f"{policy['hz']['per_replan']:.0f}",
        f"{policy['parameters'] / 1e6:.2f}",
        f"{policy['facts'].get('minutes', policy.get('train_minutes')):g}",
        str(policy["facts"].get("seed", "")),
    ]


def policy_table(policies: dict[str, Any]) -> str:
    """All lines of a comparison, those of other training seeds beside the first."""
    entry = {n: p["facts"].get("entry", n) for n, p in policies.items()}
    order = list(dict.fromkeys(entry.values()))
    policies = {n: policies[n] for n in sorted(policies, key=lambda n: order.index(entry[n]))}
    rows = [policy_row(n, p) for n, p in policies.items()]
    if not several(policies):
        return table(COLUMNS, rows)
    return table([*COLUMNS, "machine"], [[*row, processor(p)] for row, p in zip(rows, policies.values(), strict=True)])


def entries_table(policies: dict[str, Any], shown: Sequence[str] = ()) -> str:
    """A comparison with all training seeds of an entry on one line, best first; latency is the first seed's.

    shown: the columns beside the policy; none named: all.
    """
    entries: dict[str, list[Any]] = {}
    for name, policy in policies.items():
        entries.setdefault(policy["facts"].get("entry", name), []).append(policy)
    columns, rows = [c for c in COLUMNS if c not in ("success", "seed")], []
    for entry, found in sorted(entries.items(), key=lambda item: -mean_of(item[1], lambda p: p["success"]["rate"])):
        row = dict(zip(COLUMNS, policy_row(entry, found[0]), strict=True))
        row["mean max reward"] = f"{mean_of(found, lambda p: p['mean_max_reward']):.3f}"
        row["jerk (px/s³)"] = f"{mean_of(found, lambda p: p['jerk']):.0f}"
        if len(found) > 1:
            solved = ", ".join(str(p["success"]["successes"]) for p in found)
            row["success"] = f"**{solved}** of {found[0]['success']['episodes']} each"
        name, *rest = (row[c] for c in columns)
        rows.append([name, row["success"], *rest, processor(found[0])])
    heads = ["policy", "success, by training seed", *columns[1:], "machine"]
    heads = heads if several(policies) else heads[:-1]
    if unknown := set(shown) - set(heads):
        raise SystemExit(f"columns: expected some of {', '.join(heads)}, found {', '.join(sorted(unknown))}")
    taken = [i for i, head in enumerate(heads) if not i or not shown or head in shown]
    return table([heads[i] for i in taken], [[row[i] for i in taken] for row in rows])


def mean_of(policies: list[Any], figure: Callable[[Any], float]) -> float:
    """Mean of a figure over training seeds."""
    return sum(map(figure, policies)) / len(policies)


def processor(line: dict[str, Any]) -> str:
    """Name of the processor a line was measured on."""
    return str(line["machine"]["processor"]) if "machine" in line else ""


def several(lines: dict[str, Any]) -> bool:
    """Whether the lines of a table come from different machines."""
    return len({processor(line) for line in lines.values()}) > 1


COLUMNS = [
    "policy", "success", "mean max reward", "jerk (px/s³)", "ms per chunk p50 / p99", "Hz", "M parameters", "minutes",
    "seed",
]  # fmt: skip


TESTED = """Paired tests on the same seeds, best first: seeds that only this one : only the other solves, p of the exact
McNemar test (after Holm's correction over all pairs)."""


def tests(content: dict[str, Any]) -> str:
    """Each policy of a comparison against its better neighbour and against the best."""
    policies = content["policies"]
    order = sorted(policies, key=lambda n: (-policies[n]["success"]["rate"], -policies[n]["mean_max_reward"]))
    found = {(c["a"], c["b"]): (c["only_a"], c["only_b"], c["p"], c["p_adjusted"]) for c in content["comparisons"]}
    found |= {(b, a): (m, n, p, q) for (a, b), (n, m, p, q) in found.items()}

    def cell(a: str, b: str) -> str:
        mine, theirs, p, adjusted = found[a, b]
        return f"{mine} : {theirs}, p = {p:.2g} ({adjusted:.2g})"

    rows = [[f"`{n}`", cell(n, before), cell(n, order[0])] for before, n in pairwise(order)]
    return table(["policy", "against the one before", f"against `{order[0]}`"], rows)
