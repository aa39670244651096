"""Invertible maps between data and the space a model generates in."""

from nextmove.codecs.actions import Actions
from nextmove.codecs.bins import Bins
from nextmove.codecs.scaled import Scaled
from nextmove.codecs.text import Text

__all__ = ["Actions", "Bins", "Scaled", "Text"]
