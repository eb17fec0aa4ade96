"""Losses on orbitals and their energies, from the error of H between the reference orbitals.

With all reference orbitals C (`C^dagger S C = 1`, energies e) of a sample, at one k-point or for one spin,

    M = C^dagger dH C

is the error of H in an orthonormal basis. Three losses of it, all in micro-Hartree, and each the mean over samples:

    overlap metric   sqrt( mean over p, q of |M_pq|^2 )              the norm of L^-1 dH L^-dagger for any L L^dagger = S
    occupied         sqrt( mean over p occupied, any q, of |M_pq|^2, with weights 1 / (1 + |e_p - e_q| / E)^2 )
    eigenvalues      mean over orbitals p of |e'_p - e_p|,             e' = eigenvalues of diag(e) + M, those of the prediction

To first order a state p gains M_qp / (e_p - e_q) of state q and the energy M_pp, so that *occupied* weighs what changes the
density and the occupied energies; core and far empty states, which hardly mix in, count less (E = 1 Rydberg). Comparing H
between reference orbitals is the idea of WALoss (Li et al., Enhancing the scalability and applicability of Kohn-Sham
Hamiltonians for molecular systems, ICLR 2025). None
of the losses changes when degenerate orbitals are mixed. `eigenvalues` is smooth where levels cross, since reference energies
within `reference_orbitals.DEGENERATE` of each other are replaced by their mean.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from harmose.train.reference_orbitals import ReferenceOrbitals
from harmose.units import MICRO_HARTREE, RYDBERG

EPSILON = 1e-12
"""eV^2 under each root."""

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, config={"extra": "forbid"})
class LossSettings:
    """Weights of the losses of this module, which are added to the norms of blocks (`loss.block_loss`).

    `shift_blind`: all losses treat H and H + c S as equal.
    """

    shift_blind: bool = False
    overlap_metric: Weight = 0.0
    occupied: Weight = 0.0
    eigenvalues: Weight = 0.0

    @property
    def needs_orbitals(self) -> bool:
        """True if reference orbitals are needed."""
        return bool(self.overlap_metric or self.occupied or self.eigenvalues)

    @property
    def weights(self) -> Mapping[str, float]:
        """Weights above 0, by name."""
        weights = {name: getattr(self, name) for name in LOSSES}
        return {name: weight for name, weight in weights.items() if weight}


def between_orbitals(error: Tensor, orbitals: ReferenceOrbitals) -> Tensor:
    """M = C^dagger dH C (B, O, m, m) of dense errors (B, O, s n, s n) in eV."""
    c = orbitals.coefficients
    return c.mH @ error.to(c.dtype) @ c


def overlap_metric(m: Tensor, orbitals: ReferenceOrbitals) -> Tensor:
    """Root mean square of M, in micro-Hartree."""
    return _root_mean_square(m, orbitals.exists[..., :, None] * orbitals.exists[..., None, :])


def occupied(m: Tensor, orbitals: ReferenceOrbitals) -> Tensor:
    """Root mean square of the occupied rows of M, weighted as in the module's equation, in micro-Hartree."""
    e = orbitals.energies
    weight = (1 + (e[..., :, None] - e[..., None, :]).abs() / RYDBERG) ** -2
    return _root_mean_square(
        m, weight.to(orbitals.exists) * orbitals.occupied[..., :, None] * orbitals.exists[..., None, :]
    )


def eigenvalues(m: Tensor, orbitals: ReferenceOrbitals) -> Tensor:
    """Mean absolute error of the counted energies, in micro-Hartree. NaN where M is not finite."""
    if not m.isfinite().all():
        return m.real.sum() * torch.nan
    # in float64: rounding levels of -500 eV to float32 would cost 1e-5 eV
    predicted = torch.linalg.eigvalsh(torch.diag_embed(orbitals.energies.double()) + m.to(_double(m)))
    errors = ((predicted - orbitals.energies).square() + EPSILON).sqrt()
    share = orbitals.counted / orbitals.counted.sum((1, 2), keepdim=True)
    return (errors.to(share.dtype) * share).sum((1, 2)).mean() / MICRO_HARTREE


LOSSES = {"overlap_metric": overlap_metric, "occupied": occupied, "eigenvalues": eigenvalues}


def _root_mean_square(m: Tensor, weight: Tensor) -> Tensor:
    squares = m.real.square() + m.imag.square() if m.is_complex() else m.square()
    mean = (squares * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))
    return (mean + EPSILON).sqrt().mean() / MICRO_HARTREE


def _double(m: Tensor) -> torch.dtype:
    return torch.complex128 if m.is_complex() else torch.float64
