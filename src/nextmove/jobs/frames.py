"""The cameras that a policy is trained on: read from stores of decoded frames, broken episodes named or left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nextmove import data
from nextmove.data.cameras import VideoCamera
from nextmove.data.frames import GB, Frames, stored_frames
from nextmove.data.watched import listed, shared, unreadable
from nextmove.encoders.camera import CameraEncoder
from nextmove.evaluation.progress import counted_bar
from nextmove.models.policy import Policy

NAMED = 8
"""Broken episodes whose reasons are shown."""


def filmed(
    dataset: data.Dataset,
    policy: Policy,
    count: int,
    leave_out: Sequence[int],
    leave_out_broken: bool,
    frame_store_gb: float,
) -> tuple[Frames, tuple[int, ...]]:
    """Where the policy's cameras are read for training on the first `count` episodes not left out (0: all).

    And the numbers of all episodes that are left out, with `leave_out_broken` those whose images are missing or damaged
    too; without it they are an error. Raises DataError naming every such episode.
    """
    sizes, left = sizes_of(policy, dataset), tuple(leave_out)
    cameras = [name for name, feature in policy.inputs.items() if feature.type == "image"]
    for name in cameras:
        if remark := dataset.layout.feature(name).remark:
            print(f"warning: {name}: {remark}")
        camera = dataset.video(name)
        for fault in shared(dataset, camera) if isinstance(camera, VideoCamera) else ():
            print(f"warning: {name}: {fault.why}")
    bar = counted_bar("frames decoded")
    while cameras:
        rest = np.setdiff1d(np.arange(dataset.num_episodes), np.array(left, np.int64))
        episodes = rest[: count or len(rest)]
        broken = unreadable(dataset, cameras, episodes, opened=False)
        found = None if broken else stored_frames(dataset, sizes, episodes, limit=frame_store_gb * GB, bar=bar)
        if found is not None:
            broken = {number: why for number, why in found.broken.items() if number in set(episodes.tolist())}
        elif not broken:
            broken = unreadable(dataset, cameras, episodes, opened=True)
        if not broken:
            return found or Frames({}), left
        report = _report(dataset, broken)
        numbers = tuple(sorted(broken))
        if not leave_out_broken:
            each = " ".join(map(str, numbers))
            way = f"or train without them: --leave-out-broken, or --leave-out {each}"
            raise data.DataError(f"{report}; mend them, {way if len(numbers) < len(episodes) else 'for none is left'}")
        print(f"left out: {report}")
        left += numbers
    return Frames({}), left


def sizes_of(policy: Policy, dataset: data.Dataset) -> dict[str, tuple[int, int]]:
    """Height and width at which training reads the policy's cameras in colour, by name.

    That is what its encoder resizes them to, before any crop; of a camera that several parts read otherwise, its own.
    """
    shapes = {n: dataset.layout.feature(n) for n, f in policy.inputs.items() if f.type == "image"}
    sizes = {name: camera.shape[:2] for name, camera in shapes.items() if not camera.is_depth}
    parts = [part.sizes for part in policy.modules() if isinstance(part, CameraEncoder)]
    for name in sizes:
        asked = {part[name] for part in parts if name in part}
        if len(asked) == 1:
            sizes[name] = asked.pop()
    return {name: (height, width) for name, (height, width) in sizes.items()}


def _report(dataset: data.Dataset, broken: dict[int, str]) -> str:
    """Every broken episode, the reasons of the first ones."""
    numbers = sorted(broken)
    some = "; ".join(f"episode {number}: {broken[number]}" for number in numbers[:NAMED])
    more = f"; and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    which = f"{len(numbers)} of {dataset.num_episodes} episodes ({listed(numbers)})"
    return f"{dataset.root}: no images of {which}: {some}{more}"
