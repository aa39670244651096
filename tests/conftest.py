"""What every test relies on."""

from __future__ import annotations

import signal

import pytest

# Shells start what runs in the background with Ctrl-C ignored; the tests of stopping send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory):
    """Compiled networks are kept elsewhere than the user's are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
