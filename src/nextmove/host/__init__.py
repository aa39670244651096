"""Files, locks, signals and worker processes."""

__all__: list[str] = []
