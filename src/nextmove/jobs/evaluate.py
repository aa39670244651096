"""Judges a saved policy."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

from nextmove import data as sets
from nextmove import evaluation, store
from nextmove.config import ConfigError
from nextmove.evaluation.kept import keeping
from nextmove.evaluation.terminal import show_beside
from nextmove.folders import open_folder
from nextmove.host.lock import hold
from nextmove.host.workers import within
from nextmove.jobs import precise
from nextmove.jobs.computing import Runtime, check_runtime
from nextmove.jobs.offline import offline
from nextmove.jobs.provenance import training_record
from nextmove.jobs.repeat import Call, at_least, repeatable, writable_dir
from nextmove.jobs.robot import unsaid
from nextmove.jobs.simulated import HELD_OUT, exchanged, judge, played, report, several
from nextmove.jobs.simulators import taught_in
from nextmove.models.model import with_sampling
from nextmove.models.policy import Policy
from nextmove.runtime import LEAST, Precision, Ranges, compiled, keep_unchanged
from nextmove.training.config import check_device


def load_policy(
    model: Path | str,
    *,
    sampler: str | None = None,
    steps: int = 0,
    execute: int = 0,
    fps: float | None = None,
    runtime: Runtime = "torch",
    precision: Precision = "float32",
    ranges: Ranges | None = None,
    blind: bool = False,
    unchanged: float | None = None,
    device: str = "cpu",
    unnorm_key: str | None = None,
    cameras: Mapping[str, tuple[int, int]] | None = None,
) -> Policy:
    """A policy from a run, a saved model or a checkpoint of LeRobot or FlowPolicy, with another sampler if asked for.

    Args:
        model: Folder of the run, of the saved model or of the checkpoint.
        sampler: "ancestral", "ddim", "euler", "midpoint", "heun", "rk4" or "dpm++"; None: as trained.
        steps: Network calls of the sampler; 0: as trained.
        execute: Actions executed of each plan; 0: as trained.
        fps: Actions a second of a checkpoint of another project, which does not tell.
        runtime: What computes the networks, torch or one of the room `runtime`.
        precision: Of a runtime other than torch.
        ranges: Of the precision w8a8, as `runtime.calibrate` finds them.
        blind: Plan from noise in place of the cameras' images and of point clouds.
        unchanged: Keep the tokens of a camera whose picture changes by at most so many levels of 255 in each patch
            (0: not at all), of policies whose language model reads them, for one robot; None: look at every picture.
        device: cpu or cuda, where torch computes the networks.
        unnorm_key: The data set in whose units a checkpoint of OpenVLA acts; None: the only one that it knows.
        cameras: Names, heights and widths of the cameras that such a checkpoint is shown.

    Raises:
        FileNotFoundError: for a folder without a model, or a model without weights.
        ConfigError: for a file that is damaged or holds no policy, a sampler, number or runtime that the policy has
            not, and a runtime that is not installed; the message names file or option.
        ValueError: for more actions to execute than are planned, and a device that is not there.
    """
    check_device(device)
    check_runtime(runtime, precision, device)
    saved = open_folder(model).expect("policy")
    saved.check_unit(unnorm_key)
    if saved.kind == "nextmove":
        policy: Policy = store.load(saved.folder)
    else:
        loaded = saved.foreign(fps=fps, unnorm_key=unnorm_key, cameras=cameras)
        policy = loaded.policy
        for note in loaded.report.notes:
            _say(saved.folder, note)
    with_sampling(policy, sampler, steps)
    if execute:
        policy.timing = policy.timing.executing(execute)
    policy.blind = blind
    if blind and not {"image", "points"} & {feature.type for feature in policy.inputs.values()}:
        read = ", ".join(policy.inputs)
        raise ConfigError(f"blind: {model} reads no camera and no points, only {read}; leave out --blind")
    policy = compiled(policy, precision, ranges) if runtime == "openvino" else policy.to(device)
    if unchanged is None:
        return policy
    return keep_unchanged(policy, unchanged, sum(feature.type == "image" for feature in policy.inputs.values()))


@cache
def _say(folder: Path, note: str) -> None:
    """Prints what is to be known of a checkpoint that is read, once, and not in processes that read it again."""
    if not within():
        print(f"{folder}: {note}")


@repeatable
def evaluate(
    call: Call,
    model: str | Path,
    *,
    task: str | None = None,
    data: str | Path | None = None,
    windows: int = 2048,
    leave_out: tuple[int, ...] = (),
    episodes: int = 50,
    seed: int = HELD_OUT,
    workers: int = 2,
    batched: bool = False,
    sampler: str | None = None,
    steps: int = 0,
    execute: int = 0,
    runtime: Runtime = "torch",
    precision: Precision = "float32",
    least_weights: int = LEAST,
    video: int = 4,
    blind: bool = False,
    shuffled: bool = False,
    unchanged: float | None = None,
    device: str = "cpu",
    unnorm_key: str | None = None,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Judges a policy on held-out seeds of a simulator, or with `data` on demonstrations.

    Writes report.html and report.json into OUT and returns the latter's content.

    Args:
        model: A run's folder, a saved model, or a checkpoint of LeRobot, FlowPolicy, openpi or OpenVLA.
        task: Name of a simulator's task, or of a suite, all of whose tasks are judged; `--simulator` says the same. By
            default that of the demonstrations, where their recording says it, or else pusht.
        data: Judge offline on this LeRobot-format data set instead: action errors beside those of doing nothing, loss,
            smoothness and latency, on the episodes that the policy was not trained on, which are known by content.
        windows: Windows judged with `data`, evenly out of all its frames; 0 for all.
        leave_out: Numbers of episodes of `data` that are not judged, such as those whose images are missing.
        episodes: Episodes of each task; one seed each, counted up from `seed`.
        seed: First episode's seed.
        workers: Processes; the result does not depend on their number.
        batched: Step all episodes in one process with batched network calls: faster for large networks, equal to
            the default up to floating-point rounding.
        sampler: Another solver for diffusion and flow policies (ancestral, ddim, euler, midpoint, heun, rk4).
        steps: Network calls of the sampler; 0 as trained.
        execute: Actions executed of each plan; 0 as trained.
        runtime: What computes a policy's networks: torch, or openvino, which gives the same numbers up to rounding
            1.2 to 2.4 times as fast (pip install openvino), a plan at a time; with `data` that is the latency.
        precision: Of openvino: float32, bf16, int8 for the weights of large products, or w8a8 for what they multiply
            too, in ranges found on other episodes than are judged (with `data`, on some of its frames); how far plans
            are from those in float32 is measured and printed.
        least_weights: Of w8a8: a product of fewer weights stays in float32. Small ones take no time.
        video: Episodes of each task with a video.
        blind: Judge it a second time on the same episodes with noise in place of its cameras' images and of point
            clouds, and report both with a paired test: what it solves then, it solves without seeing.
        shuffled: Judge it once more on the same episodes of a suite with the instruction of another of its tasks, which
            every seed draws: what it solves then, it solves without listening.
        unchanged: Keep the tokens of a camera whose picture changes by at most so many levels of 255 in each patch (0:
            not at all), of policies whose language model reads them: how many were kept, and how far plans are from
            those that look at every picture, is measured and printed.
        device: cpu or cuda, where torch plans; each process loads the policy there.
        unnorm_key: The data set in whose units a checkpoint of OpenVLA acts, where it knows several.
        out: Folder of the report; default MODEL/evaluation.

    Raises:
        FileNotFoundError: for a folder without a model.
        ConfigError, DataError: for a model, data set or option that does not fit, before any episode.
        SimulatorError: for a task that is unknown or not installed.
        RolloutError: for episodes that failed, naming task and seeds.
        InUseError: where another run writes into OUT.
        OSError: for a disk that is full, naming the file.
    """
    _check_together(call)
    task = ("" if data is not None else taught_in(model)) if task is None else task
    own = unsaid(several(task, batched)[0] if data is None else sets.open_dataset(data))
    make = partial(load_policy, model, sampler=sampler, steps=steps, execute=execute, unnorm_key=unnorm_key, **own)
    reference, make = make, partial(make, runtime=runtime, precision=precision, device=device, unchanged=unchanged)
    if precision == "w8a8":
        make = partial(make, ranges=precise.ranges(reference(), task, data, leave_out, least_weights))
    asked = [sampler, steps or None, f"execute{execute}" if execute else None, None if runtime == "torch" else runtime]
    asked += [given for given, usual in ((precision, "float32"), (device, "cpu")) if given != usual]
    asked += [f"from{least_weights}"] if least_weights != LEAST else []
    asked += [f"unchanged{unchanged:g}"] if unchanged is not None else []
    name = "-".join(str(part) for part in (Path(model).name, *asked) if part)
    policies = {name: make()} | ({f"{name}-blind": make(blind=True)} if blind else {})
    if shuffled:
        exchanged(policies[name], several(task, batched), name)
    float32 = precise.Float32(precision, reference, least_weights, unchanged)
    out = writable_dir(Path(out) if out else Path(model) / "evaluation")
    with hold(out):
        if data is not None:
            written = _offline(policies, name, Path(model), data, windows, leave_out, out, call.command(), float32)
        else:
            entries = []
            with ExitStack() as until_all_are_judged:
                for way in ("", *["blind"] * blind, *["shuffled"] * shuffled):
                    shown, place = (f"{name}-{way}", f"rollouts-{way}") if way else (name, "rollouts")
                    policy, how = policies[shown if way == "blind" else name], [*asked, *([way] if way else [])]
                    kept = until_all_are_judged.enter_context(keeping(out / place, played(model, task, batched, how)))
                    entry = judge(
                        partial(make, blind=policy.blind), policy, name=shown, simulator=task,
                        seeds=range(seed, seed + episodes), workers=workers, batched=batched, video=video,
                        run=Path(model), kept=kept, shuffled=way == "shuffled",
                    )  # fmt: skip
                    entries.append(float32.beside(entry, policy, partial(precise.of_task, task=task, seed=seed)))
            again, title = call.command(always="episodes seed"), f"{name} on {task}"
            written = report(entries, out, simulator=task, title=title, commands=[again])
    print(f"{written['verdict']} Open {out / 'report.html'}")
    return written


def _check_together(call: Call) -> None:
    """Raises ConfigError for an option of `evaluate` that another one leaves without a meaning."""
    asked = call.options
    if asked["data"] is None:
        call.leave_out("windows leave_out", "for offline judging, which needs --data")
    else:
        call.leave_out("task episodes seed workers batched video shuffled unchanged", "for a simulator, found --data")
    at_least(1, least_weights=asked["least_weights"])
    if asked["precision"] != "w8a8":
        call.leave_out("least_weights", "for --precision w8a8")
    if asked["batched"] and asked["runtime"] == "openvino":
        raise ConfigError("batched: openvino computes a plan at a time; leave out --batched or --runtime")
    if asked["batched"] and asked["unchanged"] is not None:
        raise ConfigError("batched: tokens are kept of one robot's pictures; leave out --batched or --unchanged")


def _offline(
    policies: Mapping[str, Policy],
    name: str,
    run: Path,
    data: str | Path,
    windows: int,
    leave_out: tuple[int, ...],
    out: Path,
    again: str,
    float32: precise.Float32,
) -> dict[str, Any]:
    """Judges policies on the same demonstrations and writes the report; its content."""
    entries = []
    for shown, policy in policies.items():
        beside, task, choice = offline(policy, data, windows=windows, leave_out=leave_out)
        entry = evaluation.Entry(shown, offline=beside, **training_record(policy, run))
        entries.append(float32.beside(entry, policy, partial(precise.of_data, data=data, leave_out=leave_out)))
        show_beside(beside.beside, shown)
    return evaluation.write_report(
        entries, out, title=f"{name} on {data}", task=task, unit="action units", commands=[again],
        caution=choice.caution, data={"path": str(data), **choice.record()},
    )  # fmt: skip
