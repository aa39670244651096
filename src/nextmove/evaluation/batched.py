"""Many environments in one process, one network call for all that need a plan."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nextmove.contracts import Actor, seeded
from nextmove.control import BatchedEnsembling, BatchedReceding, suited_rows
from nextmove.evaluation.episode import Env, EpisodeResult, Trace
from nextmove.evaluation.keys import Key, by_task
from nextmove.evaluation.latency import TimedActor
from nextmove.evaluation.worlds import Makers, look
from nextmove.host.signals import check
from nextmove.host.workers import Failure, SetupError, why

Outcome = EpisodeResult | Failure


class _Slot:
    """One environment and the episode it plays; `trace` is None while it rests."""

    def __init__(self, make_env: Callable[[], Env], max_steps: int | None) -> None:
        self.make_env, self.max_steps = make_env, max_steps
        self.env = make_env()
        self.trace: Trace | None = None
        self.index = -1
        self.observation: Mapping[str, Any] | None = None

    def start(self, index: int, key: Key) -> Failure | None:
        """Begins the episode of this task and seed, the `index`th; what went wrong, if it did."""
        try:
            self.observation, _ = self.env.reset(seed=key[1])
        except Exception as problem:
            return self.fail(problem)
        self.index, self.trace = index, Trace(self.env, key[1], key[0])
        return None

    def step(self, action: Any) -> Outcome | None:
        """The episode's outcome if this step ended it."""
        assert self.trace is not None
        try:
            self.observation, reward, terminated, truncated, info = self.env.step(action)
            self.trace.add(action, reward, info)
        except Exception as problem:
            return self.fail(problem)
        if not (terminated or truncated or len(self.trace.rewards) >= (self.max_steps or self.env.max_steps)):
            return None
        result = self.trace.result("batched")
        self.trace = self.observation = None
        return result

    def fail(self, problem: Exception) -> Failure:
        """Ends the episode with this reason; a new environment replaces the one that raised."""
        self.env, self.trace, self.observation = self.make_env(), None, None
        return Failure(why(problem))


@dataclass(frozen=True)
class Batched:
    """Plays task after task on `envs` environments; an error of the policy itself stops everything."""

    makers: Makers
    make_policy: Callable[[], Actor]
    envs: int
    policy_seed: int
    max_steps: int | None
    n_action_steps: int | None

    def __call__(self, keys: Sequence[Key], done: Callable[[Outcome], None]) -> list[Outcome]:
        """An outcome for every task and seed, in their order; `done` is called with each as it comes."""
        actor: TimedActor | None = None
        outcomes: dict[Key, Outcome] = {}
        for task, seeds in by_task(keys).items():
            try:
                slots = [_Slot(self.makers[task], self.max_steps) for _ in range(min(self.envs, len(seeds)))]
                actor = actor or TimedActor(self.make_policy(), slots[0].env.fps)
            except Exception as problem:
                raise SetupError(f"the environment or policy could not be built: {why(problem)}") from problem
            actor.fps = slots[0].env.fps
            control = suited_rows(actor, len(slots), n_action_steps=self.n_action_steps)
            for index, result in self._play(slots, control, [(task, seed) for seed in seeds], not actor.blind):
                outcomes[task, seeds[index]] = result
                done(result)
                check()
            for slot in slots:
                slot.env.close()
        return [outcomes[key] for key in keys]

    def _play(
        self, slots: Sequence[_Slot], control: BatchedReceding | BatchedEnsembling, keys: Sequence[Key], sees: bool
    ) -> Iterator[tuple[int, Outcome]]:
        """Outcomes as they come, with their index; new episodes begin only when the others replan, to stay in phase."""
        waiting, tick = deque(enumerate(keys)), 0
        while waiting or any(slot.trace for slot in slots):
            if tick % control.n_action_steps == 0:
                for row, slot in enumerate(slots):
                    while slot.trace is None and waiting:
                        index, key = waiting.popleft()
                        control.reset(row, seeded(self.policy_seed, key[1]))
                        failure = slot.start(index, key)
                        if failure is not None:
                            yield index, failure
            actions = control.step([slot.observation for slot in slots])
            for row, (slot, action) in enumerate(zip(slots, actions, strict=True)):
                look(slot.env, sees and control.looks(row))
                if slot.trace is not None and (result := slot.step(action)) is not None:
                    yield slot.index, result
            tick += 1
