"""The result of one episode: actions, success, smoothness; written to plain values and read back."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from nextmove.evaluation.keys import Key

Mode = Literal["exact", "batched"]
Array = NDArray[Any]


class Env(Protocol):
    """What evaluation asks of a simulator; `info["is_success"]` says whether the task is done.

    One with an attribute `holds` that is False can lose success again: its episodes go on after it and are scored at
    the end too.
    """

    @property
    def fps(self) -> float:
        """Actions a second."""
        ...

    @property
    def max_steps(self) -> int:
        """Actions an episode may take."""
        ...

    def reset(self, *, seed: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The first observation, a function of `seed` alone."""
        ...

    def step(self, action: Any) -> tuple[Mapping[str, Any], float, bool, bool, Mapping[str, Any]]:
        """Observation, reward, terminated, truncated, info."""
        ...

    def render(self) -> Array:
        """The scene, uint8 (height, width, 3)."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


@dataclass(frozen=True, eq=False)
class EpisodeResult:
    """One episode. Rewards in the simulator's units, actions (steps, A) in the robot's."""

    seed: int
    success: bool
    """Whether `is_success` held at any step."""
    max_reward: float
    steps: int
    fps: float
    actions: Array
    mode: Mode = "exact"
    """exact: alone at batch 1 on one thread, independent of workers. batched: the same noise, rounding may differ."""
    ms_per_chunk: tuple[float, ...] = ()
    """Wall time of every plan, beside whatever else ran (for figures to quote see `latency`); empty when batched."""
    video: bytes | None = field(default=None, repr=False)
    """H.264 in mp4, from replaying the actions."""
    video_exact: bool = True
    """Whether the replay earned the same reward at every step, that is, shows what happened."""
    rewards: Array = field(default_factory=lambda: np.zeros(0, np.float32), repr=False)
    """(steps,)."""
    task: str = ""
    """Name of the simulator's task."""
    first_success: int | None = None
    """Steps after which `is_success` first held."""
    success_at_end: bool | None = None
    """Whether it held at the last step too; None where success ends an episode."""
    instruction: str = ""
    """What was said, where the environment says something."""
    words: tuple[tuple[int, str], ...] = ()
    """What the policy wrote before it acted, each with the step from which it held."""

    @property
    def steps_to_success(self) -> float:
        """Steps after which `is_success` first held; nan where it never did."""
        return float(self.first_success or self.steps) if self.success else float("nan")

    @property
    def key(self) -> Key:
        """Task and seed: unique within a policy, equal across policies for paired tests."""
        return self.task, self.seed

    @property
    def jerk(self) -> float:
        """Root mean square third difference of the executed actions times fps^3, in action units / s^3."""
        return jerk(self.actions, self.fps)

    @property
    def roughness(self) -> float:
        """Mean absolute second difference of the executed actions, in action units / step^2."""
        return roughness(self.actions)


class Trace:
    """Gathers an episode of `env` step by step."""

    def __init__(self, env: Env, seed: int, task: str = "") -> None:
        self.seed, self.fps, self.task = seed, env.fps, task
        self.actions: list[Array] = []
        self.rewards: list[float] = []
        self.first_success: int | None = None
        self.success_at_end: bool | None = None if getattr(env, "holds", True) else False
        self.instruction = str(getattr(env, "instruction", ""))
        self.words: list[tuple[int, str]] = []

    def add(self, action: Array, reward: float, info: Mapping[str, Any]) -> None:
        """One step that was taken."""
        if "is_success" not in info:
            raise KeyError(f"info of step: expected 'is_success', found {sorted(info)}")
        self.actions.append(np.array(action, np.float32))
        self.rewards.append(float(reward))
        reached = bool(info["is_success"])
        if reached and self.first_success is None:
            self.first_success = len(self.rewards)
        if self.success_at_end is not None:
            self.success_at_end = reached

    def say(self, words: str) -> None:
        """What the policy wrote before the action that comes next."""
        if words != (self.words[-1][1] if self.words else ""):
            self.words.append((len(self.actions), words))

    def result(self, mode: Mode, ms_per_chunk: Sequence[float] = ()) -> EpisodeResult:
        """The episode as it ended."""
        return EpisodeResult(
            task=self.task,
            seed=self.seed,
            success=self.first_success is not None,
            max_reward=max(self.rewards, default=float("nan")),
            steps=len(self.rewards),
            fps=float(self.fps),
            actions=np.stack(self.actions) if self.actions else np.zeros((0, 0), np.float32),
            mode=mode,
            ms_per_chunk=tuple(ms_per_chunk),
            rewards=np.asarray(self.rewards, np.float32),
            first_success=self.first_success,
            success_at_end=self.success_at_end,
            instruction=self.instruction,
            words=tuple(self.words),
        )


def jerk(actions: Array, fps: float) -> float:
    """Root mean square of the third difference along the second last axis, times fps^3; nan below four steps."""
    if actions.shape[-2] < 4:
        return float("nan")
    third = np.diff(actions.astype(np.float64), n=3, axis=-2)
    return float(np.sqrt(np.mean(third**2)) * fps**3)


def roughness(actions: Array) -> float:
    """Mean absolute second difference along the second last axis; nan below three steps."""
    if actions.shape[-2] < 3:
        return float("nan")
    return float(np.abs(np.diff(actions.astype(np.float64), n=2, axis=-2)).mean())


def plain(value: Any) -> Any:
    """The same as JSON knows it: arrays and tuples as lists, numbers that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def episode_json(episode: EpisodeResult) -> dict[str, Any]:
    """Everything about an episode as plain JSON values, its actions and video included."""
    record = {f.name: getattr(episode, f.name) for f in dataclasses.fields(episode)}
    record["video"] = None if episode.video is None else base64.b64encode(episode.video).decode()
    return dict(plain(record))


def read_episode(record: Mapping[str, Any], task: str = "") -> EpisodeResult:
    """What `episode_json` made; raises ValueError where the keys are not an episode's.

    task: of records of older versions, which name none; their success ended an episode and nothing was said.
    """
    names = {f.name for f in dataclasses.fields(EpisodeResult)}
    record = {"task": task, "first_success": None, "success_at_end": None, "instruction": "", "words": (), **record}
    if set(record) != names:
        raise ValueError(f"episode: expected the keys {sorted(names)}, found {sorted(record)}")
    values = dict(record)
    values["actions"] = np.asarray(record["actions"], np.float32).reshape(len(record["actions"]), -1)
    values["rewards"] = np.asarray(record["rewards"], np.float32)
    values["ms_per_chunk"] = tuple(record["ms_per_chunk"])
    values["words"] = tuple((int(step), str(text)) for step, text in record["words"])
    values["max_reward"] = float("nan") if record["max_reward"] is None else float(record["max_reward"])
    values["video"] = None if record["video"] is None else base64.b64decode(record["video"], validate=True)
    return EpisodeResult(**values)
