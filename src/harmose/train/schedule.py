"""The schedule: three named phases, what each trains, and how its learning rate falls."""

import math
import signal
import threading
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

PhaseName = Literal["stage1", "stage2", "joint"]
PHASES: tuple[PhaseName, ...] = ("stage1", "stage2", "joint")
"""In their order: stage 1 alone; stage 2 on the residual of the frozen stage 1; both together."""


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class Phase:
    """One phase. Its length is `steps`, else `epochs`, else its `share` of the training time; 0 switches it off.

    The learning rate rises for `warmup` steps and falls like a cosine to zero at the end of the phase. `ema_decay` is
    that of the averaged weights, which are validated and shipped; `clip` bounds the gradient's norm (null: no bound);
    `patience` ends the phase after so many validations without a better one (null: never).

    A step takes the gradient of `accumulate` batches, each of `batch_size` samples or, with `batch_pairs`, of as many as have at
    most that many pairs of atoms together. All processes together count, however many there are.
    """

    share: Annotated[float, Field(ge=0)] = 0.0
    steps: Annotated[int, Field(ge=0)] | None = None
    epochs: Annotated[float, Field(ge=0)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 4e-3
    warmup: Annotated[int, Field(ge=0)] = 200
    batch_size: Annotated[int, Field(ge=1)] = 10
    batch_pairs: Annotated[int, Field(ge=1)] | None = None
    accumulate: Annotated[int, Field(ge=1)] = 1
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    clip: Annotated[float, Field(gt=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    patience: Annotated[int, Field(ge=1)] | None = None

    def n_steps(self, per_epoch: int) -> int | None:
        """Return the steps of this phase for a number of steps in an epoch; None when the time decides."""
        if self.steps is not None or self.epochs is None:
            return self.steps
        return math.ceil(self.epochs * per_epoch)

    @property
    def is_on(self) -> bool:
        """True if the phase has a length above 0."""
        length = next((x for x in (self.steps, self.epochs) if x is not None), self.share)
        return length > 0

    def rate(self, step: int, fraction: float) -> float:
        """Return the learning rate of a step (from 0) when `fraction` of the phase is over."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        return self.learning_rate * rise * (1 + math.cos(math.pi * min(fraction, 1.0))) / 2

    def averaging(self, step: int, free: int = 100) -> float:
        """Return the decay of the averaged weights in a step: 0 for the first `free` steps, then rising to `ema_decay`."""
        t = max(step - free, 0)
        return min(self.ema_decay, t / (t + 10))


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class Stage1Phase(Phase):
    """Stage 1 alone."""

    share: Annotated[float, Field(ge=0)] = 0.7


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class Stage2Phase(Phase):
    """Stage 2 on the residual of the frozen stage 1."""

    share: Annotated[float, Field(ge=0)] = 0.3
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class JointPhase(Phase):
    """Both stages together."""

    learning_rate: Annotated[float, Field(gt=0)] = 5e-4


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class Schedule:
    """The phases. In `joint` the loss is that of the full model plus `stage1_weight` times that of stage 1 alone."""

    stage1: Stage1Phase = Field(default_factory=Stage1Phase)
    stage2: Stage2Phase = Field(default_factory=Stage2Phase)
    joint: JointPhase = Field(default_factory=JointPhase)
    stage1_weight: Annotated[float, Field(ge=0)] = 0.3

    def phase(self, name: PhaseName) -> Phase:
        """Return a phase by its name."""
        return {"stage1": self.stage1, "stage2": self.stage2, "joint": self.joint}[name]

    @property
    def active(self) -> tuple[PhaseName, ...]:
        """Names of the phases that are switched on, in order."""
        return tuple(name for name in PHASES if self.phase(name).is_on)

    def budget(self, name: PhaseName, remaining: float) -> float:
        """Return the seconds of a phase out of the `remaining` ones, by its share among the phases to come."""
        later = self.active[self.active.index(name) :]
        total = sum(self.phase(n).share for n in later)
        return remaining * (self.phase(name).share / total if total > 0 else 1 / len(later))


def steps_per_epoch(n: int, size: int) -> int:
    """Return how many times `size` of n items (samples of a batch, batches of a step) fit into an epoch, at least one."""
    return max(n // size, 1)


class StopRequest:
    """Records SIGINT and SIGTERM in `requested` instead of interrupting; a second one interrupts. Main thread only."""

    requested = False

    def __enter__(self) -> "StopRequest":
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            self.before = {s: signal.signal(s, self._record) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _record(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
