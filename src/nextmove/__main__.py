"""`python -m nextmove` is `nextmove`."""

import sys

from nextmove.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
