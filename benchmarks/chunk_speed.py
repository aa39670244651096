"""Milliseconds a chunk of the policies that see, at the sizes that two cores train, untrained.

    python -m benchmarks.chunk_speed

The robot shows a camera of 96 px or 512 points, a state of four numbers, and is told what to do. Milliseconds are the
processor's, of one thread, the median of the plans, so that other programs do not lengthen them. Of action tokens an
untrained network writes as many as fit, so that this is the longest a plan can take.
"""

from __future__ import annotations

import statistics
import time

import torch
from benchmarks.kept_table import keep
from tests.models.shown import shown

from nextmove import store
from nextmove.contracts import TASK, Feature, normal, seeded
from nextmove.jobs.tasks.looking import recipe_for
from nextmove.models.policy import Policy, PolicySpec
from nextmove.systems import built

STATE, WIDTH, PLANS = Feature("state", (4,)), 4, 15
CAMERA = {"observation.image": Feature("image", (96, 96, 3)), "observation.state": STATE, TASK: Feature("text")}
POINTS = {"observation.point_cloud": Feature("points", (512, 3)), "observation.state": STATE}
SYSTEMS = {"bc-z": CAMERA, **dict.fromkeys(("flow-policy-3d", "mp1", "ofp"), POINTS)}
SYSTEMS |= {system.name: CAMERA for system in built("vision-language-action")}


def row(system: str) -> list[str]:
    """Builds and times one."""
    torch.manual_seed(0)
    inputs = SYSTEMS[system]
    policy: Policy = store.create(system, PolicySpec(inputs, WIDTH, 10.0), recipe_for(system, inputs))
    timing = policy.timing
    batch = shown(inputs, 16, timing.n_obs_steps)
    batch |= {"action": normal((16, timing.horizon, WIDTH), seeded(1)).cumsum(1)}
    policy.fit([batch | {"action_is_pad": torch.zeros(16, timing.horizon, dtype=torch.bool)}])
    policy.eval()
    seen = {name: value[:1] for name, value in shown(inputs, 1, timing.n_obs_steps).items()}
    times = []
    for i in range(PLANS + 2):
        began = time.process_time()
        policy.act(seen, rng=seeded(i))
        times.append(1000 * (time.process_time() - began))
    size = sum(p.numel() for p in policy.parameters()) / 1e6
    sees = "512 points" if inputs is POINTS else "96 px"
    return [system, sees, f"{size:.2f}", str(timing.horizon), f"{statistics.median(times[2:]):.1f}"]


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for system in SYSTEMS:
        rows.append(row(system))
        print(*rows[-1], flush=True)
    keep(
        "speed-chunks",
        title="Milliseconds a chunk of policies that see, at the sizes that two cores train",
        command="python -m benchmarks.chunk_speed",
        note=f"Untrained, by torch, one thread, medians of {PLANS} plans in processor time. Action tokens are written "
        "to the longest plan there is.",
        columns=["system", "sees", "M parameters", "actions a chunk", "ms a chunk"],
        rows=rows,
    )


if __name__ == "__main__":
    main()
