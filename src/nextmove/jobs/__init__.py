"""What a user does: record, train, evaluate, compare, inspect, demo. The command line calls these same functions."""

from nextmove.jobs.compare import compare
from nextmove.jobs.demo import demo
from nextmove.jobs.evaluate import evaluate
from nextmove.jobs.inspect import inspect
from nextmove.jobs.record import record
from nextmove.jobs.train import train

__all__ = ["compare", "demo", "evaluate", "inspect", "record", "train"]
