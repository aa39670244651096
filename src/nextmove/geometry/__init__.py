"""Turns of the plane and rotations of space."""

from nextmove.geometry.plane import along, back, heading
from nextmove.geometry.rotations import KINDS, Rotation, to_matrix, to_numbers

__all__ = ["KINDS", "Rotation", "along", "back", "heading", "to_matrix", "to_numbers"]
