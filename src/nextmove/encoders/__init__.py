"""Observations, pictures or words to a Context."""

from nextmove.encoders.observation import Observation, Plain, Points

__all__ = ["Observation", "Plain", "Points"]
