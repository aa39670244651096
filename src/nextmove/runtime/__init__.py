"""Other runtimes that compute a model's networks: each replaces the network (`contracts.networks`)."""

from nextmove.runtime.agreement import Agreement, agreement
from nextmove.runtime.calibration import calibrate
from nextmove.runtime.difference import Difference, difference
from nextmove.runtime.openvino import compiled
from nextmove.runtime.packed import packed
from nextmove.runtime.program import Precision
from nextmove.runtime.ranges import LEAST, Ranges
from nextmove.runtime.unchanged import keep_unchanged

__all__ = [
    "LEAST",
    "Agreement",
    "Difference",
    "Precision",
    "Ranges",
    "agreement",
    "calibrate",
    "compiled",
    "difference",
    "keep_unchanged",
    "packed",
]
