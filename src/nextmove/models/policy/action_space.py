"""The space in which actions are generated: absolute or relative, scaled, in bins, padded to a common width."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from nextmove.codecs import Actions, Bins, Scaled
from nextmove.contracts.features import listed
from nextmove.encoders import State
from nextmove.models.policy.spec import PolicySpec, Timing

Scaling = Literal["mean_std", "min_max", "quantiles"]


@dataclass(frozen=True)
class ActionSpace:
    """How action windows are expressed before a decoder sees them; `auto` is decided when a policy is built.

    With the defaults an action a at step h of the horizon becomes x = (R (a - s) - mean_h) / std_h, mean and std over
    all training windows (codecs/scaled.py, `Scaled.encode`); s is the robot's present position and R turns directions
    into the frame of the observed points. Where no points are observed s is 0 and nothing is turned.
    """

    scaling: Scaling = "mean_std"
    per_step: bool = True
    """Statistics for each step of the horizon on its own."""
    bins: int = 0
    """Number of uniform bins a dimension is cut into; 0 keeps actions continuous."""
    space: Literal["auto", "absolute", "relative"] = "auto"
    """`relative` to the reference's present value (`auto`: where the encoder shows points seen from it)."""
    reference: str = "observation.state"
    """The observed position that relative actions start from, as wide as the action."""
    frame: Literal["auto", "world", "object"] = "auto"
    """Whose axes directions follow; `object`: the points' heading (`auto`: where points are shown, in the plane, and
    actions are relative)."""
    width: int = 0
    """Width that actions are padded to with zeros, whatever the robot (pi0: 32); 0: none."""
    mask_padding: bool = False
    """Whether actions beyond the end of an episode count nothing in the loss."""

    def resolve(self, spec: PolicySpec, shown: State | None) -> ActionSpace:
        """The same with `auto` decided; `shown`: the encoder's part that shows points, if one does.

        Raises ValueError for a frame or width that cannot be had.
        """
        referenced = self.reference in spec.inputs and spec.inputs[self.reference].shape == (spec.action,)
        close = shown is not None and referenced
        space = ("relative" if close else "absolute") if self.space == "auto" else self.space
        planar = close and spec.action == 2 and space == "relative"
        frame = ("object" if planar else "world") if self.frame == "auto" else self.frame
        if frame == "object" and not planar:
            raise ValueError(
                f"actions.frame: 'object' needs an encoder that shows points in x, y, and relative actions; "
                f"found {space} actions of width {spec.action}, and {listed(spec.inputs)}"
            )
        if space == "relative" and not referenced:
            raise ValueError(
                f"actions.reference: expected a state as wide as the action, {spec.action}, to which it is relative, "
                f"found {self.reference!r} and {listed(spec.inputs)}"
            )
        if self.width and self.width < spec.action:
            raise ValueError(f"actions.width: expected at least the robot's {spec.action}, found {self.width}")
        if self.width and self.bins:
            raise ValueError("actions.width: expected 0 with bins, whose ids are not padded")
        return replace(self, space=space, frame=frame)

    def codec(self, spec: PolicySpec, timing: Timing, shown: State | None) -> Actions:
        """The codec of a resolved space."""
        width = spec.action
        return Actions(
            Scaled(timing.horizon * width if self.per_step else width, mode=self.scaling),
            reference=self.reference if self.space == "relative" else None,
            frame=shown.points if shown is not None and self.frame == "object" else None,
            stepwise=timing.align == "first_observation" and timing.horizon == timing.n_obs_steps,
            per_step=self.per_step,
            bins=Bins(bins=self.bins, width=width) if self.bins else None,
            width=width,
            pad=max(0, self.width - width),
            mask_padding=self.mask_padding,
        )

    def shape(self, spec: PolicySpec, timing: Timing) -> tuple[int, ...]:
        """Of x, without the batch: (H, A), or (H A,) ids."""
        return (timing.horizon * spec.action,) if self.bins else (timing.horizon, self.width or spec.action)
