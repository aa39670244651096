"""Commands to functions: options and help texts come from the functions of `nextmove.jobs` themselves."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from nextmove.cli import habits
from nextmove.config import ConfigError, nearest

PATHS: dict[Any, Any] = {
    str | Path: Path,
    str | Path | None: Path | None,
    tuple[str | Path, ...]: tuple[Path, ...],
}
ALIASES = {"task": ("--simulator",)}
"""Other names of options."""
TAKEN = ("decoder", "trunk", "size")
"""Options of `train` that choose a recipe before its own are read."""


def run(command: str, args: Sequence[str]) -> int:
    """Runs one command with its arguments; returns the exit status."""
    if command in ("systems", "road"):
        from nextmove.cli import systems

        return (systems.show if command == "systems" else systems.road)(args)
    told = habits.foreign(command, args)
    if told:
        return _refuse(f"train {args[0]}" if command == "train" and args[0][0] != "-" else command, told)
    if command == "train":
        return _train(list(args))
    if command == "evaluate":
        return _evaluate(args)
    from nextmove import jobs

    return _call(signed(getattr(jobs, command)), args, command)


def _call(function: Callable[..., Any], args: Sequence[str], command: str) -> int:
    """Calls the function with the options that the arguments give, prints what it has to say; the exit status."""
    import tyro

    config = (tyro.conf.PositionalRequiredArgs, tyro.conf.AvoidSubcommands)
    call, unknown = tyro.cli(
        function, args=list(args), prog=f"nextmove {command}", config=config, return_unknown_args=True
    )
    if unknown:
        more = TAKEN if command.startswith("train ") else ()
        return _refuse(command, habits.mistyped(unknown, [*habits.options(function), *more]))
    result = call()
    if command == "inspect":
        print(result)
        return int(getattr(result, "errors", 0) > 0)
    return 0


def _evaluate(args: Sequence[str]) -> int:
    """`evaluate MODEL`: what the folder holds decides which options there are."""
    from nextmove import jobs
    from nextmove.folders import open_folder

    judges = {"policy": signed(jobs.evaluate), "generator": signed(jobs.judge_generator)}
    folder = _folder_among(args)
    if folder is None and {"-h", "--help"} & set(args):
        print("MODEL decides which options there are. Of a policy:\n")
        with suppress(SystemExit):
            _call(judges["policy"], ["--help"], "evaluate")
        print("\nOf a generator of text or images:\n")
        return _call(judges["generator"], ["--help"], "evaluate")
    holds = "policy" if folder is None else open_folder(folder).holds
    own = judges.pop("generator" if holds == "generator" else "policy")
    what, other = "generators" if holds == "policy" else "policies", habits.options(*judges.values())
    names = {arg.partition("=")[0] for arg in args if arg.startswith("--")}
    apart = [name for name in sorted(names) if name[2:].replace("_", "-") in set(other) - set(habits.options(own))]
    if apart:
        return _refuse("evaluate", [f"{name}: for {what}, found a {holds}; leave it out" for name in apart])
    return _call(own, args, "evaluate")


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


def _refuse(command: str, told: Sequence[str]) -> int:
    for sentence in told:
        print(f"nextmove {command}: {sentence}", file=sys.stderr)
    print(f"`nextmove {command} --help` lists the options", file=sys.stderr)
    return 2


def _train(args: list[str]) -> int:
    """`train SYSTEM SOURCE`: the system decides which options there are.

    `--decoder` and `--trunk` exchange its parts, `--size published` takes the paper's sizes.
    """
    from nextmove.systems import built, find

    names = ", ".join(s.name for s in built())
    if not args or args[0].startswith("-"):
        print(f"usage: nextmove train SYSTEM SOURCE [OPTIONS]\n\nSYSTEM is one of: {names}.\n")
        print("SOURCE is a LeRobot-format data set for policies; for text shakespeare, stdlib, or files; for images")
        print("digits, mnist, a folder of pictures, or a data set with a camera.\n")
        print("`nextmove train SYSTEM --help` lists the options, the system's own among them. Beside these, --decoder")
        print("and --trunk NAME exchange its parts, and --size published takes the paper's sizes where it has them.")
        return 0 if args and args[0] in ("-h", "--help") else 2
    system = find(args[0])
    recipe = system.load()()
    rest, given = args[1:], {}
    for name in TAKEN:
        rest, given[name] = _take(rest, f"--{name}")
    size = given["size"]
    if size == "published":
        if not hasattr(recipe, "published"):
            raise ConfigError(f"{system.name}: there is no published size; leave out --size")
        recipe = type(recipe).published()
    elif size is not None:
        raise ConfigError(f"--size: expected 'published', found {size!r}; the size of pictures is --side")
    own, recipe = recipe, exchange(recipe, given["decoder"], given["trunk"])
    brought = changed(getattr(own, "actions", None), getattr(recipe, "actions", None), "recipe.actions")
    if brought and not {"-h", "--help"} & set(rest):
        print(f"--decoder {given['decoder']} brings with it {', '.join(brought)}")

    from nextmove import jobs

    train = jobs.train if system.family == "policy" else jobs.train_generator
    return _call(signed(train, system=system.name, recipe=recipe), rest, f"train {system.name}")


def exchange(recipe: Any, decoder: str | None, trunk: str | None) -> Any:
    """The recipe with another generative rule around the same network, or another network inside the same rule.

    Another rule brings with it the action space it needs.
    """
    from nextmove.decoders import Autoregressive
    from nextmove.models.policy.suited import suited
    from nextmove.parts import DECODERS, TRUNKS

    name = type(recipe).__name__
    for flag, chosen in (("--decoder", decoder), ("--trunk", trunk)):
        if chosen is not None and not hasattr(recipe.decoder, "trunk"):
            raise ConfigError(f"{flag}: {name} wraps its network in more than one rule")
    if decoder is not None:
        recipe = replace(recipe, decoder=_choose(DECODERS, decoder, "--decoder")(trunk=recipe.decoder.trunk))
    if trunk is not None:
        recipe = replace(recipe, decoder=replace(recipe.decoder, trunk=_choose(TRUNKS, trunk, "--trunk")()))
    elif decoder is not None and not hasattr(recipe.decoder.trunk, "build"):
        own = type(recipe.decoder.trunk).__name__
        raise ConfigError(f"--decoder: {own} of {name} is a network of ids; add --trunk, such as mlp")
    if trunk is not None and isinstance(recipe.decoder, Autoregressive):
        raise ConfigError(f"--trunk: {name} generates ids, {trunk} numbers; add --decoder, such as flow")
    return recipe if decoder is None else suited(recipe)


def changed(before: Any, after: Any, where: str) -> list[str]:
    """Fields of a config part that differ, as `WHERE.FIELD VALUE (was VALUE)`."""
    if before is None or before == after:
        return []
    pairs = [(f.name, getattr(before, f.name), getattr(after, f.name)) for f in fields(before)]
    return [f"{where}.{name} {new} (was {old})" for name, old, new in pairs if old != new]


def _choose(options: dict[str, Any], name: str, flag: str) -> Any:
    if name not in options:
        raise ConfigError(f"{flag}: expected one of {', '.join(options)}; found {name!r}{nearest(name, options)}")
    return options[name]


def _take(args: list[str], flag: str) -> tuple[list[str], str | None]:
    """The arguments without `flag VALUE` or `flag=VALUE`, and the value."""
    for i, arg in enumerate(args):
        if arg == flag:
            if i + 1 == len(args):
                raise ConfigError(f"{flag}: expected a value")
            return args[:i] + args[i + 2 :], args[i + 1]
        if arg.startswith(f"{flag}="):
            return args[:i] + args[i + 1 :], arg.split("=", 1)[1]
    return args, None


def signed(function: Callable[..., Any], recipe: Any = None, **given: Any) -> Callable[..., Any]:
    """The function as its options are read, for a later call: without those given, a `recipe` typed as what it is.

    A path may be given in Python as a string too; in a help text one kind is enough. What Python takes by its place
    has its place here too.
    """
    import tyro

    placed: Any = tyro.conf.Positional
    hints = typing.get_type_hints(function)
    kept = {name: p for name, p in inspect.signature(function).parameters.items() if name not in given}
    if recipe is not None:
        hints["recipe"], kept["recipe"] = type(recipe), kept["recipe"].replace(default=recipe)
    shown = {name: PATHS.get(hints[name], hints[name]) for name in kept}
    for name, p in kept.items():
        if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty:
            shown[name] = placed[shown[name]]
        if p.kind is p.KEYWORD_ONLY and name in ALIASES:
            shown[name] = typing.Annotated[shown[name], tyro.conf.arg(aliases=ALIASES[name])]

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return functools.partial(function, *args, **given, **kwargs)

    wrapper.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(annotation=shown[name]) for name, p in kept.items()]
    )
    wrapper.__annotations__ = shown
    del wrapper.__wrapped__  # tyro would read the function's own hints
    return wrapper
