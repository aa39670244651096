"""Encoders: observations or labels to a Context."""

from nextmove.encoders.camera import Camera
from nextmove.encoders.cloud import Cloud
from nextmove.encoders.filmed_camera import FilmedCamera
from nextmove.encoders.instruction import Instruction
from nextmove.encoders.labels import Labels
from nextmove.encoders.observation import Observation, ObservationEncoder
from nextmove.encoders.state import State, StateEncoder
from nextmove.encoders.state_estimator import StateEstimator
from nextmove.encoders.views import Plain, Points

__all__ = [
    "Camera",
    "Cloud",
    "FilmedCamera",
    "Instruction",
    "Labels",
    "Observation",
    "ObservationEncoder",
    "Plain",
    "Points",
    "State",
    "StateEncoder",
    "StateEstimator",
]
