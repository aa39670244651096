"""The ranges of what a policy's networks multiply, found on what it sees."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from nextmove import weights
from nextmove.config import ConfigError
from nextmove.contracts import Actor, Batch, Rows, seeded
from nextmove.contracts.networks import Networked
from nextmove.runtime import kept, ranges
from nextmove.runtime.fingerprint import fingerprint
from nextmove.runtime.openvino import Compiled, standing
from nextmove.runtime.program import converted, core, settings
from nextmove.runtime.ranges import Ranges, found


class Planner(Actor, Networked, Protocol):
    """A policy whose networks can be exchanged."""


def calibrate(policy: Planner, observations: Sequence[Batch], least_weights: int = ranges.LEAST) -> Ranges:
    """The ranges for `compiled(policy, "w8a8", ranges)`, of plans for observations, each a batch of one history.

    Products of fewer than `least_weights` have none and stay in float32. What is found is kept, and found again for the
    same networks, observations and least number. Raises ValueError without observations, and ConfigError for networks
    that write token by token, for a number below 1, and for networks without a product that is large enough.
    """
    if least_weights < 1:
        raise ConfigError(f"least_weights: expected at least 1, found {least_weights}")
    if not observations:
        raise ValueError("observations: expected at least one, found none")
    networks = policy.networks()
    if "token" in networks:
        raise ConfigError("precision: w8a8 is not for networks that write token by token; take int8")
    name = _name(policy, observations, least_weights)
    known = None if name is None else kept.take(name)
    if known is not None:
        return _some(dict(known[0]["ranges"]), least_weights)
    made: dict[str, float] = {}
    for listener in _listened(policy, observations):
        for form, calls in _grouped(listener).values():
            model, _ = converted(listener.net, form, calls[0])
            own = found(model, calls, settings("float32"), core(), least_weights)
            made |= {key: max(end, made.get(key, 0.0)) for key, end in own.items()}
    if name is not None:
        kept.keep(name, {"least_weights": least_weights, "ranges": made}, b"")
    return _some(made, least_weights)


def _some(made: Ranges, least_weights: int) -> Ranges:
    """The ranges; raises ConfigError where there are none, for then nothing would be computed in 8 bits."""
    if not made:
        raise ConfigError(
            f"precision: w8a8 rounds products of at least {least_weights} weights, and these networks have none; take "
            "fewer least_weights, int8, bf16 or float32"
        )
    return made


def _listened(policy: Planner, observations: Sequence[Batch]) -> list[Compiled]:
    """What each network was called with."""
    networks = {n: net for n, net in policy.networks().items() if next(net.parameters(), None) is not None}
    listeners = {name: standing(name, network, "float32") for name, network in networks.items()}
    for name, listener in listeners.items():
        listener.calls = []
        policy.exchange(name, listener)
    try:
        for number, obs in enumerate(observations):
            policy.act(obs, rng=Rows([seeded(0, number)]))
    finally:
        for name, network in networks.items():
            policy.exchange(name, network)
    return list(listeners.values())


def _grouped(listener: Compiled) -> dict[Any, tuple[Any, list[list[Tensor]]]]:
    """Its calls by form and shapes, each a program."""
    groups: dict[Any, tuple[Any, list[list[Tensor]]]] = {}
    for form, tensors in listener.calls or ():
        groups.setdefault((form, *(x.shape for x in tensors)), (form, []))[1].append(tensors)
    return groups


def _name(policy: Planner, observations: Sequence[Batch], least_weights: int) -> str | None:
    """Under which ranges are kept; None for networks that cannot be told from others."""
    own = [fingerprint(network) for network in policy.networks().values()]
    if None in own:
        return None
    seen = [
        {name: weights.digest(value) if isinstance(value, Tensor) else value for name, value in obs.items()}
        for obs in observations
    ]
    facts = json.dumps(["ranges", least_weights, own, seen], sort_keys=True, default=str)
    return hashlib.sha256(facts.encode()).hexdigest()[:40]
