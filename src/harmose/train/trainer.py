"""The loop over the phases and steps of a training."""

import copy
import gc
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from harmose.data.store import Store
from harmose.errors import ModelError
from harmose.nn.two_stage import TwoStage
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import Coefficients
from harmose.train.config import TrainConfig
from harmose.train.dataset import Predict
from harmose.train.log import Log
from harmose.train.prepare import TrainingData
from harmose.train.processes import Processes
from harmose.train.sampling import Batches, Sampler, order, parts_of
from harmose.train.schedule import Phase, PhaseName, StopRequest
from harmose.train.start import Start
from harmose.train.state import Checkpoint, TrainerState, read_networks, read_optimizer, write_state
from harmose.train.step import PhaseLoss, PhaseOptimizer
from harmose.train.validation import SharedValidation

CALIBRATION_SAMPLES = 100
"""Number of samples that the scales of features are taken from."""
BAD_STEPS = 5
"""Number of steps in a row without a finite gradient that ends a training."""
VALIDATION_SHARE = 0.05
"""Largest share of a phase's time that goes into validation."""
LOG_ROWS = 100
"""Rows of the log in each phase."""


class Trainer:
    """The loop over phases and steps, from `state` to the end."""

    def __init__(
        self,
        config: TrainConfig,
        store: Store,
        data: TrainingData,
        log: Log,
        state: TrainerState,
        processes: Processes,
        begin: float,
        start: Start | None = None,
    ):
        self.start, self.processes, self.fabric = start, processes, processes.fabric
        self.config, self.store, self.data, self.log, self.state = config, store, data, log, state
        self.schedule, self.stop, self.now, self.begin = config.phases, StopRequest(), processes.now, begin
        self.dataset = data.dataset
        shared = SharedValidation.of(processes, store, data, config.loss.shift_blind)
        self.validation, self.training_errors = shared
        torch.manual_seed(config.seed)
        self.network = TwoStage(data.fit.space, config.network, config.inputs)
        if start is not None and start.model.network is not None:
            self.network.load_state_dict(start.model.network.state_dict())
        elif not state.step:
            self.network.calibrate(self.dataset.batch(self._first_samples()).graph)
            self.network.zero_outputs()
        self.network.to(self.fabric.device)
        processes.unify(self.network)
        self.average, self.best = copy.deepcopy(self.network), copy.deepcopy(self.network)
        if state.step:
            read_networks(config.out, self.network, self.average, self.best)
        for module in (self.average, self.best):
            module.eval().requires_grad_(False)
        self.generator = torch.Generator(self.fabric.device).manual_seed(self._seed())
        weight, orbitals = self.schedule.stage1_weight, data.orbitals
        self.loss = PhaseLoss(self.network, self.fabric.device, weight, config.loss, orbitals)
        # The clock of a resumed run goes on where it stood: what it spends on preparation is not training.
        processes.agree(False)
        if state.step:
            self.begin = self.now() - state.seconds
        elif config.regression_cache is not None:
            self.begin = self.now()
        self.saved_at = self.now()
        self.validation_cost = self._timed(lambda: self.validation.errors(self._predict("full")))
        self.final_cost = (8 if config.calibrate else 3) * self.validation_cost

    def run(self) -> None:
        """Run all phases; `average` then holds the weights of the model."""
        active = self.schedule.active
        self._say_sizes()
        while self.state.phase < len(active):
            self._run_phase(active[self.state.phase])
            p = self.state
            self.state = TrainerState(phase=p.phase + 1, step=p.step, epoch=p.epoch + 1)
            gc.collect()  # a wrapper of the phase would exchange gradients in the next one

    def say_end(self) -> None:
        """Say how long the training took."""
        self.processes.agree(False)
        if not self.state.step:
            self.log.say("no time was left for the networks: this is the regression alone; a longer time_limit helps")
        self.log.say(f"{self.state.step} steps, {self.seconds:.0f} s")

    def _run_phase(self, name: PhaseName) -> None:
        phase = self.schedule.phase(name)
        self.sampler = Sampler(self.config.seed, self.dataset.pair_counts, phase)
        n_steps = self.n_steps = phase.n_steps(self.sampler.per_epoch)
        how = self.config.compile, self.log.say
        stepper = PhaseOptimizer(self.fabric, self.loss, self.average, self.generator, name, phase, *how)
        parts = Checkpoint(self.network, self.average, self.best, stepper.adam, self.generator)
        self._set_time(name)
        p, bad = self.state, 0
        if p.phase_step:
            read_optimizer(self.config.out, parts, self.processes.rank)
        else:
            if name != "stage1" and self.network.stage2.is_untrained:
                self._fit_stage2_scale()
            self._validate(name, phase)  # errors that the phase must improve
        for batches in self._steps():
            fraction = self._fraction(n_steps)
            if fraction >= 1 or p.ended:
                break
            mine = parts_of(self.dataset, batches, self.processes.rank, self.processes.size)
            loss = stepper.step_of(mine, p.phase_step, fraction)
            bad = 0 if math.isfinite(loss) else bad + 1
            if bad >= BAD_STEPS:
                names = [self.dataset.names[k] for k in np.concatenate(batches)]
                raise ModelError(_not_finite(p.step, bad, name, names))
            if not bad:
                p.losses.append(loss)
            p.step, p.phase_step, p.epoch_step = p.step + 1, p.phase_step + 1, p.epoch_step + 1
            self._report(name, phase, self._fraction(n_steps))
            stop = self.processes.agree(self.stop.requested)
            if stop or self.now() - self.saved_at > self.config.save_every:
                self._save(parts)
            if stop:
                self.log.say(f"stopped after step {p.step}; the same command goes on from there")
                raise KeyboardInterrupt
        if p.validated != p.step:
            self._validate(name, phase)
        self.average.load_state_dict(self.best.state_dict())
        stepper.finish()
        self._show(name, phase, 1.0)

    def _save(self, parts: Checkpoint) -> None:
        """Write the state; the first process does, with the random numbers of all."""
        generators = self.processes.gathered(self.generator.get_state())
        state = replace(self.state, seconds=self.seconds)
        self.processes.first(lambda: write_state(self.config.out, parts, state, generators))
        self.saved_at = self.now()

    def _fit_stage2_scale(self) -> None:
        batch = self.dataset.batch(self._first_samples()).to(self.fabric.device)
        self.network.fit_stage2_scale(batch.graph, batch.targets)
        self.processes.unify(self.network)
        for module in (self.average, self.best):
            module.get_submodule("stage2.output_scale").load_state_dict(self.network.stage2.output_scale.state_dict())

    def _set_time(self, name: PhaseName) -> None:
        """Set how long a phase may take: its share of the time without the final validation and a reserve."""
        p, limit = self.state, self.config.time_limit
        if p.phase_seconds is None and limit is not None:
            remaining = limit - self.seconds - self.final_cost - min(max(0.01 * limit, 1.0), 10.0)
            p.phase_start = self.seconds
            p.phase_seconds = max(self.schedule.budget(name, max(remaining, 0.0)), 1e-3)

    def _steps(self) -> Iterator[Batches]:
        """Yield the batches of each step, epoch after epoch, from the present state on."""
        p = self.state
        while True:
            steps = self.sampler.steps(p.epoch)
            while p.epoch_step < len(steps):
                yield steps[p.epoch_step]
            p.epoch, p.epoch_step = p.epoch + 1, 0

    def _first_samples(self) -> np.ndarray:
        """Return the samples that scales are taken from."""
        return order(self.config.seed, 0, len(self.dataset))[:CALIBRATION_SAMPLES]

    def _seed(self) -> int:
        """Return the seed of the random rotations, of which each process draws its own."""
        rank, seed = self.processes.rank, self.config.seed
        return int(np.random.SeedSequence([seed, rank]).generate_state(1, np.uint64)[0] >> 1) if rank else seed

    @property
    def seconds(self) -> float:
        return self.now() - self.begin

    def _fraction(self, n_steps: int | None) -> float:
        """Return the fraction of the phase that is over, by steps or by time, whichever is larger."""
        p = self.state
        by_steps = p.phase_step / n_steps if n_steps else 0.0
        by_time = (self.seconds - p.phase_start) / p.phase_seconds if p.phase_seconds is not None else 0.0
        return max(by_steps, by_time)

    def _predict(self, stage: str) -> Predict:
        def predict(batch: GraphBatch) -> Coefficients:
            with torch.no_grad():
                batch = batch.to(self.fabric.device)
                return self.average.stage1(batch).h1 if stage == "stage1" else self.average(batch)

        return predict

    def _report(self, name: PhaseName, phase: Phase, fraction: float) -> None:
        """Update the progress line; write a row of the log and validate when they are due."""
        p = self.state
        if self.log.console.is_terminal and p.phase_step % 5 == 0:
            self._show(name, phase, fraction)
        due = fraction * self.config.validations >= p.validations + 1 and self._can_afford_validation()
        if not p.losses or not (due or len(p.losses) >= self._log_every(name)):
            return
        rate = phase.rate(p.phase_step, fraction)
        row = {
            "step": p.step,
            "phase": name,
            "seconds": self.seconds,
            "loss": float(np.mean(p.losses)),
            "learning_rate": rate,
        }
        if due:
            row |= self._validate(name, phase)
            p.validations = max(p.validations + 1, int(fraction * self.config.validations))
        self.log.write(row)
        p.losses = []

    def _can_afford_validation(self) -> bool:
        """Return True if validation takes no more than `VALIDATION_SHARE` of the time, where there is a time limit."""
        p = self.state
        return p.phase_seconds is None or p.validating + self.validation_cost <= VALIDATION_SHARE * (
            self.seconds - p.phase_start
        )

    def _log_every(self, name: PhaseName) -> int:
        p = self.state
        spent = max(self.seconds - p.phase_start, 1e-9)
        expected = self.n_steps if self.n_steps else p.phase_step * (p.phase_seconds or spent) / spent
        return max(int(expected / LOG_ROWS), 1)

    def _validate(self, name: PhaseName, phase: Phase) -> dict[str, float]:
        """Return errors of the averaged weights in eV, and keep the best weights of the phase.

        Since few samples choose badly, weights count as better than those at the beginning of the phase only where the mean of
        the samples' differences exceeds its standard error.
        """
        self.processes.agree(False)
        p, begin = self.state, self.seconds
        predict = self._predict("stage1" if name == "stage1" else "full")
        errors = self.validation.errors(predict)
        known = self.training_errors.errors(predict)
        found = {"mae_train": float(known.mean()), "mae_val": float(errors.mean())}
        better = found["mae_val"] < p.best and (not p.before or clearly_positive(np.array(p.before) - errors))
        p.before = p.before or errors.tolist()
        p.validated = p.step
        p.best, p.since_best = (found["mae_val"], 0) if better else (p.best, p.since_best + 1)
        p.ended = phase.patience is not None and p.since_best >= phase.patience
        if better:
            self.best.load_state_dict(self.average.state_dict())
        self.processes.agree(False)
        self.validation_cost = self.seconds - begin
        p.validating += self.validation_cost
        return found

    def _show(self, name: PhaseName, phase: Phase, fraction: float) -> None:
        p = self.state
        spent = self.seconds - p.phase_start
        speed = p.phase_step * len(self.dataset) / self.sampler.per_epoch / max(spent, 1e-9)
        left = spent * (1 - fraction) / max(fraction, 1e-9)
        mae = f"  MAE {self.log.error(p.best)} {self.log.unit}" if math.isfinite(p.best) else ""
        loss = f"loss {p.losses[-1]:.2f}" if p.losses else ""
        self.log.show(name, fraction, f"{loss}{mae}  {speed:.0f} samples/s  {left / 60:.1f} min left")

    def _timed(self, work) -> float:
        start = self.now()
        work()
        self.processes.agree(False)
        return self.now() - start

    def _say_sizes(self) -> None:
        n = sum(p.numel() for p in self.network.parameters())
        first = sum(p.numel() for p in self.network.stage1.parameters())
        self.log.say(
            f"{len(self.dataset)} training samples, {len(self.data.validation.names)} for validation, "
            f"{n:,} parameters ({first:,} in stage 1), prepared in {self.seconds:.1f} s"
        )


def clearly_positive(x: np.ndarray) -> bool:
    """Return True if the mean exceeds its standard error; one number alone must be positive."""
    return bool(x.mean() > (x.std(ddof=1) / math.sqrt(len(x)) if len(x) > 1 else 0.0))


def _not_finite(step: int, bad: int, phase: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (
        f"training: the loss is not finite in step {step + 1} and the {bad - 1} before it ({phase}; samples {shown}): "
        f"a lower learning_rate or a clip may help, `harmose data check` finds bad samples"
    )
