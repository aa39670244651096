"""What a simulator lacks, as one sentence that says what installs it."""

from __future__ import annotations

from nextmove.sim.base import SimulatorError

EGL = "apt-get install libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri"
"""What brings EGL, with which MuJoCo renders without a display."""
OSMESA = "apt-get install libosmesa6 libgl1"
"""What brings OSMesa, which does the same."""


def missing(task: str, package: str, problem: Exception, hint: str) -> SimulatorError:
    """The error to raise where importing a simulator failed.

    task: who needs it. package: as pip names it. hint: the command that installs it. A wheel of OpenCV that finds no
    libGL is told apart from a package that is not there.
    """
    if "libGL.so" in str(problem):
        return SimulatorError(
            f"{task}: {package} imports OpenCV, whose wheel opencv-python needs a library that is not there "
            f"({problem}); apt-get install libgl1, or `pip install opencv-python-headless` in its place"
        )
    return SimulatorError(f"{task}: needs {package} ({problem}); {hint}")
