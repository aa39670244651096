"""Records demonstrations of a scripted expert."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from nextmove import data, sim
from nextmove.sim.versions import installed


def record(
    task: str,
    *,
    out: str | Path | None = None,
    episodes: int = 400,
    noise: float | None = None,
    noisy_share: float = 1.0,
    multimodal: bool = False,
    cameras: tuple[str, ...] = (),
    seed: int = 0,
    workers: int = 2,
) -> Path:
    """Records the scripted expert of a simulator's task into a LeRobot v3.0 data set.

    Finished episodes survive a crash; the same command resumes. The result does not depend on the number of workers.

    Args:
        task: Name of the task (pusht).
        out: Folder of the data set; default runs/TASK.
        episodes: Demonstrations to record; a seed the expert does not solve is passed over.
        noise: Spread of the noise on executed actions, in the action's units (default: the task's own, 5 px for
            pusht); the noise-free action is stored, so that recovering is demonstrated too.
        noisy_share: Share of episodes with that noise.
        multimodal: Let the expert choose among near-best ways at random, where it can.
        cameras: Cameras to store as video, NAME or NAME=HEIGHTxWIDTH: `image` of pusht is 96x96 by default.
        seed: First episode's seed.
        workers: Processes that record.

    Raises:
        SimulatorError: for a task that is unknown or not installed, a camera or size that it lacks, and a task or
            expert that cannot do what is asked.
        DataError: where OUT holds something else, and for a size that video cannot hold.
        RecordingError: where an episode raised, a process died, the disk is full or too many episodes failed.
        ValueError: for numbers out of bounds.
    """
    chosen = sim.task(task)
    settings: dict[str, Any] = {"multimodal": True} if multimodal else {}
    spread = chosen.noise if noise is None else noise
    sized, folder = chosen.sized(cameras), Path(out) if out else Path("runs") / task
    if not folder.exists():
        # What the simulator refuses (a size, this machine) costs no worker and leaves no folder.
        sim.make(task, sized).close()
    return data.record(
        folder,
        features=chosen.entries(sized),
        fps=chosen.fps,
        episode=partial(
            sim.demonstrate, task, seed=seed, noise=spread, noisy_share=noisy_share, cameras=sized, **settings
        ),
        episodes=episodes,
        workers=workers,
        task=chosen.instruction,
        robot_type=chosen.robot_type,
        simulator=installed([chosen], cameras=bool(sized)),
    )
