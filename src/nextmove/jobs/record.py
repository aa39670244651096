"""A scripted expert to demonstrations."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from nextmove import data, sim


def record(
    simulator: str,
    *,
    out: str | Path | None = None,
    episodes: int = 400,
    noise: float = 5.0,
    noisy_share: float = 1.0,
    multimodal: bool = False,
    images: bool = False,
    seed: int = 0,
    workers: int = 2,
) -> Path:
    """Records a simulator's scripted expert into a LeRobot v3.0 data set.

    Finished episodes survive whatever happens; the same command goes on where it stopped. The result does not depend
    on the number of workers.

    Args:
        simulator: Name of the simulator (pusht).
        out: Folder of the data set; default runs/SIMULATOR.
        episodes: Demonstrations to record; a seed the expert does not solve is passed over.
        noise: Spread of the noise on executed actions, in the action's units; the noise-free action is stored, so
            that recovering is demonstrated too.
        noisy_share: Share of episodes with that noise.
        multimodal: Let the expert choose among near-best ways at random.
        images: Store the 96 x 96 camera as video.
        seed: First episode's seed.
        workers: Processes that record.

    Raises:
        SimulatorError: for a simulator that is unknown or not installed.
        DataError: where OUT holds something else.
        RecordingError: where an episode raised, a process died, the disk is full or too many episodes failed.
        ValueError: for numbers out of bounds.
    """
    return data.record(
        Path(out) if out else Path("runs") / simulator,
        features=sim.features(simulator, images=images),
        fps=sim.fps(simulator),
        episode=partial(
            sim.demonstrate, simulator, seed=seed, noise=noise, noisy_share=noisy_share, multimodal=multimodal,
            images=images,
        ),
        episodes=episodes,
        workers=workers,
        task=sim.task(simulator),
        robot_type=simulator,
    )  # fmt: skip
