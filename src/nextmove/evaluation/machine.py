"""The machine and versions that a figure was measured with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nextmove import __version__
from nextmove.host.threads import cores

PACKAGES = ("torch", "numpy", "gymnasium", "gym-pusht", "pymunk")


def machine() -> dict[str, str]:
    """Processor, usable cores, memory and system, named as a reader would look for them; never who or where."""
    cpu = platform.processor() or platform.machine()
    info, memory = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    table = {"processor": cpu, "usable cores": str(cores())}
    if memory.exists():
        kilobytes = int(memory.read_text().split("MemTotal:", 1)[1].split()[0])
        table["memory"] = f"{kilobytes / 2**20:.0f} GiB"
    import torch

    if torch.cuda.is_available():
        table["accelerator"] = torch.cuda.get_device_name()
    return {**table, "system": f"{platform.system()} {platform.machine()}"}


def versions() -> dict[str, str]:
    """Python and the installed packages that a result depends on."""
    table = {"nextmove": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            table[package] = version(package)
        except PackageNotFoundError:
            continue
    return table
