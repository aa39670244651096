"""What action windows are relative to: nothing, the robot at the chunk's start, or the action before.

Shapes: B batch, T observation steps, H horizon, A action width, M width of what is made of it (A but for rotations).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from nextmove.codecs.poses import Pose, put_back, seen_from, splice, written
from nextmove.geometry import KINDS, along, back, heading

Space = Literal["absolute", "relative", "deltas"]


@dataclass(frozen=True)
class Relative:
    """An invertible map of action windows (B, H, A) to (B, H, M), the same for every policy and without statistics.

    With a_h the action at step h and s what the robot's state holds of it now:

        absolute: x_h = a_h
        relative: x_h = a_h - s (with `stepwise` the state at the action's own step, where windows of both coincide)
        deltas:   x_h = a_h - a_{h-1}, for the action due now a_h - s; before it, from the action after

    In poses the difference is that of rigid motions: the pose as seen from the other one (`poses.seen_from`).
    """

    width: int
    """A."""
    space: Space = "absolute"
    reference: str = "observation.state"
    """The observed state that relative actions and deltas start from."""
    columns: tuple[int, ...] = ()
    """Of the state, for each of the action's; -1: stays absolute. None: as wide as the action, in its order."""
    frame: str | None = None
    """The observed points along whose heading relative actions are expressed (in the plane), if any."""
    stepwise: bool = False
    now: int = 0
    """Step of the horizon that is due now."""
    poses: tuple[Pose, ...] = ()

    @property
    def name(self) -> str:
        """In words."""
        if self.space == "absolute":
            return "absolute"
        start = f"relative to {self.reference}" if self.space == "relative" else f"deltas from {self.reference} on"
        return start + (f" along {self.frame}" if self.frame else "")

    @property
    def plain(self) -> bool:
        """Whether nothing is changed."""
        return self.space == "absolute" and not self.poses

    @property
    def inputs(self) -> tuple[str, ...]:
        """Features of the observation that it reads."""
        found = () if self.space == "absolute" else (self.reference, self.frame)
        return tuple(name for name in dict.fromkeys(found) if name)

    @property
    def made(self) -> int:
        """M."""
        return self.width + sum(KINDS[p.shown] - KINDS[p.kind] for p in self.poses)

    def apply(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Actions (B, H, A) to (B, H, M); raises ValueError for a state that is absent or of another width."""
        if self.space == "absolute":
            return self._posed(action, action, None)
        origin = self._origin(action, obs)
        before = self._before(action, origin)
        x = action - self._kept(before)
        if self.frame:
            x = along(x, self._ahead(obs))
        return self._posed(x, action, before)

    def undo(self, x: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """(B, H, M) to actions (B, H, A)."""
        inner = self._columns()
        plain = splice(x, [(inner[c.start], x.new_zeros(*x.shape[:-1], len(c))) for p in self.poses for c in _all(p)])
        if self.space == "absolute":
            return self._unposed(plain, x, inner, None)
        origin = self._origin(plain, obs)
        if self.frame:
            plain = back(plain, self._ahead(obs))
        moved = self._kept(origin)
        found = plain + moved if self.space == "relative" else self._summed(plain, moved)
        return self._unposed(found, x, inner, origin)

    def size(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Largest magnitude of the numbers that what is made was computed from, () or (M,); 0: of those themselves."""
        if self.space == "absolute":
            return torch.zeros(())
        largest = torch.maximum(action.abs().amax((0, 1)), self._origin(action, obs).abs().amax((0, 1)))
        # Turning mixes the axes.
        largest = largest.amax().expand_as(largest) if self.frame else largest
        largest = torch.where(self._moves(action), largest, 0)
        found = []
        for pose in self.poses:
            found.append((pose.turned, largest.new_ones(KINDS[pose.shown])))
            if pose.position is not None:
                place = largest[pose.position : pose.position + 3]
                found.append((pose.moved, place.amax().expand(3)))
        return splice(largest, found)

    def known(self, weight: Tensor) -> Tensor:
        """Which entries (B, H, M) of what is made are known, from those of the actions (B, H, A): 0 to 1."""
        if self.space == "deltas":
            before = self._before(weight, weight.new_ones(len(weight), 1, self.width))
            weight = torch.where(self._moves(weight), torch.minimum(weight, before), weight)
        found = []
        for pose in self.poses:
            whole = torch.cat([weight[..., c.start : c.stop] for c in _all(pose)], -1).amin(-1, keepdim=True)
            found.append((pose.turned, whole.expand(*whole.shape[:-1], KINDS[pose.shown])))
            if pose.position is not None:
                found.append((pose.moved, whole.expand(*whole.shape[:-1], 3)))
        return splice(weight, found)

    def _posed(self, x: Tensor, action: Tensor, before: Tensor | None) -> Tensor:
        """x with the columns of poses exchanged for those of their motions since `before` (absolute: None)."""
        found = []
        for pose in self.poses:
            turn, place = pose.parts(action)
            if before is not None:
                turn, place = seen_from(turn, place, *pose.parts(before))
            found += written(pose, turn, place, pose.shown)
        return splice(x, found)

    def _unposed(self, action: Tensor, x: Tensor, inner: dict[int, range], origin: Tensor | None) -> Tensor:
        """Actions with the columns of poses computed from those of x."""
        found = []
        for pose in self.poses:
            inside = replace(pose, kind=pose.shown, rotation=inner[pose.rotation].start)
            inside = replace(inside, position=None if pose.position is None else inner[pose.position].start)
            turn, place = inside.parts(x)
            if origin is not None:
                own = pose.parts(origin)
                if self.space == "relative":
                    turn, place = put_back(turn, place, *own)
                else:
                    turn, place = self._chained(turn, place, own)
            found += written(pose, turn, place, pose.kind)
        return splice(action, found)

    def _columns(self) -> dict[int, range]:
        """By the first column of a rotation or position in the action, its columns in what is made."""
        found, shift = {}, 0
        parts = [(c, _wide(p, c)) for p in self.poses for c in _all(p)]
        for columns, wide in sorted(parts, key=lambda part: part[0].start):
            found[columns.start] = range(columns.start + shift, columns.start + shift + wide)
            shift += wide - len(columns)
        return found

    def _before(self, action: Tensor, origin: Tensor) -> Tensor:
        """(B, H or 1, A) what each step is seen from."""
        if self.space == "relative":
            return origin
        return torch.cat([action[:, 1 : self.now + 1], origin, action[:, self.now : -1]], 1)

    def _summed(self, x: Tensor, origin: Tensor) -> Tensor:
        """Actions of the deltas x, where a dimension is a delta."""
        ahead = origin + x[:, self.now :].cumsum(1)
        past = ahead[:, :1] + x[:, : self.now].flip(1).cumsum(1).flip(1)
        return torch.where(self._moves(x), torch.cat([past, ahead], 1), x)

    def _chained(
        self, turn: Tensor, place: Tensor | None, own: tuple[Tensor, Tensor | None]
    ) -> tuple[Tensor, Tensor | None]:
        """Poses (B, H, ...) of motions from step to step, from the pose `own` on."""
        start = own[0][:, 0], None if own[1] is None else own[1][:, 0]
        turns, places, last = list(turn.unbind(1)), [None] * turn.shape[1] if place is None else place.unbind(1), start
        found: dict[int, tuple[Tensor, Tensor | None]] = {}
        for step in [*range(self.now, len(turns)), *range(self.now - 1, -1, -1)]:
            last = found[self.now] if step == self.now - 1 else last
            found[step] = last = put_back(turns[step], places[step], *last)
        made = [found[step] for step in range(len(turns))]
        whole = [at for _, at in made if at is not None]
        return torch.stack([turned for turned, _ in made], 1), torch.stack(whole, 1) if whole else None

    def _origin(self, action: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """(B, 1 or T, A) what the state holds of each dimension of the action."""
        if self.reference not in obs:
            raise ValueError(f"relative actions: expected feature {self.reference!r}, found {sorted(obs)}")
        state = obs[self.reference]
        origin = state if self.stepwise and self.space == "relative" else state[:, -1:]
        if self.columns:
            if origin.shape[-1] <= max(self.columns):
                raise ValueError(
                    f"{self.reference}: expected at least {max(self.columns) + 1} numbers, found {origin.shape[-1]}"
                )
            return origin[..., [max(c, 0) for c in self.columns]]
        if origin.shape[-1] != self.width:
            raise ValueError(
                f"{self.reference}: expected the width of the action, {self.width}, found {origin.shape[-1]}"
            )
        return origin

    def _moves(self, like: Tensor) -> Tensor:
        """(A,) bool: which dimensions are relative."""
        return torch.tensor([c >= 0 for c in self.columns or range(self.width)], device=like.device)

    def _kept(self, before: Tensor) -> Tensor:
        """What is subtracted: nothing where a dimension stays absolute."""
        return before if min(self.columns, default=0) >= 0 else torch.where(self._moves(before), before, 0)

    def _ahead(self, obs: Mapping[str, Tensor]) -> Tensor:
        """(B, 1 or T, 2) heading at the step that actions are relative to."""
        assert self.frame is not None
        if self.frame not in obs:
            raise ValueError(f"relative actions: expected feature {self.frame!r}, found {sorted(obs)}")
        return heading(obs[self.frame] if self.stepwise else obs[self.frame][:, -1:])


def _all(pose: Pose) -> list[range]:
    return [pose.turned] if pose.position is None else [pose.turned, pose.moved]


def _wide(pose: Pose, columns: range) -> int:
    return KINDS[pose.shown] if columns == pose.turned else 3
