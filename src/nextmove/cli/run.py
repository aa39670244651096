"""Runs commands: options and help texts come from the functions of `nextmove.jobs` themselves."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from nextmove.cli import habits
from nextmove.config import ConfigError, nearest

PATHS: dict[Any, Any] = {
    str | Path: Path,
    str | Path | None: Path | None,
    tuple[str | Path, ...]: tuple[Path, ...],
}
ALIASES = {"task": ("--simulator",), "start": ("--from",)}
"""Other names of options."""
JUDGES = {
    "policy": ("evaluate", "policies"),
    "generator": ("judge_generator", "generators"),
    "reader": ("judge_reader", "models that answer about images"),
    "pairs": ("judge_pairs", "models that compare images and texts"),
}
"""What is judged -> the job that judges it, and what these are called."""
CHOICES = ("decoder", "trunk", "size", "parts", "backbone", "instruction")
"""Options of `train` that choose the recipe whose own options are read after."""


def run(command: str, args: Sequence[str]) -> int:
    """Runs one command with its arguments; returns the exit status."""
    if command in ("systems", "road"):
        from nextmove.cli import systems

        return (systems.show if command == "systems" else systems.road)(args)
    if command == "tasks":
        from nextmove.cli import tasks

        return tasks.show(args)
    args = _sourced(list(args)) if command == "train" else _folder_first(list(args)) if command == "compare" else args
    problems = habits.foreign(command, args)
    if problems:
        return _refuse(f"train {args[0]}" if command == "train" and args[0][0] != "-" else command, problems)
    if command == "train":
        return _train(list(args))
    if command == "evaluate":
        return _evaluate(args)
    from nextmove import jobs

    return _call(signed(getattr(jobs, command.replace("-", "_"))), args, command)


def _call(function: Callable[..., Any], args: Sequence[str], command: str) -> int:
    """Calls the function with the options that the arguments give and prints its result; the exit status."""
    import tyro

    config = (tyro.conf.PositionalRequiredArgs, tyro.conf.AvoidSubcommands)
    call, unknown = tyro.cli(
        function, args=list(args), prog=f"nextmove {command}", config=config, return_unknown_args=True
    )
    if unknown:
        return _refuse(command, habits.mistyped(unknown, habits.options(function)))
    result = call()
    if command == "inspect":
        print(result)
        return int(getattr(result, "errors", 0) > 0)
    return 0


def _evaluate(args: Sequence[str]) -> int:
    """`evaluate MODEL`: what the folder holds decides which options there are."""
    from nextmove import jobs
    from nextmove.folders import open_folder

    judges = {name: signed(getattr(jobs, job)) for name, (job, _) in JUDGES.items()}
    folder = _folder_among(args)
    if folder is None and {"-h", "--help"} & set(args):
        print("MODEL decides which options there are.")
        for name, judge in judges.items():
            print(f"\nOf {JUDGES[name][1]}:\n")
            with suppress(SystemExit):
                _call(judge, ["--help"], "evaluate")
        return 0
    saved = None if folder is None else open_folder(folder)
    holds = "policy" if saved is None else saved.holds
    kind = ("pairs" if saved.compares else "reader") if saved and holds == "vision-language" else holds
    args = _asked(list(args)) if holds == "policy" else args
    own = judges.pop(kind if kind in judges else "policy")
    names = {arg.partition("=")[0] for arg in args if arg.startswith("--")}
    known = set(habits.options(own))
    apart = []
    for flag in sorted(names):
        others = [JUDGES[n][1] for n, judge in judges.items() if flag[2:].replace("_", "-") in habits.options(judge)]
        if others and flag[2:].replace("_", "-") not in known:
            apart.append(f"{flag}: for {others[0]}, found a {holds}; leave it out")
    return _refuse("evaluate", apart) if apart else _call(own, args, "evaluate")


def _asked(args: list[str]) -> list[str]:
    """The arguments of `evaluate MODEL TASK` or `evaluate MODEL DATA` with the option that the second stands for."""
    from nextmove.host.found import found
    from nextmove.sim.tasks import FORMER, named

    if len(args) < 2 or any(arg.startswith("-") for arg in args[:2]):
        return args
    known = {*named(), *FORMER}
    filmed = (Path(args[1]) / "meta" / "info.json").is_file() and args[1] not in known
    if not filmed and args[1] not in known:
        raise ConfigError(
            f"expected a data set's folder or a task behind the model, found {args[1]!r}{nearest(args[1], known)}; "
            f"{found(args[1], 'dataset')}; `nextmove tasks` lists all tasks"
        )
    option, *others = ("--data",) if filmed else ("--task", "--simulator")
    return args if {option, *others} & {arg.partition("=")[0] for arg in args} else [args[0], option, *args[1:]]


def _folder_among(args: Sequence[str]) -> str | None:
    """The argument that names the model: the first, or, behind options, the first that is a folder with one."""
    from nextmove.folders import open_folder

    if args and not args[0].startswith("-"):
        return args[0]
    for arg in args:
        with suppress(FileNotFoundError):
            open_folder(arg)
            return arg
    return None


def _refuse(command: str, problems: Sequence[str]) -> int:
    for sentence in problems:
        print(f"nextmove {command}: {sentence}", file=sys.stderr)
    print(f"`nextmove {command} --help` lists the options", file=sys.stderr)
    return 2


def _train(args: list[str]) -> int:
    """`train SYSTEM SOURCE`: the system and whether the source has cameras decide which options there are."""
    from nextmove.systems import built, find

    names = ", ".join(s.name for s in built())
    if not args or args[0].startswith("-"):
        print(f"usage: nextmove train SYSTEM SOURCE [OPTIONS]\n\nSYSTEM is one of: {names}.\n")
        print("SOURCE is a LeRobot-format data set for policies; for text shakespeare, stdlib, or files; for images")
        print("digits, mnist, a folder of images, or a data set with a camera; for models of images and texts a folder")
        print("of images with captions.jsonl or captions.csv.\n")
        print("`nextmove train SYSTEM --help` lists the options, the system's own among them.")
        return 0 if args and args[0] in ("-h", "--help") else 2
    system, rest = find(args[0]), args[1:]
    decoder, trunk, size, parts, backbone, instruction = (_value(rest, f"--{name}") for name in CHOICES)
    source = next((arg for arg in rest if (Path(arg) / "meta" / "info.json").is_file()), None)
    if source and system.acts and not {"-h", "--help"} & set(rest):
        from nextmove.data import ahead

        ahead.begin(Path(source))
    from nextmove.jobs.tasks.exchanged import exchange
    from nextmove.jobs.tasks.looking import inputs_in, recipe_for

    inputs = inputs_in(Path(source)) if source and system.acts else None
    recipe = own = recipe_for(system.name, inputs, size=size, parts=parts, backbone=backbone, instruction=instruction)
    if whole := _whole(rest) if system.acts else None:
        from nextmove.jobs.tuned import recipe_of

        if given := [name for name in CHOICES if _value(rest, f"--{name}") is not None]:
            raise ConfigError(f"--{given[0]}: the policy of --from {whole} brings its own; leave it out")
        recipe = own = recipe_of(whole, system.name, "--keep-scales" in rest, _value(rest, "--unnorm-key"))
    recipe = exchange(recipe, decoder, trunk)
    brought = changed(getattr(own, "actions", None), getattr(recipe, "actions", None), "recipe.actions")
    if brought and not {"-h", "--help"} & set(rest):
        print(f"--decoder {decoder} brings with it {', '.join(brought)}")
    return _call(trainer(system.name, recipe), rest, f"train {system.name}")


def _sourced(args: list[str]) -> list[str]:
    """The arguments of `train SYSTEM --data SOURCE` with the source in its place behind the system."""
    if not args or args[0].startswith("-"):
        return args
    return [args[0], *_folder_first(args[1:])]


def _folder_first(args: list[str]) -> list[str]:
    """The arguments of `compare --data FOLDER ...` with the folder in its place."""
    source = _value(args, "--data")
    if source is None:
        return args
    at = next(i for i, arg in enumerate(args) if arg.partition("=")[0] == "--data")
    return [source, *args[:at], *args[at + (1 if "=" in args[at] else 2) :]]


def _whole(args: Sequence[str]) -> Path | None:
    """The folder of a whole policy among what `--from` is given."""
    given = False
    for arg in args:
        name, _, value = arg.partition("=")
        if arg.startswith("--"):
            given = name in ("--from", "--start")
        found = value if arg.startswith("--") else arg
        if given and found and "=" not in found and Path(found).is_dir():
            return Path(found)
    return None


def trainer(system: str, recipe: Any) -> Callable[..., Any]:
    """`jobs.train` of a system with all of its options: the run's, its family's, and the choices made already."""
    from nextmove import jobs
    from nextmove.jobs.tasks import trained
    from nextmove.training import TrainConfig

    flat = {"config": TrainConfig, "options": trained(system).options}
    return signed(jobs.train, recipe=recipe, flat=flat, made=choices(recipe), system=system)


def choices(recipe: Any) -> dict[str, str]:
    """Those of `CHOICES` that a recipe leaves open, with their help."""
    from nextmove.jobs.tasks.exchanged import heads, wraps
    from nextmove.jobs.tasks.looking import SIZES
    from nextmove.parts import BACKBONES, INSTRUCTIONS, TRUNKS, VIEWS

    found = {}
    if wraps(recipe):
        found["decoder"] = (
            f"Another generative rule around the same network, with what it needs: {', '.join(heads(recipe))}."
        )
        found["trunk"] = f"Another network inside the same rule: {', '.join(TRUNKS)}."
    if sizes := [f"{name}: {text}" for name, text in SIZES.items() if hasattr(recipe, name)]:
        found["size"] = f"{'; '.join(sizes)}."
    if hasattr(recipe, "encoder"):
        found["parts"] = (
            f"What the policy looks at, in order, with commas between: {', '.join(VIEWS)}; beside a camera, state is "
            "what the robot measures of itself. Default: state and camera where the data have cameras, else all states."
        )
        found["backbone"] = f"The network of its cameras: {', '.join(BACKBONES)}."
        found["instruction"] = (
            f"What reads its instruction: {', '.join(INSTRUCTIONS)}; bytes: trained along, minilm: frozen, from its "
            "package."
        )
    return found


def changed(before: Any, after: Any, where: str) -> list[str]:
    """Fields of a config part that differ, as `WHERE.FIELD VALUE (was VALUE)`."""
    if before is None or before == after:
        return []
    pairs = [(f.name, getattr(before, f.name), getattr(after, f.name)) for f in fields(before)]
    return [f"{where}.{name} {new} (was {old})" for name, old, new in pairs if old != new]


def _value(args: Sequence[str], flag: str) -> str | None:
    """What `flag VALUE` or `flag=VALUE` says among the arguments, if it is there."""
    found = []
    for i, arg in enumerate(args):
        if arg == flag:
            if i + 1 == len(args):
                raise ConfigError(f"{flag}: expected a value")
            found.append(args[i + 1])
        if arg.startswith(f"{flag}="):
            found.append(arg.split("=", 1)[1])
    if len(found) > 1:
        raise ConfigError(f"{flag}: expected it once, found {' and '.join(found)}")
    return found[0] if found else None


def signed(
    function: Callable[..., Any],
    recipe: Any = None,
    flat: Mapping[str, type] = MappingProxyType({}),
    made: Mapping[str, str] = MappingProxyType({}),
    **given: Any,
) -> Callable[..., Any]:
    """The function as tyro reads its options, for a later call.

    Tyro takes options from a signature, so the wrapper has one of its own: without what is `given`; a `recipe` typed
    as what it is; of `flat` dataclasses each field an option of its own, passed by its name; and the choices `made`
    before, which it lists with their help and then drops. A path may be given in Python as a string too; in a help
    text one kind is enough. What Python takes by its place has its place here too.
    """
    import tyro

    placed: Any = tyro.conf.Positional
    hints = typing.get_type_hints(function)
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.items()
    kept = {name: p for name, p in parameters if name not in given and p.kind not in kinds}
    if recipe is not None:
        hints["recipe"], kept["recipe"] = type(recipe), kept["recipe"].replace(default=recipe)
    for name, kind in flat.items():
        hints[name] = Annotated[unchecked(kind), tyro.conf.arg(name="")]
        kept[name] = kept[name].replace(default=inspect.Parameter.empty)
    for name, text in made.items():
        hints[name] = Annotated[str | None, tyro.conf.arg(help=text)]
        kept[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
    shown = {name: PATHS.get(hints[name], hints[name]) for name in kept}
    for name, p in kept.items():
        if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty:
            shown[name] = placed[shown[name]]
        if p.kind is p.KEYWORD_ONLY and name in ALIASES:
            shown[name] = typing.Annotated[shown[name], tyro.conf.arg(aliases=ALIASES[name])]

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        own = {name: value for name, value in kwargs.items() if name not in (*made, *flat)}
        for name in flat:
            own |= vars(kwargs[name])
        return functools.partial(function, *args, **given, **own)

    wrapper.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(annotation=shown[name]) for name, p in kept.items()]
    )
    wrapper.__annotations__ = shown
    wrapper.__doc__ = flowing(function.__doc__ or "")
    del wrapper.__wrapped__  # tyro would read the function's own hints
    return wrapper


def flowing(text: str) -> str:
    """A docstring whose arguments are a line each: tyro keeps line breaks, and terminals have other widths."""
    lines: list[str] = []
    for line in inspect.cleandoc(text).splitlines():
        if line.startswith(" " * 8) and lines and lines[-1].strip():
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line)
    return "\n".join(lines)


def unchecked(kind: type) -> type:
    """The dataclass without what its construction checks, so that a mistyped option is named before a missing one."""
    return type(kind.__name__, (kind,), {"__post_init__": lambda self: None, "__doc__": kind.__doc__})
