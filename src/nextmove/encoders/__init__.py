"""Observations or labels to a Context."""

from nextmove.encoders.labels import Labels
from nextmove.encoders.observation import Observation, Plain, Points

__all__ = ["Labels", "Observation", "Plain", "Points"]
