"""Control of a robot by a policy: histories of observations, queues of actions, and timing."""

from nextmove.control.choice import suited, suited_rows
from nextmove.control.clock import Clock, VirtualTime
from nextmove.control.ensemble import BatchedEnsembling, Ensembling
from nextmove.control.receding import BatchedReceding, Receding, forget, history, stack_observations

__all__ = [
    "BatchedEnsembling",
    "BatchedReceding",
    "Clock",
    "Ensembling",
    "Receding",
    "VirtualTime",
    "forget",
    "history",
    "stack_observations",
    "suited",
    "suited_rows",
]
