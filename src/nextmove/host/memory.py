"""Memory of this process and of the machine, in bytes; None where the system does not say."""

from __future__ import annotations

import os
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), "/proc/self/clear_refs"
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current")


def resident() -> int | None:
    """What this process holds now."""
    return _status("VmRSS")


def peak() -> int | None:
    """The most it has held since `forget_peak`, or since it began where that is not possible."""
    return _status("VmHWM")


def of_files() -> int | None:
    """What of it are pages of mapped files: code, and stores of frames, which the system takes back at need."""
    return _status("RssFile")


def forget_peak() -> bool:
    """Begins to count the peak from now on; whether the system can."""
    try:
        file = os.open(CLEAR, os.O_WRONLY)
    except OSError:
        return False
    try:
        os.write(file, b"5")
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def available() -> int | None:
    """What a process could take beside what is taken, the limit of a container counted."""
    found = [_number(Path("/proc/meminfo"), "MemAvailable")]
    try:
        limit, used = (Path(path).read_text().strip() for path in LIMITS)
        found.append(None if limit == "max" else int(limit) - int(used))
    except (OSError, ValueError):
        pass
    known = [value for value in found if value is not None]
    return min(known) if known else None


def _status(name: str) -> int | None:
    return _number(STATUS, name)


def _number(path: Path, name: str) -> int | None:
    try:
        return 1024 * int(path.read_text().split(f"{name}:", 1)[1].split()[0])
    except (OSError, IndexError, ValueError):
        return None


class Peak:
    """The most that this process holds from now on; of pages of mapped files those that it holds now.

    A store of frames fills the process with pages as rows are gathered, but nobody runs out of memory by them.
    """

    def __init__(self) -> None:
        self._files, self._own = of_files() or 0, 0
        self._counted = forget_peak()

    def look(self) -> int | None:
        """The most so far; None where the system does not say. What is not looked at for long is told too low."""
        most = peak()
        if not self._counted or most is None:
            return None
        self._own = max(self._own, most - (of_files() or 0))
        forget_peak()
        return self._own + self._files
