"""Between harmose's models and PySCF: converged DFT that starts from a prediction.

`start(mf, model)` gives a mean-field object the predicted density as its guess; `matrix` brings any operator into
PySCF's order and units; `compare_scf` counts the cycles that a prediction saves.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from pyscf import gto, scf
from scipy.linalg import block_diag, eigh

from harmose.basis import BasisSet
from harmose.blocks import BlockMatrix
from harmose.errors import LabellingError, ModelError
from harmose.io.pyscf import PySCFSettings, from_blocks, has_basis, mean_field, molecule
from harmose.physics.density import density_from_dense
from harmose.spin import Spin


class Predictor(Protocol):
    """What is needed of a model: its card's basis, and H in eV for a structure."""

    @property
    def card(self) -> Any: ...

    def predict(self, atoms: Atoms) -> BlockMatrix: ...


def start(mf: Any, model: Predictor) -> Any:
    """`mf` (PySCF's RKS or UKS, not yet run) with the predicted density as its guess; `mf.kernel()` starts from it.

    H is predicted for `mf.mol` and diagonalized with the molecule's own overlap; D = 2 C_occ C_occ^T, half of it for
    each spin of a UKS. A collinear model starts UKS, one of spinors GKS (`mf.with_soc = True`). Only the way to the converged
    result changes. Raises `ModelError` for a molecule outside the model's card (elements, basis, open shell), and for a
    mean field of another spin kind.
    """
    spin = Spin(getattr(model.card, "spin", Spin.NONE))
    _check_mean_field(mf, spin)
    _check_molecule(mf.mol, model.card.basis)
    if spin is not Spin.COLLINEAR:
        _check_closed_shell(mf.mol)
    density = predicted_density(mf.mol, model.predict(structure(mf.mol)))
    both = spin is Spin.NONE and isinstance(mf, scf.uhf.UHF)
    mf.init_guess = np.array([density / 2, density / 2]) if both else density
    return mf


def _check_mean_field(mf: Any, spin: Spin) -> None:
    generalized, unrestricted = isinstance(mf, scf.ghf.GHF), isinstance(mf, scf.uhf.UHF)
    fits = {Spin.NONE: not generalized, Spin.COLLINEAR: unrestricted, Spin.SPINOR: generalized}
    wanted = {
        Spin.NONE: "a restricted or unrestricted",
        Spin.COLLINEAR: "an unrestricted",
        Spin.SPINOR: "a generalized",
    }
    if not fits[spin]:
        raise ModelError(f"expected {wanted[spin]} mean field for a model of spin {spin}, got {type(mf).__name__}")


def predicted_density(mol: gto.Mole, h: BlockMatrix) -> np.ndarray:
    """D in PySCF's order for the Hamiltonian `h`, from the molecule's own overlap.

    Closed shell (n, n); collinear (2, n, n) with `mol.nelec` up and down; spinor (2n, 2n), complex.
    """
    fock, s = matrix(h, mol), mol.intor_symmetric("int1e_ovlp")
    if h.spin is Spin.NONE:
        return density_from_dense(fock, s, mol.nelectron)
    if h.spin is Spin.COLLINEAR:
        return np.stack([_filled(one, s, n) for one, n in zip(fock, mol.nelec, strict=True)])
    return _filled(fock, block_diag(s, s), mol.nelectron)


def _filled(fock: np.ndarray, s: np.ndarray, n: int) -> np.ndarray:
    """The density of the n lowest orbitals, one electron in each."""
    c = eigh(fock, s)[1][:, :n]
    return c @ c.conj().T


def matrix(h: BlockMatrix, mol: gto.Mole, energy: bool = True) -> np.ndarray:
    """The operator as PySCF's matrix for `mol`: its orbital order; eV -> Hartree. (n, n), collinear (2, n, n), spinor (2n, 2n).

    `energy=False` for operators without units (S, D). Raises `ModelError` when the molecule has other atoms or another
    basis set than the operator.
    """
    _check_molecule(mol, h.basis)
    numbers = structure(mol).numbers
    if not np.array_equal(numbers, h.numbers):
        raise ModelError(f"expected a matrix of the molecule's atoms {numbers.tolist()}, got {h.numbers.tolist()}")
    return from_blocks(h, energy)


def structure(mol: gto.Mole) -> Atoms:
    """The molecule's atoms and positions (angstrom); its charge and unpaired electrons in `info`."""
    numbers = [gto.charge(mol.atom_pure_symbol(k)) for k in range(mol.natm)]
    atoms = Atoms(numbers, mol.atom_coords(unit="angstrom"))
    if mol.charge:
        atoms.info["charge"] = int(mol.charge)
    if mol.spin:
        atoms.info["spin"] = int(mol.spin)
    return atoms


@dataclass(frozen=True)
class ScfComparison:
    """Self-consistency from PySCF's own guess and from a prediction; energies in Hartree."""

    cycles_minao: int
    cycles_predicted: int
    energy_minao: float
    energy_predicted: float

    @property
    def cycles_saved(self) -> int:
        return self.cycles_minao - self.cycles_predicted

    @property
    def energy_difference(self) -> float:
        return abs(self.energy_predicted - self.energy_minao)


def compare_scf(model: Predictor, atoms: Atoms, settings: PySCFSettings | None = None) -> ScfComparison:
    """Converge `atoms` from the minao guess and from the prediction, with the same thresholds.

    `settings` default to those of the model's labels with PySCF's own thresholds (energy 1e-9 Hartree), so that the
    cycles are those that a user of PySCF sees. Raises `LabellingError` when one does not converge.
    """
    settings = settings if settings is not None else model_settings(model)
    mol = molecule(atoms, settings.basis, settings.spin)
    started = start(mean_field(mol, settings), model)  # first: a molecule outside the card costs no SCF
    reference = _converged(mean_field(mol, settings), atoms, "the minao guess")
    predicted = _converged(started, atoms, "the prediction")
    return ScfComparison(reference.cycles, predicted.cycles, float(reference.e_tot), float(predicted.e_tot))


def model_settings(model: Predictor) -> PySCFSettings:
    """The settings that the model's labels were made with (`card.settings`), at PySCF's own convergence."""
    known = {k: v for k, v in model.card.settings.items() if k in PySCFSettings.__dataclass_fields__}
    return PySCFSettings(**{**known, "convergence": 1e-9, "convergence_gradient": None})


def _converged(mf: Any, atoms: Atoms, guess: str) -> Any:
    mf.kernel()
    if not mf.converged:
        raise LabellingError(f"{atoms.get_chemical_formula()}: not converged from {guess} in {mf.max_cycle} cycles")
    return mf


def _check_molecule(mol: gto.Mole, basis: BasisSet) -> None:
    """`ModelError` unless the molecule is isolated and has elements and orbitals of `basis`."""
    if hasattr(mol, "lattice_vectors"):
        raise ModelError("expected a molecule (gto.Mole), got a periodic cell")
    numbers = structure(mol).numbers
    missing = sorted(set(numbers.tolist()) - set(basis.elements))
    if missing:
        known = ", ".join(chemical_symbols[z] for z in basis.elements)
        raise ModelError(f"expected elements among {known}, got {chemical_symbols[missing[0]]}")
    if not has_basis(mol, basis.name):
        raise ModelError(f"expected a molecule in basis {basis.name} (spherical), got one in {_basis_name(mol)}")


def _check_closed_shell(mol: gto.Mole) -> None:
    if mol.nelectron % 2 or mol.spin:
        raise ModelError(f"expected a closed shell, got {mol.nelectron} electrons with spin (2S) {mol.spin}")


def _basis_name(mol: gto.Mole) -> str:
    name = mol.basis if isinstance(mol.basis, str) else "another basis"
    return f"{name} (Cartesian)" if mol.cart else name
