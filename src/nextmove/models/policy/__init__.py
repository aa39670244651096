"""Policies: recipes of the road's imitation learning, and what they are assembled from."""

from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.spec import PolicySpec, Timing

__all__ = ["ActionSpace", "Policy", "PolicySpec", "Timing"]
