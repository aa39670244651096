"""What every test relies on."""

from __future__ import annotations

import gc
import os
import signal
import sys

import pytest
import torch

# Shells start what runs in the background with Ctrl-C ignored; the tests of stopping send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# OpenVINO, once imported with it, forks a process that reports to its makers for each network that it converts, and
# copying the tables of a process of this size takes longer than the network.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# Two processes test on two cores: a thread each, or four threads wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """What was imported stays: collecting garbage, which exporting a network asks for, need not look through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory):
    """Compiled networks are kept elsewhere than the user's are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
