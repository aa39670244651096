"""Frozen dataclasses to and from plain JSON; no class is ever named by a file, an unknown key fails."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from nextmove.host import files

T = TypeVar("T")


class ConfigError(ValueError):
    """A config holds a key or value that its dataclass does not allow; the message names the field."""


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint ", did you mean X?" where `name` is close to one of `names`, else nothing."""
    close = difflib.get_close_matches(name, list(names), 1, 0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; raises FileNotFoundError, or ConfigError naming the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent}: expected {path.name}, found none")
    data = files.read_json(path, ConfigError)
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected an object, found {type(data).__name__}")
    return data


def encode(value: Any) -> Any:
    """Plain JSON values; a dataclass becomes a dict whose `kind` is its class name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [encode(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(f"cannot write a {type(value).__name__} to a config")


def decode(cls: type[T], data: Mapping[str, Any], *, parts: Iterable[type] = (), where: str = "") -> T:
    """The dataclass `cls` from what `encode` wrote.

    Unions are resolved by `kind` among the annotated classes; where the annotation is `Any`, among `parts`.
    """
    found = _Decoder({part.__name__: part for part in parts}).value(cls, data, where or cls.__name__)
    return typing.cast(T, found)


class _Decoder:
    """Walks annotations and data side by side."""

    def __init__(self, parts: Mapping[str, type]) -> None:
        self.parts = parts

    def value(self, hint: Any, data: Any, where: str) -> Any:
        origin = typing.get_origin(hint)
        if hint is Any or getattr(hint, "_is_protocol", False):
            if isinstance(data, Mapping) and "kind" in data:
                return self.named(self.parts, data, where)
            if hint is not Any:
                raise ConfigError(f"{where}: expected an object whose 'kind' names a part, found {data!r}")
            return data
        if origin in (typing.Union, types.UnionType):
            return self.union(typing.get_args(hint), data, where)
        if origin is typing.Annotated:
            return self.value(typing.get_args(hint)[0], data, where)
        if origin is typing.Literal:
            return _literal(typing.get_args(hint), data, where)
        if origin in (tuple, list):
            return self.sequence(hint, data, where)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            _expect(data, Mapping, where)
            inner = typing.get_args(hint)[1]
            return {k: self.value(inner, v, f"{where}.{k}") for k, v in data.items()}
        if dataclasses.is_dataclass(hint):
            return self.record(hint, data, where)
        if hint is float and isinstance(data, int) and not isinstance(data, bool):
            return float(data)
        _expect(data, hint, where)
        if isinstance(data, bool) and hint is int:
            raise ConfigError(f"{where}: expected int, found {data!r}")
        return data

    def sequence(self, hint: Any, data: Any, where: str) -> Any:
        _expect(data, (list, tuple), where)
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is list or (len(args) == 2 and args[1] is Ellipsis):
            return origin(self.value(args[0], v, f"{where}[{i}]") for i, v in enumerate(data))
        if len(args) != len(data):
            raise ConfigError(f"{where}: expected {len(args)} entries, found {len(data)}")
        return tuple(self.value(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(args, data, strict=True)))

    def union(self, options: tuple[Any, ...], data: Any, where: str) -> Any:
        if data is None and type(None) in options:
            return None
        named = {o.__name__: o for o in options if isinstance(o, type) and dataclasses.is_dataclass(o)}
        if isinstance(data, Mapping) and named:
            return self.named(named, data, where)
        problems = []
        for option in options:
            if option is type(None) or dataclasses.is_dataclass(option):
                continue
            try:
                return self.value(option, data, where)
            except ConfigError as problem:
                problems.append(str(problem))
        raise ConfigError(problems[0] if problems else f"{where}: expected one of {sorted(named)}, found {data!r}")

    def named(self, options: Mapping[str, Any], data: Mapping[str, Any], where: str) -> Any:
        kind = data.get("kind", next(iter(options)) if len(options) == 1 else None)
        if kind not in options:
            hint = nearest(str(kind), options)
            raise ConfigError(f"{where}.kind: expected one of {sorted(options)}, found {kind!r}{hint}")
        return self.record(options[kind], data, where)

    def record(self, cls: Any, data: Any, where: str) -> Any:
        _expect(data, Mapping, where)
        if data.get("kind", cls.__name__) != cls.__name__:
            raise ConfigError(f"{where}.kind: expected {cls.__name__!r}, found {data['kind']!r}")
        hints = typing.get_type_hints(cls, include_extras=True)
        fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
        values = {}
        for key, value in data.items():
            if key == "kind" and "kind" not in fields:
                continue
            if key not in fields:
                raise ConfigError(f"{where}: unknown key {key!r}{nearest(key, fields)}")
            values[key] = self.value(hints[key], value, f"{where}.{key}")
        needed = [f.name for f in fields.values() if f.default is f.default_factory is dataclasses.MISSING]
        for name in needed:
            if name not in values:
                raise ConfigError(f"{where}: missing key {name!r}")
        return cls(**values)


def _literal(options: tuple[Any, ...], data: Any, where: str) -> Any:
    if data not in options:
        found = f"found {data!r}{nearest(str(data), map(str, options))}"
        raise ConfigError(f"{where}: expected one of {', '.join(map(repr, options))}; {found}")
    return data


def _expect(data: Any, kind: Any, where: str) -> None:
    if not isinstance(data, kind):
        name = " or ".join(k.__name__ for k in kind) if isinstance(kind, tuple) else kind.__name__
        raise ConfigError(f"{where}: expected {name}, found {data!r}")
