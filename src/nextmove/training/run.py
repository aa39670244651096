"""One run: steps, validations, checkpoints."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nextmove import weights
from nextmove.config import encode
from nextmove.contracts import Batch, Optim
from nextmove.host.files import full, room
from nextmove.host.signals import Interrupt, StoppedError
from nextmove.training import checkpoint
from nextmove.training.config import TrainConfig
from nextmove.training.distributed import World
from nextmove.training.ema import Ema
from nextmove.training.log import Log, Meter
from nextmove.training.optim import Update, factors, trainable, undecayed
from nextmove.training.parts import Peeked
from nextmove.training.precision import choose
from nextmove.training.prediction import Forecast
from nextmove.training.progress import Watch
from nextmove.training.report import Best, Result, StepReport
from nextmove.training.schedule import BudgetClock, rate
from nextmove.training.sharded import Shares, whole
from nextmove.training.state import Data, Save, State
from nextmove.training.step import DivergedError, Step
from nextmove.training.validation import Validation

Batches = Callable[[int, int, int], Iterable[Batch]]
OnStep = Callable[[StepReport], bool | None]


class Run:
    """Steps, validations and checkpoints in their order; `step` is the number of steps done."""

    def __init__(
        self,
        model: nn.Module,
        out: Path,
        config: TrainConfig,
        optim: Optim,
        world: World,
        device: torch.device,
        validation: Iterable[Batch],
        save_model: Save | None,
        data: Data,
    ) -> None:
        self.clock, self.meter = BudgetClock(config), Meter()
        self.model, self.config, self.optim = model.to(device).train(), config, optim
        self.folder, self.save_model = out / "checkpoints", save_model
        world.share(model.state_dict().values())
        self.world = world = replace(world, sharded=config.sharded and world.size > 1)
        apart, rates = undecayed(model), factors(model, optim.scales)
        self.ema = Ema(model, optim.ema)
        self.shares: Shares | None = None
        frozen = None
        if world.sharded:
            frozen = {n: weights.digest(p) for n, p in model.named_parameters() if not p.requires_grad}
            model = self._share(device, save_model)
        self.update = Update(trainable(model), optim, undecayed=apart, factors=rates)
        self.state = State(
            model, self.ema, self.update, optim=optim, seed=config.seed, data=data, world=world, frozen=frozen
        )
        self.step, self.loss, self.finished, self.stopped = 0, math.nan, False, 0
        self.validation: float | None = None
        self.best: Best | None = None
        self.checkpoint: Path | None = None
        self.mixed: bool | None = None
        held = list(validation)
        notices = self._open(out, bool(held))
        self.take = Step(model, self.update, config=config, world=world, device=device)
        self.forecast = Forecast(self.take, config)
        self.judge = Validation(held, seed=config.seed, world=world, device=device)
        self.shown: dict[str, float] = {}
        watch = Watch(config.progress if world.first else "off")
        keep = self.step if config.resume else None
        self.log = Log(out, watch, active=world.first, events=config.tensorboard, keep=keep)
        for notice in notices:
            self.log.notice(self.step, notice)

    def _share(self, device: torch.device, save_model: Save | None) -> nn.Module:
        """Spreads the weights and their averages over the processes; the model that is trained from now on."""
        if save_model is not None:
            raise ValueError("save_model: expected none for weights in shares, of which no process has all")
        self.shares = Shares(self.model, device)
        self.ema.model = self.shares.of(self.ema.model) if self.optim.ema else self.shares.live
        self.ema.bind(self.shares.live)
        self.shares.empty()
        self.model = self.shares.live
        return self.model

    def _open(self, out: Path, judged: bool) -> list[str]:
        """Restores the last checkpoint, or checks that none would be overwritten; a notice to the user."""
        notices = self._restore(out) if self.config.resume else []
        if not self.config.resume:
            checkpoint.require_new(out)
        self.world.wait()
        if self.world.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            checkpoint.tidy(self.folder)
            # Damaged ones, and a best of steps that are to be done again.
            for kind in ("last", "best"):
                checkpoint.remove(self.folder, kind, lambda step: step > self.step)
            self._measure(out, judged)
        return notices

    def _restore(self, out: Path) -> list[str]:
        """Restores the latest checkpoint that can be read; raises DamagedError where none of several can."""
        notices = []
        for path in (found := checkpoint.found(self.folder, "last")):
            try:
                facts = self.state.restore(path)
            except checkpoint.DamagedError as problem:
                if path == found[-1]:
                    raise
                notices.append(f"{problem}; going on from the checkpoint before it")
                continue
            self.checkpoint = path
            self.step, self.meter = int(facts["step"]), Meter(**facts["meter"])
            self.best = Best(**facts["best"]) if facts["best"] else None
            self.validation, self.mixed = facts["validation"], facts.get("bf16")
            self.loss = math.nan if facts["loss"] is None else facts["loss"]
            self.clock.restore(self.step, facts["elapsed"])
            return notices
        return [f"{out}: there is no checkpoint to resume; beginning anew"]

    def _measure(self, out: Path, judged: bool) -> None:
        """Raises OSError where the disk has no room for what the run keeps: two checkpoints, the best weights, a model.

        Found here, it costs no step.
        """
        weights = sum(value.nbytes for value in self.model.state_dict().values())
        best = sum(value.nbytes for value in self.state.averages().values()) if judged else 0
        needed = 2 * self.state.bytes() + 2 * best + weights
        there = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        if needed > there + room(out):
            problem = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out))
            free = (there + room(out)) / 1e6
            problem.add_note(f"Checkpoints and model take {needed / 1e6:.1f} MB, {free:.1f} MB are free.")
            raise problem

    def go(self, batches: Batches, interrupt: Interrupt, on_step: OnStep | None) -> None:
        """Steps until the budget is used or somebody asks to stop; validates and saves on the way and at the end."""
        try:
            source = Peeked(batches(self.step, self.world.rank, self.world.size))
            why = self._settle(source)
            due = self.clock.progress(self.step) < 1 and not self.world.sharded
            said = self.forecast.make(self.step, source.first(self.step), self.take.mixed) if due else []
            self._announce(why, said)
            self._loop(source, interrupt, on_step)
        except DivergedError as problem:
            self.log.write("diverged", self.step, message=str(problem))
            raise DivergedError(f"{problem}; last good checkpoint: {self.checkpoint or 'none'}") from None
        except OSError as problem:
            if full(problem):
                self._rescue()
                problem.add_note(f"The last checkpoint is {self.checkpoint or 'none'}.")
            raise
        except KeyboardInterrupt as stop:
            message = f"{self.folder.parent}: stopped at once at step {self.step}; the last checkpoint is "
            raise StoppedError.of(stop, message + str(self.checkpoint or "none")) from None
        finally:
            self.log.close()

    def _rescue(self) -> None:
        """On a full disk: the steps done since the last checkpoint take the place of the one before it."""
        if self.world.size == 1 and self.checkpoint != self.folder / f"last-{self.step}":
            with suppress(OSError):
                self.state.save(self.folder, self.step, self._facts(), self.save_model)
            self.checkpoint = checkpoint.newest(self.folder, "last")

    def _settle(self, source: Peeked) -> str:
        """Decides for bf16 or against it, trying it with the first batch where that is the question; returns why."""
        asked = self.config.bf16
        if self.world.sharded and asked == "auto" and self.take.device.type == "cpu":
            asked = "off"  # A trial takes as many turns as it has time for, and all processes would have to be in it.
        chosen = choose(
            asked, self.take.device, lambda: self.take.tried(self.step, source.first(self.step)), self.mixed
        )
        # Of several processes that measure the first decides.
        self.mixed = bool(self.world.sum([self.world.first and chosen.bf16])[0])
        self.take.mixed = self.judge.mixed = self.mixed
        return chosen.why

    def _loop(self, source: Peeked, interrupt: Interrupt, on_step: OnStep | None) -> None:
        begun, stop = self.step, False
        while True:
            # The first process's clock decides for all; a wish to stop may come from any.
            progress, stops = self.world.sum([self.world.first and self.clock.progress(self.step), stop])
            self.finished = progress >= 1
            if self.step > begun:
                self._look_around(progress, stops > 0)
            if stops or self.finished:
                break
            report = self._advance(source, progress)
            stop = bool(on_step is not None and on_step(report)) or interrupt.asked > 0
        self.stopped = interrupt.asked
        source.close()
        self._show()
        if said := self.forecast.close():
            self.log.watch.say(said)
        took = {"took": asdict(self.forecast.taken)} if self.forecast.taken else {}
        self.log.write("end", self.step, finished=self.finished, elapsed=self.clock.elapsed, **took)

    def _advance(self, source: Peeked, progress: float) -> StepReport:
        """One step, counted."""
        began, before = time.perf_counter(), self.clock.elapsed
        batch = source.take(self.step)
        wait = time.perf_counter() - began
        terms, numbers = self.take(self.step, batch, rate(self.step, progress, self.optim.warmup))
        self.step += 1
        self.ema.update(self.step)
        seconds, loss = time.perf_counter() - began, sum(terms.values())
        self.clock.stepped(self.clock.elapsed - before)
        self.forecast.stepped(seconds - wait)
        named = {f"term/{name}": value for name, value in terms.items()}
        self.meter.add({"loss": loss, **named, **numbers, "seconds": seconds, "wait": wait})
        if self.step % self.config.log_every == 0:
            self._flush()
        if self.log.watch.due():
            self._show()
        return StepReport(self.step, loss, terms, numbers["lr"], numbers["grad_norm"], seconds, wait)

    def _look_around(self, progress: float, stop: bool) -> None:
        """Validates and saves if it is time to; intervals of minutes are measured by the first process."""
        due = (self.clock.validation_due(self.step, progress), self.clock.save_due(self.step))
        validate, save = self.world.sum([self.world.first and one for one in due])
        if self.finished and self.meter.count:
            self._flush()
        if (validate or self.finished) and self.judge.batches:
            self._validate()
        if save or self.finished or stop:
            self._save()

    def _validate(self) -> None:
        began = self.clock.elapsed
        self.world.share(self.model.buffers())
        self.ema.refresh()
        terms = self.judge(self.ema.model)
        loss = sum(terms.values())
        better = math.isfinite(loss) and (self.best is None or loss < self.best.loss)
        self.validation = loss if math.isfinite(loss) else None
        self.log.validation(self.step, loss, terms, best=better, elapsed=self.clock.elapsed)
        if better:
            self.best = Best(self.step, loss)
            if self.world.first or self.world.sharded:
                self.state.save_best(self.folder, self.step, {"validation": loss}, self.save_model)
            self.world.wait()
        self.clock.spent("validation", self.clock.elapsed - began)

    def _save(self) -> None:
        began, wall = self.clock.elapsed, time.monotonic()
        self.world.share(self.model.buffers())
        if self.world.first or self.world.sharded:
            self.state.save(self.folder, self.step, self._facts(), self.save_model)
        self.world.wait()
        self.checkpoint = checkpoint.newest(self.folder, "last")
        self.clock.saved(wall)
        self.clock.spent("save", self.clock.elapsed - began)
        self.log.write("checkpoint", self.step, elapsed=self.clock.elapsed)

    def _facts(self) -> dict[str, Any]:
        return {
            "elapsed": self.clock.elapsed,
            "loss": self.loss if math.isfinite(self.loss) else None,
            "validation": self.validation,
            "bf16": self.mixed,
            "best": asdict(self.best) if self.best else None,
            "meter": asdict(self.meter),
        }

    def _flush(self) -> None:
        """A line of the log."""
        self.shown = self.meter.means()
        self.loss = self.shown["loss"]
        self.log.step(self.step, self.shown, self.clock.elapsed)
        self.meter.clear()

    def _show(self) -> None:
        progress = min(1.0, self.clock.progress(self.step))
        self.log.watch.show(self.step, progress, self.clock.left(self.step), self.shown or self.meter.means())

    def _announce(self, why: str, said: Sequence[str]) -> None:
        facts = {"config": encode(self.config), "optim": encode(self.optim), "world": self.world.size}
        facts |= {"parameters": sum(p.numel() for p in self.update.parameters)}
        if self.forecast.foreseen is not None:
            facts["predicted"] = asdict(self.forecast.foreseen)
        self.log.write("start", self.step, **facts, bf16=self.mixed, bf16_why=why, torch=torch.__version__)
        if self.config.bf16 == "auto" and self.world.first:
            self.log.watch.say(f"the loss is computed in {'bf16' if self.mixed else 'float32'}: {why}")
        for sentence in said:
            self.log.watch.say(sentence)

    def result(self) -> Result:
        """The result so far."""
        averages = {name: whole(value) for name, value in self.state.averages().items()}
        state = self.ema.model.state_dict()
        if self.shares is not None:
            state = {name: whole(value) if name not in averages else value for name, value in state.items()}
            self.shares.collect()
        found = {name: averages.get(name, value) for name, value in state.items()}
        return Result(
            step=self.step,
            elapsed=self.clock.elapsed,
            loss=self.meter.means()["loss"] if self.meter.count else self.loss,
            ema=found,
            finished=self.finished,
            stopped=self.stopped,
            validation=self.validation,
            best=self.best,
            checkpoint=self.checkpoint,
            first=self.world.first,
        )
