"""`Sample`: one structure with its operators from DFT, which readers return, stores keep and metrics compare."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.species import species_of
from harmose.core.structure import check_structure
from harmose.errors import MatrixError
from harmose.spin import Spin

PriorKind = Literal["exact", "spherical", "tabulated"]
"""Kinds of H0 for labels of PySCF (`io.pyscf.pyscf.PySCFSettings`)."""


@dataclass(frozen=True, eq=False, repr=False)
class Sample:
    """One structure with its operators and energies from DFT.

    Attributes:
        name: name in a store.
        structure: atoms, positions and cell in angstrom.
        basis: basis set of all operators.
        hamiltonian: H in eV.
        overlap: S, one matrix for all spins, or None.
        prior: H0 in eV, an approximate Hamiltonian without self-consistency (PySCF: the Fock matrix of superposed
            atomic densities), or None.
        spin: spin kind of H and H0.
        n_electrons: number of electrons, without those in pseudopotentials.
        fermi_level: Fermi level in eV.
        energy: total energy in eV.
        orbital_energies: eigenvalues of (H, S) in eV, ascending, shape (n_orbitals,); collinear (2, n_orbitals), spinor
            (2 n_orbitals,).
        provenance: settings and outcome of the calculation as JSON values: code, version, functional, grid, cycles, ...

    Examples:
        >>> import harmose
        >>> from ase.build import molecule
        >>> water = molecule("H2O")
        >>> h = harmose.load("water-pbe-def2svp").predict(water)
        >>> harmose.Sample("predicted", water, h.basis, h, n_electrons=10)
        Sample('predicted': H2O, H in eV, 10 electrons, spin none, basis 'def2-svp')
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

    def __repr__(self) -> str:
        in_ev = "H and H0 in eV" if self.prior is not None else "H in eV"
        operators = in_ev if self.overlap is None else f"{in_ev}, S"
        electrons = "" if self.n_electrons is None else f", {self.n_electrons:g} electrons"
        formula = self.structure.get_chemical_formula()
        return f"Sample({self.name!r}: {formula}, {operators}{electrons}, spin {self.spin}, basis {self.basis.name!r})"

    @property
    def is_prediction(self) -> bool:
        """True for a prediction of a model; False for DFT."""
        return self.provenance.get("kind") == "prediction"

    @property
    def n_occupied(self) -> int:
        """Number of doubly occupied orbitals of a closed shell.

        Raises:
            MatrixError: for a sample without number of electrons.
        """
        if self.n_electrons is None:
            raise MatrixError(f"sample {self.name}: expected a number of electrons, got none")
        return round(self.n_electrons / 2)


def kind_of_prior(settings: Mapping[str, Any]) -> str:
    """Return the kind of H0 that the settings of labels or of a model say: "exact" where they name none."""
    return settings.get("prior", "exact")


def relative_to_fermi_level(sample: Sample) -> Sample:
    """The same calculation with its Fermi level at zero: H - E_F S, orbital energies - E_F; H0 is not changed.

    The potential of a crystal has an arbitrary constant c, and H + c S describes the same electrons as H. Raises
    `MatrixError` for a sample without S or Fermi level.
    """
    if sample.overlap is None or sample.fermi_level is None:
        lacking = "overlap" if sample.overlap is None else "Fermi level"
        raise MatrixError(
            f"sample {sample.name}: energies relative to the Fermi level need S and a Fermi level, got no {lacking}"
        )
    h, s, level = sample.hamiltonian, sample.overlap, sample.fermi_level
    # S is one real matrix; in a spinor operator, uu and dd contain it, ud and du do not.
    diagonal = np.array([1.0, 0.0, 0.0, 1.0])[:, None] if h.spin is Spin.SPINOR else 1.0
    energies = None if sample.orbital_energies is None else sample.orbital_energies - level
    shifted = h.with_values(h.values - level * diagonal * np.real(s.values[:1]))
    return replace(sample, hamiltonian=shifted, fermi_level=0.0, orbital_energies=energies)


def check_sample(sample: Sample) -> None:
    """Raise `StructureError` or `MatrixError` with the sample's name if the sample cannot be trained on.

    The structure must pass `check_structure`. All operators must have the sample's atoms and basis set, the same
    blocks, finite values, and Hermitian on-site blocks. H and H0 must have the sample's spin and differ. S must have a
    diagonal near 1 and, for a molecule, be positive definite.
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
        if not np.array_equal(operator.numbers, species_of(sample.structure)):
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
