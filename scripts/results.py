"""Keeps docs/results.md and the measured numbers of README and the other pages equal to the files in docs/data.

    python scripts/results.py keep runs/demo/report.json demo --title "..." --command "make demo"
    python scripts/results.py gather runs/digits digits --title "..." --command "make digits"
    python scripts/results.py keep runs/compare/report.json compare-100 --demonstrations 100 --add  # joins those kept
    python scripts/results.py write
    python scripts/results.py check        # fails where a page is not what the data say

A file in docs/data is a kept report (`policies`), reports of generators (`generators`), or a table (`columns`, `rows`);
all carry title, command, machine and date; where lines come from several machines, each line names its own. What
`nextmove road` shows is written into the package from them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

from result_tables import (
    COLUMNS,
    TESTED,
    entries_table,
    generator_table,
    policy_row,
    policy_table,
    several,
    table,
    tests,
)
from road import ABSENT, figures, told

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "data"
MEASURED = ROOT / "src" / "nextmove" / "measured.json"
KEPT = ("success", "mean_max_reward", "mean_steps", "jerk", "ms_per_chunk", "hz", "parameters", "train_minutes", "mode")
FACTS = ("seed", "episodes", "steps", "minutes", "entry", "demonstrations")
HEAD = """# Results

Every number here comes from a file in [`docs/data`](data), written by the command beside it; this page is made by
`python scripts/results.py write`. Success is solved held-out seeds of all, with the 95 % Wilson interval; *ms per
chunk* is one plan on one thread; *Hz* is 1000 / p99 of it, the rate at which the policy can re-plan. *1-NN* is how
often an image's nearest neighbour is of its own kind, and for real and generated images by themselves: only samples for
which both are near .5 pass for real.
"""


def keep(report: Path, name: str, head: dict[str, Any], add: bool, demonstrations: int = 0) -> None:
    """Takes the numbers of a report into docs/data, with the episodes which were not solved, and no videos.

    Of a comparison only the lines trained on so many demonstrations; 0: all.
    """
    full = json.loads(report.read_text())
    policies = {}
    for p, v in full["policies"].items():
        if demonstrations not in (0, v["facts"].get("demonstrations")):
            continue
        # Enough for paired tests against lines measured later.
        played = sorted(v["episodes"], key=lambda e: e["seed"])
        policies[p] = {k: v[k] for k in KEPT if k in v} | {
            "seeds": [played[0]["seed"], played[-1]["seed"]],
            "unsolved": [e["seed"] for e in played if not e["success"]],
            "facts": {k: x for k, x in v["facts"].items() if k in FACTS},
            **{k: v["facts"][k] for k in ("date", "machine", "simulator") if k in v["facts"]},
        }
    if not policies:
        raise SystemExit(f"{report}: expected lines of {demonstrations} demonstrations, found none")
    content = _into(name, "policies", policies, full, head, add)
    _write(name, content | {"comparisons": compared(content["policies"])})


def gather(folder: Path, name: str, head: dict[str, Any], add: bool) -> None:
    """Takes the figures of all generators judged below a folder into docs/data."""
    found = {path.parent.parent.name: json.loads(path.read_text()) for path in folder.glob("*/evaluation/report.json")}
    if not found:
        raise SystemExit(f"{folder}: expected RUN/evaluation/report.json, found none")
    facts = ("seed", "steps", "minutes", "parameters", "data", "levels", "labels", "tokens")
    generators = {
        run: {k: r[k] for k in ("likelihood", "quality", "speed")}
        | {"facts": {k: r["facts"][k] for k in facts if k in r["facts"]}}
        for run, r in sorted(found.items())
    }
    _write(name, _into(name, "generators", generators, next(iter(found.values())), head, add))


def _into(name: str, kind: str, lines: dict[str, Any], full: Any, head: dict[str, Any], add: bool) -> dict[str, Any]:
    """A file's new content; with `add` the lines join those kept, and what the head leaves out stays.

    A line says when and where it was measured; where it says nothing, that is what was kept of it, or now and here.
    """
    path, date = DATA / f"{name}.json", time.strftime("%Y-%m-%d", time.gmtime())
    old: dict[str, Any] = json.loads(path.read_text()) if add and path.is_file() else {}
    head = {k: v for k, v in head.items() if v is not None}
    if absent := {"title", "command"} - {**old, **head}.keys():
        raise SystemExit(f"{name}: expected --{' and --'.join(sorted(absent))}")
    own = {"date": date, "machine": full["machine"]}
    kept = {p: {"date": old["date"], "machine": old["machine"]} | v for p, v in old.get(kind, {}).items()}
    content = {"note": "", **old, **head, "date": date, "machine": full["machine"], "versions": full["versions"]}
    # A line with a date of its own was not measured now, perhaps not here.
    said = {p: {"machine": kept[p]["machine"]} for p, v in lines.items() if "date" in v and p in kept}
    return content | {kind: kept | {p: own | said.get(p, {}) | v for p, v in lines.items()}}


def _write(name: str, content: dict[str, Any]) -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    (DATA / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def compared(policies: dict[str, Any]) -> list[dict[str, Any]]:
    """McNemar's test between all pairs that played the same seeds, corrected together."""
    from nextmove.evaluation.paired import holm, mcnemar

    pairs = []
    for a, b in combinations(policies, 2):
        if policies[a]["seeds"] == policies[b]["seeds"]:
            lost_a, lost_b = set(policies[a]["unsolved"]), set(policies[b]["unsolved"])
            only_a, only_b = len(lost_b - lost_a), len(lost_a - lost_b)
            pairs.append({"a": a, "b": b, "only_a": only_a, "only_b": only_b, "p": mcnemar(only_a, only_b)})
    return [c | {"p_adjusted": p} for c, p in zip(pairs, holm([c["p"] for c in pairs]), strict=True)]


def efficiency(contents: dict[str, Any]) -> None:
    """Draws success by number of demonstrations over all reports."""
    from nextmove.evaluation.plots import efficiency_plot, standalone
    from nextmove.evaluation.report import by_demonstrations

    reports = [c["policies"] for name, c in contents.items() if re.fullmatch(r"compare-\d+", name)]
    rates = by_demonstrations({f"{i}{name}": p for i, found in enumerate(reports) for name, p in found.items()})
    if rates:
        (ROOT / "docs" / "pictures" / "efficiency.svg").write_text(standalone(efficiency_plot(rates)) + "\n")


def calls(contents: dict[str, Any]) -> None:
    """Draws sample quality over network calls of every table of them."""
    from nextmove.evaluation.plots import calls_plot, standalone

    for name, content in contents.items():
        if name.startswith("calls-"):
            curves: dict[str, list[tuple[float, float]]] = {}
            for system, count, _, distance, _ in content["rows"]:
                curves.setdefault(system, []).append((float(count), float(distance)))
            picture = standalone(calls_plot(curves, "sliced W2 to held-out images"))
            (ROOT / "docs" / "pictures" / f"{name}.svg").write_text(picture + "\n")


def simulators(content: dict[str, Any]) -> list[str]:
    """The packages whose simulators made a file's figures, as text; of several versions each. None where none ran."""
    versions: dict[str, list[str]] = {}
    for one in (content, *content.get("policies", {}).values()):
        for package, version in one.get("simulator", {}).get("packages", {}).items():
            if version not in versions.setdefault(package, []):
                versions[package].append(version)
    return [", ".join(f"{package} {' and '.join(found)}" for package, found in versions.items())] if versions else []


def section(content: dict[str, Any]) -> str:
    """One file as a section."""
    machine = content.get("machine", "")
    if several(content.get("policies", content.get("generators", {}))):
        machine = "machines by line"
    if isinstance(machine, dict):
        machine = ", ".join(str(v) for v in machine.values())
    made = [f"`{content['command']}`", content["date"], machine, *simulators(content)]
    lines = [f"## {content['title']}", "", " · ".join(made), ""]
    if content.get("note"):
        lines += [content["note"], ""]
    if "policies" in content:
        lines.append(policy_table(content["policies"]))
        if content["comparisons"]:
            lines += ["", TESTED, "", tests(content)]
    elif "generators" in content:
        lines.append(generator_table(content["generators"]))
    else:
        lines.append(table(content["columns"], content["rows"]))
    return "\n".join(lines) + "\n"


def pages() -> dict[Path, str]:
    """Every page that holds measured numbers, as it should be."""
    contents = {path.stem: json.loads(path.read_text()) for path in sorted(DATA.glob("*.json"))}
    made = {ROOT / "docs" / "results.md": "\n".join([HEAD, *(section(c) for c in contents.values())])}
    made[MEASURED] = json.dumps(figures(contents), indent=1, ensure_ascii=False) + "\n"
    made |= {path: _filled(path, contents) for path in written_into()}
    return made


def written_into() -> list[Path]:
    """The pages with marked blocks: README and what is in docs, but for the page that is made whole."""
    docs = [path for path in sorted((ROOT / "docs").rglob("*.md")) if path.name != "results.md"]
    return [ROOT / "README.md", *docs]


def _filled(path: Path, contents: dict[str, Any]) -> str:
    """The text of a page with its marked blocks as the data say."""
    results = os.path.relpath(ROOT / "docs" / "results.md", path.parent)
    begun, ended = path.read_text().count("<!-- measured:"), path.read_text().count("<!-- /measured -->")
    if begun != ended:
        raise SystemExit(
            f"{path}: expected <!-- /measured --> behind each <!-- measured:NAME -->, found {ended}/{begun}"
        )
    return re.sub(
        r"<!-- measured:([\w-]+)((?: \|[^|>]+)*) -->\n.*?<!-- /measured -->",
        lambda m: f"<!-- measured:{m[1]}{m[2]} -->\n{measured(m[1], m[2], contents, results)}<!-- /measured -->",
        path.read_text(),
        flags=re.DOTALL,
    )


def source(content: dict[str, Any], results: str) -> str:
    """The command of a file where it is one, and where all its numbers stand: `results`, as the page links it."""
    link = _link(content, results, "all figures")
    return link if ";" in content["command"] else f"`{content['command']}` · {link}"


def _link(content: dict[str, Any], results: str, words: str) -> str:
    """A link to where all numbers of a file stand."""
    anchor = re.sub(r"[^\w\- ]", "", content["title"].lower()).replace(" ", "-")
    return f"[{words}]({results}#{anchor})"


def measured(name: str, columns: str, contents: dict[str, Any], results: str) -> str:
    """A whole file by its name (of some columns only: " | this | that"), or all lines of one system.

    `tasks` is the table of simulated tasks, `road` that of all systems with a figure each. A generator's name is its
    system before it is a file's.
    """
    shown = [c.strip() for c in columns.split("|") if c.strip()]
    if name == "tasks":
        from nextmove.cli.tasks import COLUMNS as SUITES
        from nextmove.cli.tasks import suites

        return table(list(SUITES), [[f"`{row[0]}`", *row[1:]] for row in suites()]) + "\n"
    if name == "road":
        return whole_road(contents, results) + "\n"
    reports = {n: c for n, c in contents.items() if "policies" in c}
    generated = {n: c for n, c in contents.items() if "generators" in c}
    if name in generated:
        return f"{source(generated[name], results)}\n\n{generator_table(generated[name]['generators'], shown)}\n"
    own = {n: {r: f for r, f in c["generators"].items() if r == name} for n, c in generated.items()}
    if any(own.values()):
        parts = [f"[{n}]({results}):\n\n{generator_table(g)}\n" for n, g in own.items() if g]
        return "\n".join(parts)
    if name in reports:
        return f"{source(reports[name], results)}\n\n{entries_table(reports[name]['policies'], shown)}\n"
    if name in contents and "rows" in contents[name]:
        return f"{source(contents[name], results)}\n\n{table(contents[name]['columns'], contents[name]['rows'])}\n"
    rows = [
        [*policy_row(n, p), (p if "machine" in p else c)["machine"]["processor"], f"[{report}]({results})"]
        for report, c in reports.items()
        for n, p in c["policies"].items()
        if re.fullmatch(rf"{re.escape(name)}(-n\d+.*)?", n)
    ]
    lines = [f"- **{words}** ({_link(contents[found], results, found)})" for words, found in told(name, contents)]
    made = [table([*COLUMNS, "machine", "from"], rows)] if rows else []
    return "\n\n".join([*made, *(["\n".join(lines)] if lines else [])] or [f"{ABSENT.capitalize()} yet."]) + "\n"


def whole_road(contents: dict[str, Any], results: str) -> str:
    """Every system with its page, what it changed, and its figure."""
    from nextmove.systems import SYSTEMS

    found, rows = figures(contents), []
    for system in SYSTEMS:
        figure, _, name = found.get(system.name, ABSENT).removesuffix(")").rpartition(" (")
        shown = f"{figure} ({_link(contents[name], results, name)})" if name in contents else ABSENT
        rows.append([f"[{system.title}](systems/{system.name}.md)", system.since, shown])
    return table(["system", "what it changed", "measured"], rows)


def _head(args: argparse.Namespace) -> dict[str, Any]:
    return {part: getattr(args, part) for part in ("title", "command", "note")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command_name", required=True)
    keeping, gathering = commands.add_parser("keep"), commands.add_parser("gather")
    keeping.add_argument("report", type=Path)
    keeping.add_argument("--demonstrations", type=int, default=0, help="only the lines trained on so many")
    gathering.add_argument("folder", type=Path)
    for one in (keeping, gathering):
        one.add_argument("name")
        one.add_argument("--add", action="store_true", help="keep the lines that are there, and head and note")
        for part in ("title", "command", "note"):
            one.add_argument(f"--{part}")
    commands.add_parser("write")
    commands.add_parser("check")
    args = parser.parse_args()
    if args.command_name == "keep":
        keep(args.report, args.name, _head(args), args.add, args.demonstrations)
    if args.command_name == "gather":
        gather(args.folder, args.name, _head(args), args.add)
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    if args.command_name == "check":
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what docs/data says; run scripts/results.py write", file=sys.stderr)
        return bool(stale)
    for path in stale:
        path.write_text(pages()[path])
    contents = {path.stem: json.loads(path.read_text()) for path in sorted(DATA.glob("*.json"))}
    efficiency(contents)
    calls(contents)
    return 0


if __name__ == "__main__":
    sys.exit(main())
