"""Options as LeRobot's users write them with nextmove's names for them, and hints for mistyped options."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

OPTION = "nextmove's option is "
NO_HUB = "nothing is fetched or uploaded; leave it out"
LOGS = "the log is OUT/train.jsonl and, for TensorBoard, OUT/tensorboard; leave it out"
DATA = "the data set is a folder, after the system: `nextmove train SYSTEM FOLDER`"
MODEL = "the model is a folder, named first: `nextmove evaluate FOLDER`"

COMMON = {
    "output-dir": OPTION + "--out",
    "job-name": OPTION + "--out",
    "num-workers": OPTION + "--workers",
    "wandb.enable": LOGS,
    "wandb.project": LOGS,
    "policy.push-to-hub": NO_HUB,
    "policy.repo-id": NO_HUB,
}
TRAIN = {
    "batch-size": OPTION + "--recipe.optim.batch",
    "chunk-size": OPTION + "--recipe.timing.horizon",
    "horizon": OPTION + "--recipe.timing.horizon",
    "n-action-steps": OPTION + "--recipe.timing.n-action-steps",
    "n-obs-steps": OPTION + "--recipe.timing.n-obs-steps",
    "policy.chunk-size": OPTION + "--recipe.timing.horizon",
    "policy.horizon": OPTION + "--recipe.timing.horizon",
    "policy.n-action-steps": OPTION + "--recipe.timing.n-action-steps",
    "policy.n-obs-steps": OPTION + "--recipe.timing.n-obs-steps",
    "policy.device": OPTION + "--device",
    "policy.use-amp": OPTION + "--bf16",
    "policy.optimizer-lr": OPTION + "--recipe.optim.lr",
    "optimizer.lr": OPTION + "--recipe.optim.lr",
    "optimizer.weight-decay": OPTION + "--recipe.optim.weight-decay",
    "optimizer.grad-clip-norm": OPTION + "--recipe.optim.clip",
    "policy.type": "the system is named first: `nextmove train act FOLDER`, `nextmove train diffusion-policy FOLDER`",
    "policy.path": "a training starts with new weights or goes on with --resume; leave it out",
    "policy.pretrained-path": "a training starts with new weights or goes on with --resume; leave it out",
    "config-path": OPTION + "--resume, beside the system, folder and --out of the run",
    "dataset.repo-id": DATA,
    "dataset.root": DATA,
    "dataset.episodes": OPTION + "--episodes N, the first N",
    "env.type": "a training needs no simulator: `nextmove evaluate RUN --task pusht`",
    "eval.n-episodes": "judging is a command of its own: `nextmove evaluate RUN --episodes N`",
    "eval.batch-size": "judging is a command of its own: `nextmove evaluate RUN --workers N`",
    "eval-freq": OPTION + "--validate-every",
    "log-freq": OPTION + "--log-every",
    "save-freq": OPTION + "--save-every",
    "data-dir": DATA,
    "dataset": DATA,
}
EVALUATE = {
    "policy.path": MODEL,
    "policy.pretrained-path": MODEL,
    "policy.type": MODEL,
    "model": MODEL,
    "checkpoint": MODEL,
    "policy.n-action-steps": OPTION + "--execute",
    "n-action-steps": OPTION + "--execute",
    "policy.num-inference-steps": OPTION + "--steps",
    "policy.noise-scheduler-type": OPTION + "--sampler",
    "policy.device": OPTION + "--device",
    "env.type": OPTION + "--task",
    "env.task": OPTION + "--task",
    "eval.n-episodes": OPTION + "--episodes",
    "n-episodes": OPTION + "--episodes",
    "eval.batch-size": OPTION + "--workers, or --batched",
    "dataset.repo-id": OPTION + "--data FOLDER",
    "dataset.root": OPTION + "--data",
}
HABITS: Mapping[str, Mapping[str, str]] = {"train": COMMON | TRAIN, "evaluate": COMMON | EVALUATE}
"""What LeRobot calls its options, by our command; dashes for underscores."""


def foreign(command: str, args: Sequence[str]) -> list[str]:
    """A sentence for each argument that is an option of LeRobot's, or a switch given a value as LeRobot's are."""
    known, problems = HABITS.get(command, COMMON), []
    for arg in args:
        name, _, value = arg.partition("=")
        plain = name[2:].replace("_", "-") if name.startswith("--") else ""
        if plain in known:
            problems.append(f"{name}: {known[plain]}")
        elif plain == "resume" and value:
            problems.append(
                f"{arg}: expected {'--resume' if value.lower() == 'true' else '--no-resume'}, without a value"
            )
    return problems


def mistyped(unknown: Sequence[str], known: Iterable[str]) -> list[str]:
    """A sentence for each argument that is neither one of the options known nor its value, with the nearest of them."""
    names = {name: option for option in known for name in (option.rpartition(".")[2], option)}
    problems, value = [], False
    for arg in unknown:
        if arg.startswith("-"):
            name, equals, _ = arg.partition("=")
            plain = name.lstrip("-").replace("_", "-")
            begun = [option for option in names if option.startswith(plain)]
            close = begun if len(begun) == 1 else difflib.get_close_matches(plain, names, 1, 0.5)
            problems.append(f"no option {name}" + (f", did you mean --{names[close[0]]}?" if close else ""))
            value = not equals
        elif not value:
            problems.append(f"no place for {arg!r}")
    return problems


def options(function: Callable[..., Any]) -> list[str]:
    """Names of the options of a function: its parameters that have a default, the fields of those that are parts.

    Of a dataclass that is read flat (`cli.run.signed`) the fields are options themselves.
    """
    found: list[str] = []
    for name, parameter in inspect.signature(function).parameters.items():
        kind = getattr(parameter.annotation, "__origin__", None)
        if parameter.default is not inspect.Parameter.empty:
            found += _fields(name, parameter.default)
        elif dataclasses.is_dataclass(kind):
            for field in dataclasses.fields(kind):
                found += _fields(field.name, field.default)
    return [name.replace("_", "-") for name in found]


def _fields(name: str, value: Any) -> Iterator[str]:
    if not dataclasses.is_dataclass(value):
        yield name
        return
    for field in dataclasses.fields(value):
        if field.init:
            yield from _fields(f"{name}.{field.name}", getattr(value, field.name))
