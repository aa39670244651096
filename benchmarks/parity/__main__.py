"""`python -m benchmarks.parity CASE`."""

import sys

from benchmarks.parity import main

sys.exit(main())
