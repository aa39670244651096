"""What the machine does to a job, and the job to it: folders with one owner, signals, files that are whole."""

__all__: list[str] = []
