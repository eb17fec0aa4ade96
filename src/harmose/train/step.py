"""One step of one phase: loss, gradient, AdamW, averaged weights.

A step may have several parts, batches one after the other and on several processes. Each loss is a mean over the elements (or
samples) of its own batch; multiplied by the share of the batch (`Shares`), the sum of the parts, or for several processes the
mean of their sums, is the loss of one batch of all samples, and so is the gradient.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from harmose.nn.two_stage import TwoStage, add
from harmose.representation.block_irreps import Coefficients
from harmose.train.assembly import Assembly
from harmose.train.compiled import Compiled, reason
from harmose.train.dataset import TrainingBatch
from harmose.train.loss import degree_weights, norms_of_blocks, physical_errors, shift_free
from harmose.train.physics_loss import LOSSES, LossSettings, between_orbitals
from harmose.train.reference_orbitals import ReferenceOrbitalTable
from harmose.train.schedule import Phase, PhaseName

BETAS = (0.9, 0.98)
"""Decay rates of AdamW. Gradients of small batches are forgotten sooner than with its default of 0.999."""


class Shares(NamedTuple):
    """Part of a batch in all samples of a step, by elements of the matrices and by samples, times the number of processes."""

    elements: float = 1.0
    samples: float = 1.0


WHOLE = Shares()


@dataclass(frozen=True)
class Part:
    """A batch that is made by `load` when it is its turn, and its shares in the step."""

    load: Callable[[], TrainingBatch]
    shares: Shares = WHOLE


class PhaseBatch:
    """Wraps a batch so that Fabric passes it through unchanged. `compiled`: compiled loss to use instead of the eager one."""

    def __init__(self, batch: TrainingBatch, compiled: Compiled | None = None, shares: Shares = WHOLE):
        self.batch, self.compiled, self.shares = batch, compiled, shares


class PhaseLoss(nn.Module):
    """The cascade loss of HarmoSE (Yin et al., arXiv:2401.00744) of a batch in a phase.

        stage1   loss(H1)
        stage2   loss(H1 + dH), with stage 1 frozen
        joint    loss(H1 + dH) + stage1_weight loss(H1)

    The loss is the norm of blocks (`loss`), plus terms that `settings` switches on (`physics_loss`); those that need them get
    the reference orbitals of all training samples in `orbitals`.
    """

    def __init__(
        self,
        network: TwoStage,
        device: torch.device,
        stage1_weight: float,
        settings: LossSettings | None = None,
        orbitals: ReferenceOrbitalTable | None = None,
    ):
        super().__init__()
        self.network, self.stage1_weight = network, stage1_weight
        self.settings, self.orbitals = settings or LossSettings(), orbitals
        self.weights = degree_weights(network.space, device)
        self.assembly = Assembly(network.space).to(device) if self.settings.needs_orbitals else None

    def forward(self, wrapped: PhaseBatch, phase: PhaseName, generator: torch.Generator) -> Tensor:
        if wrapped.compiled is None:
            return self.phase_loss(wrapped.batch, phase, generator, wrapped.shares)
        return wrapped.shares.elements * wrapped.compiled(replace(wrapped.batch, names=()), phase, generator)

    def phase_loss(
        self, batch: TrainingBatch, phase: PhaseName, generator: torch.Generator, shares: Shares = WHOLE
    ) -> Tensor:
        """Return the loss of an unwrapped batch in micro-Hartree."""
        with torch.set_grad_enabled(phase != "stage2"):
            first = self.network.stage1(batch.graph)
        if phase == "stage1":
            return self.loss(first.h1, batch, shares)
        full = add(first.h1, self.network.stage2(batch.graph, first, generator))
        loss = self.loss(full, batch, shares)
        return loss if phase == "stage2" else loss + self.stage1_weight * self.loss(first.h1, batch, shares)

    def loss(self, predicted: Coefficients, batch: TrainingBatch, shares: Shares = WHOLE) -> Tensor:
        """Return the loss of a prediction in micro-Hartree."""
        errors = physical_errors(predicted, batch)
        if self.settings.shift_blind:
            errors = shift_free(errors, batch.graph)
        loss = shares.elements * norms_of_blocks(self.weights, errors, batch.n_elements)
        if self.assembly is None or self.orbitals is None:
            return loss
        orbitals = self.orbitals(batch.names).to(batch.graph.distance.device)
        m = between_orbitals(self.assembly(errors, batch.graph, orbitals.kpoints), orbitals)
        terms = (weight * LOSSES[name](m, orbitals) for name, weight in self.settings.weights.items())
        return loss + shares.samples * sum(terms)


class PhaseOptimizer:
    """Optimizes the parameters of a phase and their moving averages in `average`; all other parameters are frozen.

    `compiled`: compile the loss; where that fails, `log` is called with the reason, and steps are made without.
    """

    def __init__(
        self,
        fabric: Fabric,
        loss: PhaseLoss,
        average: TwoStage,
        generator: torch.Generator,
        name: PhaseName,
        settings: Phase,
        compiled: bool = False,
        log: Callable[[str], object] = print,
    ):
        network = loss.network
        self.fabric, self.name, self.settings, self.generator = fabric, name, settings, generator
        self.parameters = trained_parameters(network, name)
        self.averaged: list[Tensor] = [*trained_parameters(average, name)]
        network.train().requires_grad_(False)
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.adam = torch.optim.AdamW(
            self.parameters, settings.learning_rate, BETAS, weight_decay=settings.weight_decay, fused=True
        )
        self.loss = fabric.setup_module(loss)
        self.compiled, self.log = Compiled(loss.phase_loss) if compiled else None, log
        self.optimizer = cast(torch.optim.Optimizer, fabric.setup_optimizers(self.adam))

    def step(self, batch: TrainingBatch, number: int, fraction: float) -> float:
        """Make a step of one batch; see `step_of`."""
        return self.step_of([Part(lambda: batch)], number, fraction)

    def step_of(self, parts: Sequence[Part], number: int, fraction: float) -> float:
        """Make step `number` (from 0) of the phase, of which `fraction` is over, and return the loss of all parts.

        Returns NaN and changes nothing where the loss or its gradient is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(number, fraction)
        value, size, norm = self._differentiate(parts)
        if not (math.isfinite(value) and math.isfinite(size)):
            return math.nan
        if self.settings.clip is not None and size > self.settings.clip:
            nn.utils.clip_grads_with_norm_(self.parameters, self.settings.clip, norm, foreach=True)
        self.optimizer.step()
        get_ema_multi_avg_fn(self.settings.averaging(number))(self.averaged, [*self.parameters], None)
        return value

    def _differentiate(self, parts: Sequence[Part]) -> tuple[float, float, Tensor]:
        """Return `_gradient`, compiled where that works."""
        compiled = self.compiled
        if compiled is None:
            return self._gradient(parts)
        if not compiled.is_new:
            return self._tried(parts, compiled)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of the compiler
            expected = self._gradient(parts)
            found = self._tried(parts, compiled, expected)
        return found

    def _tried(self, parts: Sequence[Part], compiled: Compiled, expected: tuple[float, float, Tensor] | None = None):
        try:
            found = self._gradient(parts, compiled)
            if expected is not None:
                compiled.check(expected[:2], found[:2])
            return found
        except Exception as error:  # any compiler error: compiling is optional
            self.compiled = None
            self.log(f"compile: not possible here, continuing without ({reason(error)})")
            return self._gradient(parts)

    def _gradient(self, parts: Sequence[Part], compiled: Compiled | None = None) -> tuple[float, float, Tensor]:
        """Return the loss and the norm of its gradient, which is stored in the parameters."""
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.fabric.device)
        for k, part in enumerate(parts):
            batch = part.load().to(self.fabric.device)
            fits = compiled is not None and compiled.takes(batch.graph)
            with self._synchronized(last=k == len(parts) - 1):
                loss = self.loss(PhaseBatch(batch, compiled if fits else None, part.shares), self.name, self.generator)
                self.fabric.backward(loss)
            total = total + loss.detach()
        total = cast(Tensor, self.fabric.all_reduce(total, reduce_op="mean"))
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None], foreach=True)
        # The only synchronization with the device in a step.
        value, size = torch.stack([total, norm.detach().to(total)]).tolist()
        return value, size, norm

    def _synchronized(self, last: bool) -> AbstractContextManager:
        """Return a context in which gradients are exchanged between processes only in the last part of a step."""
        if last or self.fabric.world_size == 1:
            return nullcontext()
        return self.fabric.no_backward_sync(self.loss)

    @torch.no_grad()
    def finish(self) -> None:
        """Copy the averaged weights into the network."""
        for parameter, averaged in zip(self.parameters, self.averaged, strict=True):
            parameter.copy_(averaged)


def trained_parameters(network: TwoStage, phase: PhaseName) -> list[nn.Parameter]:
    """Return the parameters that a phase trains, in a fixed order."""
    trained = {"stage1": network.stage1, "stage2": network.stage2, "joint": network}
    return list(trained[phase].parameters())
