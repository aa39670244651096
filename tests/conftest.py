"""What every test relies on."""

from __future__ import annotations

import signal

# Shells start what runs in the background with Ctrl-C ignored; the tests of stopping send it.
signal.signal(signal.SIGINT, signal.default_int_handler)
