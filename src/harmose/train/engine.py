"""The training loop: `train(config, console)` goes through the phases of the schedule and leaves a model in `out`."""

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.console import Console

from harmose.data.store import Store
from harmose.errors import ModelError
from harmose.inference.checkpoint import Card, Model, save
from harmose.nn.two_stage import TwoStage
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import Coefficients
from harmose.representation.concatenation import TargetSettings, block_irreps
from harmose.train.calibrate import MOST_TRAINING, calibrated
from harmose.train.checks import check, label_settings, training_names
from harmose.train.config import TrainConfig
from harmose.train.dataset import TrainingBatch, ValidationSet, load_dataset
from harmose.train.folder import open_folder
from harmose.train.levels import LevelTable
from harmose.train.log import Log
from harmose.train.regression_cache import fit_or_load_regression
from harmose.train.schedule import Phase, PhaseName, steps_per_epoch
from harmose.train.state import (
    REGRESSION,
    Checkpoint,
    TrainerState,
    read_networks,
    read_regression,
    read_rest,
    remove_state,
    write_state,
)
from harmose.train.step import PhaseLoss, PhaseOptimizer
from harmose.train.stop import StopRequest

CALIBRATION_SAMPLES = 100
BATCH_CALIBRATED = 20
"""Training samples at once, when the bounds of errors are fitted."""
BAD_STEPS = 5
"""So many steps in a row without a finite gradient end a training."""
VALIDATING = 0.05
"""At most this share of a phase's time goes into validation."""
LOG_ROWS = 100
"""Rows of the log in each phase."""


def train(config: TrainConfig, console: Console | None = None, begin: float | None = None) -> Path:
    """Train as configured and return the folder with the model; goes on with an unfinished training found there.

    Ends within `time_limit`, all work since `begin` (of `time.monotonic`; default: now) included; with `clock: cpu` that is
    processor time of this process, with `closed_form` it begins when that part is there. SIGINT and SIGTERM end
    it after the step in flight, to be resumed, with `KeyboardInterrupt`. Raises `ConfigError` when `out` holds something
    else, or the training of another configuration; `ModelError` when the loss stays NaN; errors of the data, which name
    the sample.
    """
    console = console or Console(quiet=True)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with Store.open(config.data) as store:
        check(store, config)
        position = open_folder(config)
        if position is None:
            console.print(f"{config.out}: already trained with this configuration", markup=False, soft_wrap=True)
            return config.out
        crystals = bool(store[training_names(store, config)[0]].structure.pbc.any())
        with Log(config.out, console, position.step, config.tensorboard, "meV" if crystals else "uEh") as log:
            training = Training(config, store, log, position, begin)
            with StopRequest() as training.stop:
                training.run()
    return config.out


class Training:
    """Everything that a run holds. `run` goes from `position` to the end."""

    def __init__(self, config: TrainConfig, store: Store, log: Log, position: TrainerState, begin: float | None):
        self.config, self.store, self.log, self.position = config, store, log, position
        self.schedule, self.stop = config.phases, StopRequest()
        self.now = time.process_time if config.clock == "cpu" else time.monotonic
        self.begin = self.now() if begin is None else 0.0 if config.clock == "cpu" else begin
        self.fabric = Fabric(accelerator=config.accelerator, devices=1)
        self._prepare_data()
        torch.manual_seed(config.seed)
        self.network = TwoStage(self.dataset.regression.space, config.network, config.inputs)
        if not position.step:
            self.network.calibrate(self.dataset.batch(self._order(0)[:CALIBRATION_SAMPLES]).graph)
            self.network.zero_outputs()
        self.network.to(self.fabric.device)
        self.average, self.best = copy.deepcopy(self.network), copy.deepcopy(self.network)
        if position.step:
            read_networks(config.out, self.network, self.average, self.best)
        for module in (self.average, self.best):
            module.eval().requires_grad_(False)
        self.generator = torch.Generator(self.fabric.device).manual_seed(config.seed)
        levels = self._levels() if config.loss.on_levels else None
        self.loss = PhaseLoss(self.network, self.fabric.device, self.schedule.stage1_weight, config.loss, levels)
        # A resumed run's clock goes on where it stood: what it spends on preparation is not training.
        if position.step:
            self.begin = self.now() - position.seconds
        elif config.regression_cache is not None:
            self.begin = self.now()
        self.saved_at = time.monotonic()
        self.validation_cost = self._timed(lambda: self.validation.mae(self._predict("full")))
        self.final_cost = (8 if config.calibrate else 3) * self.validation_cost

    def _prepare_data(self) -> None:
        config, names = self.config, training_names(self.store, self.config)
        target = TargetSettings(prior=config.prior == "H0", fermi=config.energy_zero == "fermi_of_labels")
        inputs = config.inputs.operators
        blind, sample_targets = config.loss.shift_blind, None
        reads = replace(target, operators=tuple(dict.fromkeys((*inputs, *(["overlap"] if blind else [])))))
        if not self.position.step:
            how, where = ((config.regression == "kernel"), config.sparse_points), (config.out, config.regression_cache)
            text, sample_targets = fit_or_load_regression(self.store, names, reads, *how, *where, self.log.show)
            self.log.say(text)
        # Read back in any case: a resumed run must see the same numbers, to the order in memory.
        regression, unseen = read_regression(config.out / REGRESSION, block_irreps(self.store.basis, self.store.spin))
        self.left_out = left_out = unseen if (config.regression == "kernel") else None
        self.dataset = load_dataset(self.store, names, regression, reads, int(config.memory), left_out, sample_targets)
        chosen = self.store.splits[config.val_split][: config.validation_samples]
        self.validation = ValidationSet(self.store, chosen, regression, reads, blind)
        self.seen = ValidationSet(self.store, names[: min(30, config.validation_samples)], regression, reads, blind)

    def _levels(self) -> LevelTable:
        """Of all training samples."""
        names, done = self.dataset.names, 0

        def advance(n: int) -> None:
            nonlocal done
            done += n
            self.log.show("orbitals", done / len(names), f"{done} of {len(names)} samples")

        return LevelTable(self.store, names, self.dataset.regression.space, self.dataset.target, advance)

    def run(self) -> None:
        """All phases, the final validation, the model."""
        active = self.schedule.active
        self._say_sizes()
        while self.position.phase < len(active):
            self._run_phase(active[self.position.phase])
            p = self.position
            self.position = TrainerState(phase=p.phase + 1, step=p.step, epoch=p.epoch + 1)
        self._finish()

    def _run_phase(self, name: PhaseName) -> None:
        phase = self.schedule.phase(name)
        n_steps = phase.n_steps(len(self.dataset))
        how = self.config.compile, self.log.say
        stepper = PhaseOptimizer(self.fabric, self.loss, self.average, self.generator, name, phase, *how)
        parts = Checkpoint(self.network, self.average, self.best, stepper.adam, self.generator)
        self._set_time(name)
        p, bad = self.position, 0
        if p.phase_step:
            read_rest(self.config.out, parts)
        else:
            if name != "stage1" and self.network.stage2.is_untrained:
                self._expect()
            self._validate(name, phase)  # what the phase must better
        for batch in self._batches(phase):
            fraction = self._fraction(n_steps)
            if fraction >= 1 or p.ended:
                break
            loss = stepper.step(batch, p.phase_step, fraction)
            bad = 0 if math.isfinite(loss) else bad + 1
            if bad >= BAD_STEPS:
                raise ModelError(_not_finite(p.step, bad, name, batch.names))
            if not bad:
                p.losses.append(loss)
            p.step, p.phase_step, p.epoch_step = p.step + 1, p.phase_step + 1, p.epoch_step + 1
            self._report(name, phase, self._fraction(n_steps))
            if self.stop.requested or time.monotonic() - self.saved_at > self.config.save_every:
                write_state(self.config.out, parts, replace(p, seconds=self.seconds))
                self.saved_at = time.monotonic()
            if self.stop.requested:
                self.log.say(f"stopped after step {p.step}; the same command goes on from there")
                raise KeyboardInterrupt
        if p.validated != p.step:
            self._validate(name, phase)
        self.average.load_state_dict(self.best.state_dict())
        stepper.finish()
        self._show(name, phase, 1.0)

    def _expect(self) -> None:
        """Stage 2 begins: what stage 1 leaves says in which units."""
        batch = self.dataset.batch(self._order(0)[:CALIBRATION_SAMPLES]).to(self.fabric.device)
        self.network.fit_stage2_scale(batch.graph, batch.targets)
        for module in (self.average, self.best):
            module.stage2.sizes.load_state_dict(self.network.stage2.sizes.state_dict())

    def _set_time(self, name: PhaseName) -> None:
        """How long a phase that begins may take: its share of what the final validation and a reserve leave."""
        p, limit = self.position, self.config.time_limit
        if p.phase_seconds is None and limit is not None:
            remaining = limit - self.seconds - self.final_cost - min(max(0.01 * limit, 1.0), 10.0)
            p.phase_start = self.seconds
            p.phase_seconds = max(self.schedule.budget(name, max(remaining, 0.0)), 1e-3)

    def _batches(self, phase: Phase) -> Iterator[TrainingBatch]:
        """Full batches of one epoch's permutation after the other, from the position on."""
        n, p = len(self.dataset), self.position
        size = min(phase.batch_size, n)
        while True:
            order = self._order(p.epoch)
            while p.epoch_step < steps_per_epoch(n, size):
                yield self.dataset.batch(order[p.epoch_step * size : (p.epoch_step + 1) * size])
            p.epoch, p.epoch_step = p.epoch + 1, 0

    def _order(self, epoch: int) -> np.ndarray:
        """The samples in the order of an epoch, which depends on the seed and the epoch only."""
        return np.random.default_rng([self.config.seed, epoch]).permutation(len(self.dataset))

    @property
    def seconds(self) -> float:
        return self.now() - self.begin

    def _fraction(self, n_steps: int | None) -> float:
        """How much of the phase is over: by steps, by time, or by whichever is further."""
        p = self.position
        by_steps = p.phase_step / n_steps if n_steps else 0.0
        by_time = (self.seconds - p.phase_start) / p.phase_seconds if p.phase_seconds is not None else 0.0
        return max(by_steps, by_time)

    def _predict(self, stage: str) -> Callable[[GraphBatch], Coefficients]:
        def predict(batch: GraphBatch) -> Coefficients:
            with torch.no_grad():
                return self.average(batch.to(self.fabric.device), stage)

        return predict

    def _report(self, name: PhaseName, phase: Phase, fraction: float) -> None:
        """Live line, rows of the log and validation when they are due."""
        p = self.position
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
        """Where the time rules, validations wait until they take no more than `VALIDATING` of it."""
        p = self.position
        return p.phase_seconds is None or p.validating + self.validation_cost <= VALIDATING * (
            self.seconds - p.phase_start
        )

    def _log_every(self, name: PhaseName) -> int:
        p = self.position
        spent = max(self.seconds - p.phase_start, 1e-9)
        n_steps = self.schedule.phase(name).n_steps(len(self.dataset))
        expected = n_steps if n_steps else p.phase_step * (p.phase_seconds or spent) / spent
        return max(int(expected / LOG_ROWS), 1)

    def _validate(self, name: PhaseName, phase: Phase) -> dict[str, float]:
        """Errors of the averaged weights in eV; the best weights of the phase are noted.

        A few samples choose badly: weights count as better than those that the phase began with where the mean of the
        samples' differences exceeds its standard error.
        """
        p, begin = self.position, self.seconds
        predict = self._predict("stage1" if name == "stage1" else "full")
        errors = self.validation.errors(predict)
        found = {"mae_train": self.seen.mae(predict), "mae_val": float(errors.mean())}
        better = found["mae_val"] < p.best and (not p.before or clearly_positive(np.array(p.before) - errors))
        p.before = p.before or errors.tolist()
        p.validated = p.step
        p.best, p.since_best = (found["mae_val"], 0) if better else (p.best, p.since_best + 1)
        p.ended = phase.patience is not None and p.since_best >= phase.patience
        if better:
            self.best.load_state_dict(self.average.state_dict())
        self.validation_cost = self.seconds - begin
        p.validating += self.validation_cost
        return found

    def _show(self, name: PhaseName, phase: Phase, fraction: float) -> None:
        p = self.position
        spent = self.seconds - p.phase_start
        speed = p.phase_step * min(phase.batch_size, len(self.dataset)) / max(spent, 1e-9)
        left = spent * (1 - fraction) / max(fraction, 1e-9)
        mae = f"  MAE {self.log.error(p.best)} {self.log.unit}" if math.isfinite(p.best) else ""
        loss = f"loss {p.losses[-1]:.2f}" if p.losses else ""
        self.log.show(name, fraction, f"{loss}{mae}  {speed:.0f} samples/s  {left / 60:.1f} min left")

    def _timed(self, work) -> float:
        start = self.now()
        work()
        return self.now() - start

    def _say_sizes(self) -> None:
        n = sum(p.numel() for p in self.network.parameters())
        first = sum(p.numel() for p in self.network.stage1.parameters())
        self.log.say(
            f"{len(self.dataset)} training samples, {len(self.validation.names)} for validation, "
            f"{n:,} parameters ({first:,} in stage 1), prepared in {self.seconds:.1f} s"
        )

    def _finish(self) -> None:
        metrics = {stage: self.validation.mae(self._predict(stage)) for stage in ("stage1", "full")}
        save(self._calibrated(Model(self.average, self.dataset.regression, self._card(metrics))), self.config.out)
        remove_state(self.config.out)
        if not self.position.step:
            self.log.say(
                "no time was left for the networks: this is the closed-form part alone; a longer time_limit helps"
            )
        one, two = (f"{self.log.error(metrics[s])} {self.log.unit}" for s in ("stage1", "full"))
        self.log.say(
            f"validation, {len(self.validation.names)} samples: H MAE {one} in stage 1, {two} in full "
            f"({100 * (1 - metrics['full'] / metrics['stage1']):+.1f} % reduction); {self.position.step} steps, {self.seconds:.0f} s"
        )

    def _calibrated(self, model: Model) -> Model:
        """With bounds of its errors, from the validation samples, unless they are not wanted."""
        if not self.config.calibrate:
            return model
        self.log.show("calibrating", 0.0, f"{len(self.validation.names)} samples")
        n = min(len(self.dataset), MOST_TRAINING)
        parts = np.array_split(np.arange(n), -(-n // BATCH_CALIBRATED))
        batches = (self.dataset.batch(part).graph for part in parts)
        known = self.dataset.names, batches, self.left_out, self.dataset.target
        return calibrated(model, self.store, self.validation, *known)

    def _card(self, metrics: dict[str, float]) -> Card:
        digests = sorted(hashlib.blake2b(self.store.record(n), digest_size=32).digest() for n in self.dataset.names)
        space = self.dataset.regression.space
        return Card(
            basis=space.basis,
            spin=self.store.spin,
            network=self.config.network,
            l_max=space.l_max,
            needs_prior=self.dataset.target.prior,
            inputs=self.config.inputs,
            energy_zero=self.config.energy_zero,
            overlap_filter=self.config.overlap_filter,
            periodic=bool(self.store[self.dataset.names[0]].structure.pbc.any()),
            settings=label_settings(self.store, self.dataset.names),
            training_set=hashlib.sha256(b"".join(digests)).hexdigest(),
            n_train=len(self.dataset),
            n_parameters=sum(p.numel() for p in self.average.parameters()),
            seed=self.config.seed,
            date=datetime.now(UTC).strftime("%Y-%m-%d"),
            harmose=_version(),
            metrics={f"mae_val_{stage}": value for stage, value in metrics.items()},
        )


def clearly_positive(x: np.ndarray) -> bool:
    """Whether the mean exceeds its standard error, which one number does not tell."""
    return bool(x.mean() > (x.std(ddof=1) / math.sqrt(len(x)) if len(x) > 1 else 0.0))


def _version() -> str:
    try:
        return metadata.version("harmose")
    except metadata.PackageNotFoundError:
        return "unknown"


def _not_finite(step: int, bad: int, phase: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (
        f"training: the loss is not finite in step {step + 1} and the {bad - 1} before it ({phase}; samples {shown}): "
        f"a lower learning_rate or a clip may help, `harmose data check` finds bad samples"
    )
