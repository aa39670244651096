"""Run a foreign checkpoint with our parts and compare with what its own code gave; prints one JSON line.

    python benchmarks/parity.py CASE [--golden DIR]

CASE is a folder, or the name of one in DIR (default tests/golden), that holds `io.safetensors` and a checkpoint: whole,
or described by `weights.json`. Policies are compared here, language models and logits filters in `language_parity.py`.

max_abs_diff covers outputs, conditions, closed-loop sequences and ensembles, in the model's space or in raw units over
max(1, the unit's size in them), and logits; loss_diff and grad_diff are relative (null where there is nothing to
compare); greedy_equal says whether the likeliest texts are the same. keys_* count the tensors of the checkpoint; why
one is ignored goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "golden"))

sys.path.insert(0, str(ROOT))

from benchmarks import language_parity  # noqa: E402
from materialise import materialise  # noqa: E402

from nextmove.contracts import Batch, Chunk, Rng, total  # noqa: E402
from nextmove.control import suited_rows  # noqa: E402
from nextmove.control.ensemble import TemporalEnsemble  # noqa: E402
from nextmove.folders import open_folder  # noqa: E402
from nextmove.interop import Loaded  # noqa: E402

IO = "io.safetensors"


class Fixed:
    """An actor that always starts from the given noise."""

    def __init__(self, loaded: Loaded, draws: Mapping[str, Tensor]) -> None:
        self.loaded, self.draws = loaded, draws
        timing = loaded.policy.timing
        self.n_obs_steps, self.n_action_steps, self.horizon = timing.n_obs_steps, timing.n_action_steps, timing.horizon
        self.ensemble = timing.ensemble

    def act(self, obs: Batch, *, rng: Rng, previous: Chunk | None = None) -> Chunk:
        """The raw plan from now on."""
        x = self.loaded.predict(self.loaded.preprocess(obs), **self.draws)
        return Chunk(self.loaded.postprocess(x)[:, self.loaded.policy.timing.first :], 0.1)


class Comparison:
    """Everything io.safetensors holds against a loaded policy."""

    def __init__(self, loaded: Loaded, io: Mapping[str, Tensor]) -> None:
        self.loaded, self.io = loaded, io
        self.outputs: dict[str, float] = {}
        self.losses: dict[str, float] = {}
        self.grads: dict[str, float] = {}
        self.is_act = loaded.report.family == "act"
        given = {"noise": "noise.initial", "step_noise": "noise.variance"}
        self.draws = {ours: io[name] for ours, name in given.items() if name in io}

    def run(self) -> None:
        """All comparisons there are inputs for."""
        self.chunk()
        if "train.action" in self.io:
            self.loss()
        if "ensemble.chunks" in self.io:
            self.ensemble()
        if "sequence.actions" in self.io:
            self.sequence()

    @property
    def skipped(self) -> list[str]:
        """Expected tensors that nothing was compared with."""
        done = {*self.outputs, *self.losses, *self.grads}
        expected = [n for n in self.io if n.startswith(("out.", "loss", "grad.")) or n.endswith(".actions")]
        return [name for name in expected if name not in done]

    def observed(self, prefix: str) -> dict[str, Tensor]:
        """Raw observations (B, T, ...) under `prefix`."""
        others = {"action", "action_is_pad", "noise", "timesteps", "t", "latent_eps", "actions"}
        named = {n.removeprefix(prefix): v for n, v in self.io.items() if n.startswith(prefix)}
        found = {name: value for name, value in named.items() if name not in others}
        # ACT's inputs come without a time axis.
        return {n: v[:, None] for n, v in found.items()} if self.is_act else found

    def note(self, name: str, found: Tensor, unit: Tensor) -> None:
        """Compares one output, differences being measured in `unit`, at least 1."""
        want = self.io[name]
        if want.shape != found.shape:
            raise ValueError(f"{name}: expected shape {tuple(want.shape)}, found {tuple(found.shape)}")
        self.outputs[name] = float(((found.detach() - want).abs() / unit.clamp_min(1)).max())

    @property
    def unit(self) -> Tensor:
        """The raw size of one unit of the model's space, per action dimension."""
        decode = self.loaded.postprocess
        width = self.loaded.policy.spec.action
        return (decode(torch.ones(1, 1, width)) - decode(torch.zeros(1, 1, width))).abs()[0, 0]

    def chunk(self) -> None:
        """One plan."""
        ctx = self.loaded.preprocess(self.observed("in."))
        whole = self.loaded.predict(ctx, **self.draws)
        raw = self.loaded.postprocess(whole)
        flow = self.loaded.report.family == "flowpolicy"
        part = whole if flow or self.is_act else self.loaded.executed(whole)
        action = raw if self.is_act else self.loaded.executed(raw)
        one, condition = torch.ones(()), self.io.get("out.global_cond")
        made = {
            "horizon_normalized": (whole, one),
            "normalized": (part, one),
            "action": (action, self.unit),
            "action_pred": (raw, self.unit),
        }
        if condition is not None and ctx.vector is not None:
            # A channel outside the range of a constant statistic is a huge number, exact to its own last digits.
            made["global_cond"] = (ctx.vector, condition.abs())
        for name, (value, unit) in made.items():
            if f"out.{name}" in self.io:
                self.note(f"out.{name}", value, unit)

    def loss(self) -> None:
        """The training loss, its parts, and gradients."""
        io = self.io
        own = self.observed("train.")
        batch: dict[str, Any] = {**(own or self.observed("in.")), "action": io["train.action"]}
        if "train.action_is_pad" in io:
            batch["action_is_pad"] = io["train.action_is_pad"]
        draws = {ours: io[n] for ours, n in {"noise": "train.noise", "t": "train.t"}.items() if n in io}
        if "train.timesteps" in io:
            # Index i of a table of T stands at 1 - (i + 1) / T; our time runs from noise to data.
            draws["t"] = 1 - (io["train.timesteps"].double() + 1) / self.loaded.config.num_train_timesteps
            draws["t"] = draws["t"].float()
        if "train.latent_eps" in io and self.loaded.config.use_vae:
            draws["eps"] = io["train.latent_eps"]
        terms = self.loaded.loss_at(batch, **draws)
        loss = total(terms)
        found = {"loss": loss}
        if self.is_act:
            found["loss.l1_loss"] = terms["l1"]
            if "kl" in terms:
                found["loss.kld_loss"] = terms["kl"] / self.loaded.config.kl_weight
        for name, value in found.items():
            if name in io:
                want = float(io[name])
                self.losses[name] = abs(float(value.detach()) - want) / max(abs(want), 1e-12)
        self.gradients(loss)

    def gradients(self, loss: Tensor) -> None:
        """Gradients of the loss that the case lists, by the checkpoint's names."""
        wanted = [name for name in self.io if name.startswith("grad.")]
        if not wanted:
            return
        weights = dict(self.loaded.policy.named_parameters())
        own = [weights[self.loaded.names[name.removeprefix("grad.")]] for name in wanted]
        for name, grad in zip(wanted, torch.autograd.grad(loss, own), strict=True):
            want = self.io[name]
            self.grads[name] = float((grad - want).abs().max() / want.abs().max().clamp_min(1e-12))

    def ensemble(self) -> None:
        """Given plans, averaged."""
        ensemble = TemporalEnsemble(float(self.io["ensemble.coeff"]))
        made = [ensemble.step(plan) for plan in self.io["ensemble.chunks"]]
        self.note("ensemble.actions", torch.stack(made), self.unit)

    def sequence(self) -> None:
        """A closed loop: our controller on given observations, every plan from the same noise."""
        raw = {n.removeprefix("sequence."): v for n, v in self.io.items() if n.startswith("sequence.observation")}
        ticks, rows = self.io["sequence.actions"].shape[:2]
        seen = [[{n: v[t, b].numpy() for n, v in raw.items()} for b in range(rows)] for t in range(ticks)]
        control = suited_rows(Fixed(self.loaded, self.draws), rows)
        for row in range(rows):
            control.reset(row, torch.Generator())
        made = []
        for observations in seen:
            made.append(torch.from_numpy(np.stack([np.asarray(action) for action in control.step(observations)])))
        self.note("sequence.actions", torch.stack(made), self.unit)


def run(case: Path, folder: Path) -> dict[str, Any]:
    """The comparison of one case, materialised in `folder`; a case that does not load gives `error`."""
    whole = materialise(case, folder) if (case / "weights.json").is_file() else case
    if language_parity.knows(whole):
        return language_parity.run(case.name, whole)
    result: dict[str, Any] = {"case": case.name, "max_abs_diff": None, "loss_diff": None, "grad_diff": None}
    try:
        loaded = open_folder(whole).foreign()
    except (ValueError, FileNotFoundError) as problem:
        return {**result, "error": str(problem)}
    print(loaded.report, file=sys.stderr)
    comparison = Comparison(loaded, load_file(whole / IO))
    comparison.run()
    for key, group in (("max_abs_diff", "outputs"), ("loss_diff", "losses"), ("grad_diff", "grads")):
        values = getattr(comparison, group).values()
        result[key] = max(values) if values else None
    result |= {"keys_used": len(loaded.report.used), "keys_ignored": len(loaded.report.ignored), "keys_missing": 0}
    for name, value in {**comparison.outputs, **comparison.losses, **comparison.grads}.items():
        print(f"  {name}: {value:.3g}", file=sys.stderr)
    if comparison.skipped:
        result["not_compared"] = comparison.skipped
    return result


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", help="a case folder, or the name of one in --golden")
    parser.add_argument("--golden", type=Path, default=ROOT / "tests" / "golden")
    arguments = parser.parse_args()
    case = Path(arguments.case)
    if not (case / IO).is_file():
        case = arguments.golden / arguments.case
    if not (case / IO).is_file():
        parser.error(f"case: expected a folder with {IO}, found {arguments.case!r}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = run(case.resolve(), Path(folder))
    print(json.dumps(result))
    return 1 if "error" in result else 0


if __name__ == "__main__":
    sys.exit(main())
