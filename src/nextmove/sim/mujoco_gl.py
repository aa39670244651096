"""Which OpenGL MuJoCo renders with: EGL, else OSMesa, found by trying the libraries before MuJoCo is imported."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from nextmove.sim.base import SimulatorError, Size
from nextmove.sim.missing import EGL, OSMESA

VARIABLE = "MUJOCO_GL"
_KNOWN = ("", "egl", "osmesa", "glfw", "glx", "enable", "enabled", "on", "true", "1")
_OFF = ("disable", "disabled", "off", "false", "0")
"""What MuJoCo takes on Linux."""
_PLATFORM_DEVICE = 0x313F
"""EGL_PLATFORM_DEVICE_EXT: rendering on a device, without a display."""


def prepare() -> str:
    """Chooses the library for this process and its children; call it before anything imports MuJoCo.

    Returns the choice: `egl` or `osmesa`, what MUJOCO_GL says where it is set, and nothing where neither library is
    there, with which everything but rendering works. Raises SimulatorError where MUJOCO_GL names a library that is
    missing, since MuJoCo then cannot even be imported.
    """
    asked = os.environ.get(VARIABLE, "").lower().strip()
    if sys.platform != "linux":
        return asked
    if asked not in _KNOWN + _OFF:
        raise SimulatorError(f"{VARIABLE}: expected egl, osmesa or glfw, or unset, found {asked!r}")
    if asked in _WORKS and not _WORKS[asked]():
        raise SimulatorError(unable(asked))
    if asked:
        return asked
    found = next((name for name, works in _WORKS.items() if works()), "")
    if found:
        os.environ[VARIABLE] = found
    return found


def unable(choice: str, reason: str = "") -> str:
    """The sentence that says why nothing can be rendered with this choice of `prepare`, and what to do."""
    why = f" ({reason.strip().partition(', this')[0].splitlines()[0]})" if reason.strip() else ""
    if choice == "egl":
        return f"MuJoCo cannot render: {VARIABLE}=egl, and EGL is not there or finds no device{why}; {EGL}"
    if choice == "osmesa":
        return f"MuJoCo cannot render: {VARIABLE}=osmesa, and OSMesa is not there{why}; {OSMESA}"
    if choice not in _OFF:
        set_to = f"{VARIABLE}={choice} needs a display" if choice else "neither EGL nor OSMesa is there, nor a display"
        unset = f", and unset {VARIABLE}" if choice else ""
        return f"MuJoCo cannot render: {set_to}{why}; {EGL} (or {OSMESA.removeprefix('apt-get install ')}){unset}"
    return f"MuJoCo cannot render: {VARIABLE}={choice}{why}; set it to egl or osmesa, or unset it"


def context(choice: str, size: Size) -> Any:
    """An OpenGL context of MuJoCo's for a choice of `prepare`, whatever was chosen when MuJoCo was imported.

    Raises whatever MuJoCo, PyOpenGL or glfw raise where they find nothing to open.
    """
    import mujoco

    if choice == "egl":
        from mujoco.egl import GLContext
    elif choice == "osmesa":
        from mujoco.osmesa import GLContext
    elif choice in _OFF:
        raise RuntimeError("rendering is switched off")
    else:
        GLContext = mujoco.GLContext
    return GLContext(size[1], size[0])


def _library(name: str) -> ctypes.CDLL | None:
    """lib`name`.so of the newest number, as PyOpenGL looks for it."""
    for suffix in ("", *(f".{number}" for number in reversed(range(10)))):
        try:
            return ctypes.CDLL(f"lib{name}.so{suffix}", mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
    return None


@functools.cache
def _egl() -> bool:
    """Whether EGL is there and one of its devices, graphics card or software, can be opened."""
    library = _library("EGL")
    if library is None:
        return False
    library.eglGetProcAddress.restype = ctypes.c_void_p
    library.eglInitialize.argtypes = [ctypes.c_void_p] * 3
    listing, opening = (library.eglGetProcAddress(n) for n in (b"eglQueryDevicesEXT", b"eglGetPlatformDisplayEXT"))
    if not listing or not opening:
        return False
    devices, count = (ctypes.c_void_p * 16)(), ctypes.c_int()
    listed = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(listing)
    display = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(opening)
    if not listed(len(devices), devices, ctypes.byref(count)):
        return False
    return any(
        (found := display(_PLATFORM_DEVICE, device, None)) and library.eglInitialize(found, None, None)
        for device in devices[: count.value]
    )


@functools.cache
def _osmesa() -> bool:
    return _library("OSMesa") is not None


_WORKS: dict[str, Callable[[], bool]] = {"egl": _egl, "osmesa": _osmesa}
"""The libraries that need no display, in the order in which they are tried."""
