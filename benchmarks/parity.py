"""`python benchmarks/parity.py CASE`, the same as `python -m benchmarks.parity CASE`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    # Without the folder of this file, whose name is that of the package beside it.
    sys.path[:] = [str(here.parent), *(p for p in sys.path if Path(p or ".").resolve() != here)]
    from benchmarks.parity import main

    sys.exit(main())
