"""The systems of the road, one recipe a file."""

__all__: list[str] = []
