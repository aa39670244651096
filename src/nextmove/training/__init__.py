"""Training: one loop for every system, resumable, on one process or several."""

from nextmove.training.checkpoint import CheckpointError
from nextmove.training.config import TrainConfig
from nextmove.training.ema import Ema
from nextmove.training.loop import train
from nextmove.training.report import Best, Result, StepReport
from nextmove.training.schedule import rate
from nextmove.training.step import DivergedError

__all__ = ["Best", "CheckpointError", "DivergedError", "Ema", "Result", "StepReport", "TrainConfig", "rate", "train"]
