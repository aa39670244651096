"""Imitation policies, in the order of the road; one file a system."""

from nextmove.models.policy.policy import Policy, PolicySpec, Representation, Timing

__all__ = ["Policy", "PolicySpec", "Representation", "Timing"]
