"""Makes a data set of simulated scenes with captions, questions and answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from nextmove import sim
from nextmove.config import ConfigError, read_object
from nextmove.data.pair_rows import Row, read_captions
from nextmove.evaluation.priors import blind_share, priors, table
from nextmove.evaluation.progress import progress_bar
from nextmove.evaluation.samples_page import Sample, write_samples
from nextmove.host.files import write_json, write_text
from nextmove.host.lock import hold
from nextmove.host.workers import Failure, run_tasks
from nextmove.jobs.repeat import Call, at_least, repeatable, share, writable_dir
from nextmove.jobs.scene_parts import HELD, IMAGES, ROWS, TRAIN, Drawer, Part, Settings, parts
from nextmove.sim.scenes import TABLES, Source, sources

ABOUT, CAPTIONS, PAGE = "scenes.json", "captions.jsonl", "scenes.html"
SHOWN = 12
"""Scenes of a source on the page, a third of them held out."""


@repeatable
def scenes(
    call: Call,
    out: str | Path,
    *,
    tasks: tuple[str, ...] = tuple(TABLES),
    scenes: int = 4000,
    size: int = 128,
    questions: int = 4,
    held_out: float = 0.15,
    seed: int = 0,
    workers: int = 2,
) -> Path:
    """Draws scenes of simulators with captions, questions and answers, for vision-language models to train on.

    OUT holds images, captions.jsonl (each row an image, a text or question and answer, its kind and split), scenes.json
    and scenes.html to look at. Held-out scenes show compositions of colour, thing and place that no other scene has, or
    are of other demonstrations. Finished parts survive a stop; the same command goes on. The result does not depend on
    the number of workers. What is answered without looking is printed.

    Args:
        out: Folder of the data set.
        tasks: Tables with coloured things (aloha/table, metaworld/table, pusht/table), one thing from near
            (aloha/thing), and tasks or suites, of whose demonstrations moments are shown.
        scenes: Number of scenes, shared equally by the tasks.
        size: Height and width, pixels.
        questions: Questions about a scene at most.
        held_out: Share of the scenes that is for tests.
        seed: Of all draws.
        workers: Processes that draw.

    Raises:
        SimulatorError: for a task that is unknown or not installed, and where nothing can be rendered.
        ConfigError: where OUT holds scenes of other settings.
        RuntimeError: where a part cannot be drawn, naming it.
    """
    at_least(1, scenes=scenes, size=size)
    at_least(0, questions=questions, workers=workers)
    share(held_out=held_out)
    out, found = Path(out), sources(tuple(tasks))
    if not found:
        raise ConfigError(f"tasks: expected at least one of {', '.join(TABLES)} or a task, found none")
    settings = Settings(scenes, size, questions, held_out, seed)
    with hold(writable_dir(out)):
        _begin(out, settings, found)
        wanted = [part for source in found for part in parts(source, -(-scenes // len(found)))]
        _draw(out, settings, wanted, workers)
        _finish(out, wanted, call.command())
    return out


def _begin(out: Path, settings: Settings, found: Sequence[Source]) -> None:
    """Writes the settings; raises ConfigError where the folder is of others. What cannot be drawn is said first."""
    about: dict[str, Any] = {**asdict(settings), "tasks": [source.name for source in found]}
    if (out / ABOUT).is_file():
        kept = read_object(out / ABOUT)
        different = [
            f"{name} {kept.get(name)}, not {value}" for name, value in about.items() if kept.get(name) != value
        ]
        if different:
            raise ConfigError(f"{out}: holds scenes of other settings ({'; '.join(different)}); choose another folder")
        return
    if (out / CAPTIONS).exists():
        raise ConfigError(f"{out}: holds another data set; choose another folder")
    for source in found:
        with closing(source.open(settings.size)):
            pass
    write_json(out / ABOUT, about)


def _draw(out: Path, settings: Settings, wanted: Sequence[Part], workers: int) -> None:
    left = [part for part in wanted if not (out / IMAGES / part.name / ROWS).is_file()]
    count = sum((part.last - part.first) * part.source.each for part in left)
    with progress_bar(bool(left), "scenes drawn", count) as move:

        def done(result: int | Failure) -> None:
            move(0 if isinstance(result, Failure) else result, "scenes drawn")

        results = run_tasks(partial(Drawer, out, settings), left, workers=min(workers, len(left)), done=done)
    failed = [(part, r) for part, r in zip(left, results, strict=True) if isinstance(r, Failure)]
    if failed:
        part, failure = failed[0]
        raise sim.SimulatorError(
            f"{out}: {len(failed)} of {len(left)} parts were not drawn; {part.name}: {failure.reason}; the same "
            "command goes on"
        )


def _finish(out: Path, wanted: Sequence[Part], command: str) -> None:
    """Joins the rows of all parts, and says what is there."""
    write_text(out / CAPTIONS, "".join((out / IMAGES / p.name / ROWS).read_text(encoding="utf-8") for p in wanted))
    rows = read_captions(out).rows
    split = {name: [row for row in rows if row.split == name] for name in (TRAIN, HELD)}
    found = priors(*([(r.kind, r.prompt, r.text) for r in split[name]] for name in (TRAIN, HELD)))
    counts = {name: len({row.images for row in split[name]}) for name in split}
    kinds = Counter(row.kind for row in rows)
    blind = blind_share(found)
    print(f"{out}: {counts[TRAIN]} scenes to train on, {counts[HELD]} held out; {len(rows)} rows")
    figures = table(found)
    widths = [max(len(row[i]) for row in figures) for i in range(len(figures[0]))]
    for row in figures:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(
        f"  answered without looking, by the most frequent answer to each question: {100 * blind:.1f} % of the held-out"
    )
    about = read_object(out / ABOUT)
    write_json(
        out / ABOUT,
        about
        | {"images": counts, "rows": dict(sorted(kinds.items())), "blind": None if blind != blind else round(blind, 4)}
        | {"priors": {kind: asdict(prior) for kind, prior in found.items() if prior.held}}
        | {"simulator": _versions(wanted), "command": command},
    )
    _page(out, wanted, rows, figures, command)


def _versions(wanted: Sequence[Part]) -> dict[str, Any]:
    """Versions of the simulators' packages."""
    from nextmove.sim.versions import installed

    return installed([sim.task(name) for name in sorted({part.source.task for part in wanted})], cameras=True)


def _page(out: Path, wanted: Sequence[Part], rows: Sequence[Row], figures: list[list[str]], command: str) -> None:
    groups: dict[str, list[Sample]] = {}
    by_image: dict[str, list[Row]] = {}
    for row in rows:
        by_image.setdefault(row.images[0], []).append(row)
    for source in dict.fromkeys(part.source.name for part in wanted):
        prefix = f"{IMAGES}/{source.replace('/', '-')}-"
        own = [name for name in by_image if name.startswith(prefix) and name[len(prefix) :][:6].isdigit()]
        held = [name for name in own if by_image[name][0].held][: SHOWN // 3]
        chosen = [name for name in own if not by_image[name][0].held][: SHOWN - len(held)] + held
        groups[source] = [_sample(out / name, by_image[name]) for name in chosen]
    notes = ["Questions under each scene with their answers. Held-out scenes show what is never trained on together."]
    write_samples(
        out / PAGE, f"Scenes in {out.name}", groups, {"What is answered without looking": figures}, notes, [command]
    )


def _sample(path: Path, rows: Sequence[Row]) -> Sample:
    return Sample(path.read_bytes(), rows[0].split, [(row.kind, row.prompt, row.text) for row in rows])
