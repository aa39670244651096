"""Packages whose names are imported when they are asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nextmove import data, interop, jobs


def fresh(code: str) -> list[str]:
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return found.splitlines()


def test_a_job_is_the_function_though_its_file_has_the_same_name_and_imports_no_other_project():
    code = (
        "import sys, nextmove.jobs.train; from nextmove import jobs; print(jobs.train); "
        "import nextmove.jobs.fit; from nextmove.jobs.train import train; print(jobs.train is train); "
        "print([m for m in sys.modules if m.startswith(('nextmove.interop.hf', 'nextmove.interop.lerobot'))])"
    )
    shown, same, others = fresh(code)
    assert shown.startswith("<function train")
    assert (same, others) == ("True", "[]")


def test_every_name_is_there_and_no_other():
    for package in (data, interop, jobs):
        assert all(getattr(package, name) is not None for name in package.__all__)
        with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
            package.nothing  # noqa: B018


def test_data_are_read_before_torch_is_imported():
    assert fresh("import sys, nextmove.data.ahead; print('torch' in sys.modules)") == ["False"]
