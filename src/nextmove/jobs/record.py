"""Records demonstrations of a scripted expert."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nextmove import data, sim
from nextmove.config import ConfigError
from nextmove.jobs.repeat import at_least
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
    points: int = 0,
    seed: int = 0,
    workers: int = 2,
) -> Path:
    """Records the scripted expert of a simulator's task into a LeRobot v3.0 data set.

    Finished episodes survive a crash; the same command resumes. The result does not depend on the number of workers.
    Of a suite all tasks are recorded into one data set, in turns, each episode with its task's instruction.

    Args:
        task: Name of the task (pusht) or of a suite (metaworld/mt10).
        out: Folder of the data set; default runs/TASK.
        episodes: Demonstrations of each task to record; a seed the expert does not solve is passed over.
        noise: Spread of the noise on executed actions, in the action's units (default: the task's own, 5 px for
            pusht, 0.02 rad for aloha); the noise-free action is stored, so that recovering is demonstrated too.
        noisy_share: Share of episodes with that noise.
        multimodal: Let the expert choose among near-best ways at random, where it can.
        cameras: Cameras to store as video, NAME or NAME=HEIGHTxWIDTH: `image` of pusht is 96x96 by default. NAME_depth
            is the depth of a camera, for tasks that offer one (aloha, metaworld, libero).
        points: Points of a cloud to store as `observation.point_cloud`, for tasks that offer one (aloha,
            metaworld, libero); 0: none.
        seed: First episode's seed.
        workers: Processes that record.

    Raises:
        SimulatorError: for a task that is unknown or not installed, a camera or size that it lacks, and a task or
            expert that cannot do what is asked.
        DataError: where OUT holds something else, and for a size that video cannot hold.
        RecordingError: where an episode raised, a process died, the disk is full or too many episodes failed.
        ConfigError: for numbers out of bounds, before anything is written.
    """
    tasks = _alike(sim.find(task))
    at_least(1, episodes=episodes)
    at_least(0, seed=seed, points=points, workers=workers)
    if noise is not None and not 0 <= noise < float("inf"):
        raise ConfigError(f"noise: expected 0 or more, found {noise:g}")
    if not 0 <= noisy_share <= 1:
        raise ConfigError(f"noisy_share: expected 0 to 1, found {noisy_share:g}")
    first, names = tasks[0], [one.name for one in tasks]
    settings: dict[str, Any] = {"multimodal": True} if multimodal else {}
    settings |= {"points": points} if points else {}
    spread = first.noise if noise is None else noise
    sized, folder = first.sized(cameras), Path(out) if out else Path("runs") / task
    before = folder.exists()
    if not before:
        # What the simulator refuses (a size, this machine) costs no worker and leaves no folder.
        sim.make(first, sized, points).close()
    play = partial(sim.demonstrate, names[0]) if len(names) == 1 else partial(sim.in_turn, names)
    data.record(
        folder,
        features=first.entries(sized, points),
        fps=first.fps,
        episode=partial(play, seed=seed, noise=spread, noisy_share=noisy_share, cameras=sized, **settings),
        episodes=episodes,
        workers=workers,
        task=first.instruction if len(tasks) == 1 else [one.instruction for one in tasks],
        robot_type=first.robot_type,
        source=partial(_source, names, seed),
        simulator=installed(tasks, cameras=bool(sized or points)),
    )
    made = data.open_dataset(folder)
    said = "recorded before as asked for now, nothing to do: " * before
    count = f"{made.num_episodes} demonstration{'s' * (made.num_episodes != 1)}"
    print(f"{folder}: {said}{count}, {len(made)} frames at {made.fps:g} Hz")
    return folder


def _alike(tasks: Sequence[sim.Task]) -> Sequence[sim.Task]:
    """The tasks; raises SimulatorError where they are not of one robot, whose episodes make one data set."""
    for task in tasks[1:]:
        for what in ("features", "cameras", "fps", "robot_type", "noise"):
            if getattr(task, what) != getattr(tasks[0], what):
                raise sim.SimulatorError(
                    f"task: expected tasks of one robot, found {tasks[0].name} and {task.name}, whose {what} differ; "
                    "record each on its own"
                )
    return tasks


def _source(names: Sequence[str], seed: int, number: int) -> dict[str, Any]:
    """Whose episode `number` is."""
    return {"task": names[number % len(names)], "seed": seed + number // len(names)}
