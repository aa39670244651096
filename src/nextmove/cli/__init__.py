"""The command line; importing it loads nothing heavy."""

__all__: list[str] = []
