"""One step of one phase: loss, gradient, AdamW, averaged weights."""

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import cast

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
"""Of AdamW: gradients of small batches are forgotten sooner than its default does."""


class PhaseBatch:
    """A batch on its way through Fabric, which would otherwise take it apart; `compiled`: in place of the loss itself."""

    def __init__(self, batch: TrainingBatch, compiled: Compiled | None = None):
        self.batch, self.compiled = batch, compiled


class PhaseLoss(nn.Module):
    """The loss of a batch in a phase; `stage2` sees stage 1 as given, `joint` adds `stage1_weight` times stage 1's loss.

    Norms of blocks, and what `settings` adds; `orbitals` are those of all training samples where it needs them.
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

    def forward(self, handed: PhaseBatch, phase: PhaseName, generator: torch.Generator) -> Tensor:
        if handed.compiled is None:
            return self.of(handed.batch, phase, generator)
        return handed.compiled(replace(handed.batch, names=()), phase, generator)

    def of(self, batch: TrainingBatch, phase: PhaseName, generator: torch.Generator) -> Tensor:
        """What `forward` returns, of a batch as it is."""
        with torch.set_grad_enabled(phase != "stage2"):
            first = self.network.stage1(batch.graph)
        if phase == "stage1":
            return self.loss(first.h1, batch)
        full = add(first.h1, self.network.stage2(batch.graph, first, generator))
        loss = self.loss(full, batch)
        return loss if phase == "stage2" else loss + self.stage1_weight * self.loss(first.h1, batch)

    def loss(self, predicted: Coefficients, batch: TrainingBatch) -> Tensor:
        """Of a prediction, in micro-Hartree."""
        errors = physical_errors(predicted, batch)
        if self.settings.shift_blind:
            errors = shift_free(errors, batch.graph)
        loss = norms_of_blocks(self.weights, errors, batch.n_elements)
        if self.assembly is None or self.orbitals is None:
            return loss
        orbitals = self.orbitals(batch.names).to(batch.graph.distance.device)
        m = between_orbitals(self.assembly(errors, batch.graph, orbitals.kpoints), orbitals)
        return loss + sum(weight * LOSSES[name](m, orbitals) for name, weight in self.settings.weights.items())


class PhaseOptimizer:
    """A phase's trained parameters, their averages in `average`, and the optimizer; the other parameters are frozen.

    `compiled`: the loss is compiled, and where that fails `say` is told why and steps are made without.
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
        say: Callable[[str], object] = print,
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
        self.compiled, self.say = Compiled(loss.of) if compiled else None, say
        self.optimizer = cast(torch.optim.Optimizer, fabric.setup_optimizers(self.adam))

    def step(self, batch: TrainingBatch, number: int, fraction: float) -> float:
        """Step `number` (from 0) of the phase, of which `fraction` is over; returns the loss.

        Where the loss or its gradient is not finite, nothing changes and NaN is returned.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(number, fraction)
        value, size, norm = self._differentiate(batch.to(self.fabric.device))
        if not (math.isfinite(value) and math.isfinite(size)):
            return math.nan
        if self.settings.clip is not None and size > self.settings.clip:
            nn.utils.clip_grads_with_norm_(self.parameters, self.settings.clip, norm, foreach=True)
        self.optimizer.step()
        get_ema_multi_avg_fn(self.settings.averaging(number))(self.averaged, [*self.parameters], None)
        return value

    def _differentiate(self, batch: TrainingBatch) -> tuple[float, float, Tensor]:
        """`_gradient`, compiled where that works."""
        compiled = self.compiled
        if compiled is None or not compiled.takes(batch.graph):
            return self._gradient(batch)
        if not compiled.is_new:
            return self._tried(batch, compiled)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a compiler's
            expected = self._gradient(batch)
            found = self._tried(batch, compiled, expected)
        return found

    def _tried(self, batch: TrainingBatch, compiled: Compiled, expected: tuple[float, float, Tensor] | None = None):
        try:
            found = self._gradient(batch, compiled)
            if expected is not None:
                compiled.check(expected[:2], found[:2])
            return found
        except Exception as error:  # whatever a compiler says: it is not needed
            self.compiled = None
            self.say(f"compile: not possible here, going on without ({reason(error)})")
            return self._gradient(batch)

    def _gradient(self, batch: TrainingBatch, compiled: Compiled | None = None) -> tuple[float, float, Tensor]:
        """The loss and the norm of its gradient, which is left in the parameters."""
        self.optimizer.zero_grad()
        loss = self.loss(PhaseBatch(batch, compiled), self.name, self.generator)
        self.fabric.backward(loss)
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None], foreach=True)
        # The one time in a step that a device is waited for.
        value, size = torch.stack([loss.detach(), norm.detach().to(loss)]).tolist()
        return value, size, norm

    @torch.no_grad()
    def finish(self) -> None:
        """The averaged weights become the network's."""
        for parameter, averaged in zip(self.parameters, self.averaged, strict=True):
            parameter.copy_(averaged)


def trained_parameters(network: TwoStage, phase: PhaseName) -> list[nn.Parameter]:
    """What a phase changes, in a fixed order."""
    trained = {"stage1": network.stage1, "stage2": network.stage2, "joint": network}
    return list(trained[phase].parameters())
