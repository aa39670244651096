"""nextmove: from the next token to the next move, on one small core.

Importing this package loads no torch; the rooms (`nextmove.data`, `nextmove.models`, ...) load what they need.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
