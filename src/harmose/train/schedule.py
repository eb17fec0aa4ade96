"""The schedule: three named phases, what each trains, and how its learning rate falls."""

import math
from dataclasses import dataclass, field
from typing import Literal

PhaseName = Literal["stage1", "stage2", "joint"]
PHASES: tuple[PhaseName, ...] = ("stage1", "stage2", "joint")
"""In their order: stage 1 alone; stage 2 on the residual of the frozen stage 1; both together."""


@dataclass(frozen=True)
class Phase:
    """One phase. Its length is `steps`, else `epochs`, else its `share` of the training time; 0 switches it off.

    The learning rate rises for `warmup` steps and falls like a cosine to zero at the end of the phase. `ema_decay` is
    that of the averaged weights, which are validated and shipped; `clip` bounds the gradient's norm (null: no bound);
    `patience` ends the phase after so many validations without a better one (null: never).
    """

    share: float = 0.0
    steps: int | None = None
    epochs: float | None = None
    learning_rate: float = 4e-3
    warmup: int = 200
    batch_size: int = 10
    ema_decay: float = 0.999
    clip: float | None = None
    weight_decay: float = 0.0
    patience: int | None = None

    def n_steps(self, n_samples: int) -> int | None:
        """Steps of this phase on so many samples; None when the time decides."""
        if self.steps is not None or self.epochs is None:
            return self.steps
        return math.ceil(self.epochs * steps_per_epoch(n_samples, self.batch_size))

    @property
    def is_on(self) -> bool:
        length = next((x for x in (self.steps, self.epochs) if x is not None), self.share)
        return length > 0

    def rate(self, step: int, fraction: float) -> float:
        """Learning rate of a step (from 0) when `fraction` of the phase is over."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        return self.learning_rate * rise * (1 + math.cos(math.pi * min(fraction, 1.0))) / 2

    def averaging(self, step: int, free: int = 100) -> float:
        """Decay of the averaged weights in a step: zero for the first `free` steps, then rising to `ema_decay`."""
        t = max(step - free, 0)
        return min(self.ema_decay, t / (t + 10))


@dataclass(frozen=True)
class Schedule:
    """The phases. In `joint` the loss is that of the full model plus `stage1_weight` times that of stage 1 alone."""

    stage1: Phase = field(default_factory=lambda: Phase(share=0.7))
    stage2: Phase = field(default_factory=lambda: Phase(share=0.3, learning_rate=2e-3))
    joint: Phase = field(default_factory=lambda: Phase(learning_rate=5e-4))
    stage1_weight: float = 0.3

    def phase(self, name: PhaseName) -> Phase:
        return {"stage1": self.stage1, "stage2": self.stage2, "joint": self.joint}[name]

    @property
    def active(self) -> tuple[PhaseName, ...]:
        return tuple(name for name in PHASES if self.phase(name).is_on)

    def budget(self, name: PhaseName, remaining: float) -> float:
        """Seconds for a phase out of the `remaining` ones, by its share among those not yet begun."""
        later = self.active[self.active.index(name) :]
        total = sum(self.phase(n).share for n in later)
        return remaining * (self.phase(name).share / total if total > 0 else 1 / len(later))


def steps_per_epoch(n_samples: int, batch_size: int) -> int:
    """Full batches in an epoch, at least one."""
    return max(n_samples // batch_size, 1)
