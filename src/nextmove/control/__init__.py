"""Between a policy and a robot: what was seen, what is still to be done, and when."""

from nextmove.control.clock import Clock, VirtualTime
from nextmove.control.receding import BatchedReceding, Receding, history, stack_observations

__all__ = ["BatchedReceding", "Clock", "Receding", "VirtualTime", "history", "stack_observations"]
