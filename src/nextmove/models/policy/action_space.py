"""The space in which actions are generated: absolute, relative or deltas, rotations, scaled, as ids, padded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from nextmove.codecs import Actions, Bins, Scaled
from nextmove.codecs.edge_bins import EdgeBins
from nextmove.codecs.fast import Fast
from nextmove.codecs.fast_tokens import FastTokens
from nextmove.codecs.levels import Levels
from nextmove.codecs.poses import Pose
from nextmove.codecs.relative import Relative
from nextmove.contracts.features import listed
from nextmove.encoders import State
from nextmove.geometry import KINDS, Rotation
from nextmove.models.policy.matching import columns, kept, share_names
from nextmove.models.policy.spec import PolicySpec, Timing

Scaling = Literal["mean_std", "min_max", "quantiles", "quantile10", "identity"]


@dataclass(frozen=True)
class ActionSpace:
    """How action windows are expressed before a decoder sees them; `auto` is decided when a policy is built.

    With the defaults an action a at step h of the horizon becomes x = (R (a - s) - mean_h) / std_h, mean and std over
    all training windows (codecs/scaled.py, `Scaled.encode`); s is the robot's present position and R turns directions
    into the frame of the observed points. Where state and action are not known to be the same joints s is 0, and where
    no points are observed nothing is turned (codecs/relative.py, `Relative`).
    """

    scaling: Scaling = "mean_std"
    per_step: bool = True
    """Statistics for each step of the horizon on its own."""
    bins: int = 0
    """Number of uniform bins a dimension is cut into; 0 keeps actions continuous."""
    levels: bool = False
    """Ids stand for evenly spaced values, the ends among them, in place of the middles of bins (RT-1)."""
    choices: tuple[tuple[int, int], ...] = ()
    """First dimension and number of those in a row of which one is chosen, written as one id; of `levels`."""
    ranges: tuple[tuple[float, float], ...] = ()
    """Low and high of each dimension, in the robot's units, in place of those found in data; of `levels`."""
    edges: bool = False
    """Whether `bins` counts the edges of bins over [-1, 1], as OpenVLA does (codecs/edge_bins.py, `EdgeBins`)."""
    clip: bool = False
    """Whether scaled actions are cut to [-1, 1]."""
    fast: int = 0
    """Most pieces of FAST's tokenizer, which is fitted on the scaled actions (codecs/fast.py); 0 = without."""
    fast_scale: float = 10.0
    """What FAST multiplies a window's frequencies by before it rounds them: larger is finer, with more ids."""
    fast_length: int = 0
    """Most ids of a window that FAST writes, its end counted; 0 = as many as it may need."""
    written: int = 0
    """Most pieces of a FAST tokenizer by which actions are written too, beside the numbers that are generated, for a
    decoder that teaches its language model to (pi0.5's insulation); 0 = they are not."""
    space: Literal["auto", "shown", "absolute", "relative", "deltas"] = "auto"
    """`relative` to the reference's present value; `deltas`: each action to the one before; `shown`: relative where the
    encoder shows points seen from the reference, else absolute; `auto`: relative there and where reference and action
    have the same names, else absolute."""
    reference: str = "observation.state"
    """The observed position that relative actions and deltas start from: the same names as the action's, or as wide."""
    keep: tuple[str, ...] = ("gripper",)
    """What stays absolute in every space: parts of dimensions' names, or their numbers from 0."""
    frame: Literal["auto", "world", "object"] = "auto"
    """Whose axes directions follow; `object`: the points' heading (`auto`: where points are shown, in the plane, and
    actions are relative)."""
    rotation: Literal["none", "6d", "6d_rows", "quaternion_xyzw", "quaternion_wxyz", "axis_angle"] = "none"
    """How the data write rotations (geometry/rotations.py)."""
    rotation_at: tuple[int, ...] = ()
    """The first dimension of each rotation."""
    position_at: tuple[int, ...] = ()
    """The first dimension of the position that goes with each rotation: with it differences are those of SE(3)."""
    rotation_shown: Rotation = "6d"
    """How decoders see rotations."""
    width: int = 0
    """Width that actions are padded to with zeros, whatever the robot (pi0: 32); 0: none."""
    mask_padding: bool = False
    """Whether actions beyond the end of an episode count nothing in the loss."""

    def resolve(self, spec: PolicySpec, shown: State | None) -> ActionSpace:
        """The same with `auto` decided; `shown`: the encoder's part that shows points, if one does.

        Raises ValueError for a frame, a reference, rotations or a width that cannot be had.
        """
        found = self._matched(spec)
        close = shown is not None and found is not None
        near = close or (self.space == "auto" and share_names(spec, self.reference, self.keep))
        space = ("relative" if near else "absolute") if self.space in ("auto", "shown") else self.space
        planar = close and spec.action == 2 and space == "relative" and not kept(spec, self.keep)
        frame = ("object" if planar else "world") if self.frame == "auto" else self.frame
        if frame == "object" and not planar:
            raise ValueError(
                f"actions.frame: 'object' needs an encoder that shows points in x, y, and relative actions; "
                f"found {space} actions of width {spec.action}, and {listed(spec.inputs)}"
            )
        if space != "absolute" and found is None:
            raise ValueError(
                f"actions.reference: expected a state as wide as the action, {spec.action}, or with its names, to "
                f"which it is relative, found {self.reference!r} and {listed(spec.inputs)}"
            )
        relative = space != "absolute"
        made = spec.action + sum(KINDS[p.shown] - KINDS[p.kind] for p in self._poses(spec, found if relative else None))
        if self.width and self.width < made:
            raise ValueError(f"actions.width: expected at least the robot's {made}, found {self.width}")
        if self.width and self.classes:
            raise ValueError("actions.width: expected 0 with bins or FAST, whose ids are not padded")
        if self.bins and self.fast:
            raise ValueError(f"actions.fast: expected 0 with {self.bins} bins, found {self.fast}; choose one of them")
        if self.written and self.classes:
            raise ValueError(f"actions.written: expected 0 where ids are generated, found {self.written}")
        if self.mask_padding and (self.fast or self.written):
            raise ValueError("actions.mask_padding: expected false with FAST, whose ids belong to no step, found true")
        if (self.choices or self.ranges or self.levels) and not (self.bins and self.levels):
            raise ValueError("actions.levels: expected bins and levels where there are choices or ranges, found none")
        if self.ranges and space != "absolute":
            raise ValueError(f"actions.ranges: expected absolute actions, whose numbers they bound, found {space} ones")
        if self.edges and not (self.bins and self.clip):
            raise ValueError("actions.edges: expected bins, and actions that are clipped to [-1, 1], found others")
        return replace(self, space=space, frame=frame)

    def _matched(self, spec: PolicySpec) -> tuple[int, ...] | None:
        """The reference's `columns`; raises ValueError where one is asked for that there is not."""
        if self.space in ("auto", "shown") and self.reference not in (*spec.inputs, ActionSpace.reference):
            raise ValueError(f"actions.reference: expected a state, found {self.reference!r} and {listed(spec.inputs)}")
        return columns(spec, self.reference, self.keep)

    def codec(self, spec: PolicySpec, timing: Timing, shown: State | None) -> Actions:
        """The codec of a resolved space."""
        relative = self._relative(spec, timing, shown)
        made, mode = relative.made, "identity" if self.ranges else self.scaling
        return Actions(
            Scaled(timing.horizon * made if self.per_step else made, mode=mode, clip=self.clip),
            relative,
            per_step=self.per_step,
            bins=self._bins(made),
            fast=self._fast(self.fast, timing, made) if self.fast else None,
            beside=self._fast(self.written, timing, made) if self.written else None,
            pad=max(0, self.width - made),
            mask_padding=self.mask_padding,
        )

    def shape(self, spec: PolicySpec, timing: Timing) -> tuple[int, ...]:
        """Of x, without the batch: (H, M), or (L,) ids, H M with bins; M is the action's width, but for rotations."""
        made = self._relative(spec, timing, None).made
        if self.fast:
            return (self._fast(self.fast, timing, made).length,)
        ids = made - sum(count - 1 for _, count in self.choices)
        return (timing.horizon * ids,) if self.bins else (timing.horizon, self.width or made)

    def _bins(self, made: int) -> Bins | EdgeBins | None:
        if self.edges:
            return EdgeBins(edges=self.bins, width=made)
        if not self.levels:
            return Bins(bins=self.bins, width=made) if self.bins else None
        return Levels(bins=self.bins, width=made, choices=self.choices, ranges=self.ranges)

    @property
    def classes(self) -> int:
        """Number of different ids, the end's of FAST among them; 0 where actions are numbers."""
        return self.fast + 1 if self.fast else self.bins

    def _fast(self, pieces: int, timing: Timing, made: int) -> FastTokens:
        fast = Fast(vocabulary=pieces, scale=self.fast_scale)
        return FastTokens(fast, horizon=timing.horizon, width=made, length=self.fast_length)

    def _relative(self, spec: PolicySpec, timing: Timing, shown: State | None) -> Relative:
        relative = self.space in ("relative", "deltas")
        found = columns(spec, self.reference, self.keep) if relative else None
        return Relative(
            spec.action,
            "absolute" if not relative else "relative" if self.space == "relative" else "deltas",
            self.reference,
            columns=() if found is None or found == tuple(range(spec.inputs[self.reference].width)) else found,
            frame=shown.points if shown is not None and self.frame == "object" else None,
            stepwise=timing.align == "first_observation" and timing.horizon == timing.n_obs_steps,
            now=timing.first,
            poses=self._poses(spec, found),
        )

    def _poses(self, spec: PolicySpec, found: tuple[int, ...] | None) -> tuple[Pose, ...]:
        """The rotations and their positions; found: columns of the state that they are relative to, if they are."""
        if (self.rotation == "none") != (not self.rotation_at):
            raise ValueError(
                f"actions.rotation: expected a kind and the first dimension of each rotation, or neither, found "
                f"{self.rotation!r} and rotation_at {list(self.rotation_at)}"
            )
        if self.rotation == "none":
            return ()
        if self.position_at and len(self.position_at) != len(self.rotation_at):
            raise ValueError(
                f"actions.position_at: expected none or one for each rotation, {len(self.rotation_at)}, found "
                f"{list(self.position_at)}"
            )
        places = self.position_at or (None,) * len(self.rotation_at)
        poses = [
            Pose(self.rotation, at, place, self.rotation_shown)
            for at, place in zip(self.rotation_at, places, strict=True)
        ]
        taken = [column for pose in poses for column in (*pose.turned, *pose.moved)]
        if len({*taken}) < len(taken) or not {*taken} <= {*range(spec.action)}:
            raise ValueError(
                f"actions.rotation_at: expected dimensions apart and below {spec.action}, found {self.rotation} at "
                f"{list(self.rotation_at)} and positions at {list(self.position_at)}"
            )
        if found is not None and (lost := next((c for c in taken if found[c] < 0), None)) is not None:
            raise ValueError(
                f"actions.keep: expected no dimension of a rotation or its position, found {lost}, which "
                f"{list(self.keep)} keeps absolute or {self.reference!r} does not have"
            )
        return tuple(poses)
