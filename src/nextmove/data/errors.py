"""The one exception of this room."""

from __future__ import annotations


class DataError(ValueError):
    """A data set, a column or a request does not fit; the message names the file, feature, episode or frame."""
