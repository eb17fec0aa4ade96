"""`Sample`: one labelled structure, the unit that readers return, stores keep and metrics compare."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.structure import check_structure
from harmose.errors import MatrixError
from harmose.spin import Spin


@dataclass(frozen=True, eq=False)
class Sample:
    """A structure with its operators. Energies in eV; `orbital_energies` (n_orbitals,) or (2, n_orbitals), ascending.

    `prior` is H0, the cheap Hamiltonian (PySCF: Fock matrix of the superposed atomic densities). `provenance` holds what
    the labelling code knows, as JSON values: code, version, functional, grid, convergence, cycles, group, kind.
    """

    name: str
    structure: Atoms
    basis: BasisSet
    hamiltonian: BlockMatrix
    overlap: BlockMatrix | None = None
    prior: BlockMatrix | None = None
    spin: Spin = Spin.NONE
    n_electrons: float | None = None
    fermi_level: float | None = None
    energy: float | None = None
    orbital_energies: np.ndarray | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_occupied(self) -> int:
        """Doubly occupied orbitals of a closed shell."""
        if self.n_electrons is None:
            raise MatrixError(f"sample {self.name}: the number of electrons is not known")
        return round(self.n_electrons / 2)


def relative_to_fermi_level(sample: Sample) -> Sample:
    """The same calculation with its Fermi level at zero: H - E_F S, and all one-electron energies less E_F.

    Potentials of crystals are known but for a constant c, and H + c S means the same as H. H0 stays as it is.
    `MatrixError` for a sample without S or Fermi level.
    """
    if sample.overlap is None or sample.fermi_level is None:
        lacking = "overlap" if sample.overlap is None else "Fermi level"
        raise MatrixError(
            f"sample {sample.name}: expected S and a Fermi level, which the gauge fermi needs, got no {lacking}"
        )
    h, s, level = sample.hamiltonian, sample.overlap, sample.fermi_level
    # S is one real matrix; of four spinor components uu and dd have it, ud and du do not.
    diagonal = np.array([1.0, 0.0, 0.0, 1.0])[:, None] if h.spin is Spin.SPINOR else 1.0
    energies = None if sample.orbital_energies is None else sample.orbital_energies - level
    shifted = h.with_values(h.values - level * diagonal * np.real(s.values[:1]))
    return replace(sample, hamiltonian=shifted, fermi_level=0.0, orbital_energies=energies)


def check_sample(sample: Sample) -> None:
    """Raise `StructureError` or `MatrixError` that names the sample when it is not fit for training.

    Checked: the structure; finite values; symmetric on-site blocks; S positive definite (molecules) with a diagonal near
    1; H is not H0; all operators on the same atoms, blocks and basis; H and H0 of the sample's spin.
    """
    check_structure(sample.structure, f"sample {sample.name}")
    operators = {"H": sample.hamiltonian, "S": sample.overlap, "H0": sample.prior}
    for label, operator in operators.items():
        if operator is None:
            continue
        if operator.basis != sample.basis:
            raise MatrixError(f"sample {sample.name}: {label} belongs to another basis set than {sample.basis.name}")
        if label != "S" and operator.spin is not sample.spin:
            raise MatrixError(f"sample {sample.name}: expected {label} of spin {sample.spin}, got {operator.spin}")
        if not np.array_equal(operator.numbers, sample.structure.numbers):
            raise MatrixError(f"sample {sample.name}: {label} belongs to other atoms than the structure")
        if not np.array_equal(operator.pairs, sample.hamiltonian.pairs):
            raise MatrixError(f"sample {sample.name}: {label} has other blocks than H")
        if not np.isfinite(operator.values).all():
            raise MatrixError(f"sample {sample.name}: expected finite values in {label}, got NaN or infinity")
        _check_onsite_symmetric(sample.name, label, operator)
    if sample.prior is not None and np.allclose(sample.prior.values, sample.hamiltonian.values, atol=1e-9, rtol=0):
        raise MatrixError(f"sample {sample.name}: H equals H0, so the calculation has not run")
    if sample.overlap is not None:
        _check_overlap(sample)


def _check_overlap(sample: Sample) -> None:
    assert sample.overlap is not None
    block, row, col = sample.overlap.indices
    diagonal = sample.overlap.values[0, (row == col) & (block < len(sample.structure))].real
    if not (diagonal.min() > 0.5 and diagonal.max() < 2):
        raise MatrixError(f"sample {sample.name}: expected a diagonal of S near 1, got {diagonal.min():.3g} to "
                          f"{diagonal.max():.3g}")  # fmt: skip
    if not sample.structure.pbc.any():
        lowest = float(np.linalg.eigvalsh(sample.overlap.dense()).min())
        if lowest <= 0:
            raise MatrixError(f"sample {sample.name}: S is not positive definite (smallest eigenvalue {lowest:.2e})")


def _check_onsite_symmetric(name: str, label: str, operator: BlockMatrix) -> None:
    for (z1, z2), index, where in operator.groups():
        onsite = where[index < len(operator.numbers)]
        if z1 != z2 or not len(onsite):
            continue
        blocks = operator.values[:, onsite]
        asymmetry = np.abs(blocks - operator.spin.adjoint(blocks)).max()
        if asymmetry > 1e-6 * max(1.0, np.abs(blocks).max()):
            raise MatrixError(f"sample {name}: {label} is not Hermitian (asymmetry {asymmetry:.2e})")
