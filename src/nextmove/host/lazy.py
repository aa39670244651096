"""Packages whose names are imported when they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """Where a name and the file it lies in are called the same, the attribute is what the file defines.

    An import of the file, whoever makes it, would put the file itself in its place.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and self.__dict__["_lazy"].get(name)):
            super().__setattr__(name, value)


def lazy(package: str, files: Mapping[str, str | None]) -> Callable[[str], Any]:
    """The `__getattr__` of a package that has these names, each in one of its files; to be called by the package.

    files: name -> file without its ending; None: the name is that of a file or folder itself.
    """
    module = sys.modules[package]
    module.__dict__["_lazy"] = dict(files)
    module.__class__ = _Package

    def asked(name: str) -> Any:
        if name not in files:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        file = files[name]
        found = import_module(f"{package}.{file or name}")
        value = getattr(found, name) if file else found
        module.__dict__[name] = value
        return value

    return asked
