"""PySCF calculations that start from a predicted Hamiltonian; `harmose.pyscf` is this module.

`start(mf, model)` sets the predicted density as the initial guess of a mean field. `run(mf, model)` converges it, too.
`matrix` converts an operator to PySCF's order and units. `compare_scf` and `compare_guesses` count the SCF cycles that
a prediction saves.
"""

import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from pyscf import gto, scf
from scipy.linalg import block_diag, eigh

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.errors import LabellingError, MatrixError, ModelError, OutsideDomain
from harmose.io.pyscf.pyscf import PySCFSettings, from_blocks, has_basis, mean_field, molecule
from harmose.physics.density import occupied_orbitals
from harmose.physics.eigen import MolecularOrbitals
from harmose.physics.ghosts import molecular_ghosts, on_site, warn_of_ghosts
from harmose.scf.guard import Guard, rejection
from harmose.spin import Spin
from harmose.units import HARTREE


class Predictor(Protocol):
    """A model, or anything else with a card that has a basis set, and a method that predicts H in eV."""

    @property
    def card(self) -> Any: ...

    def predict(self, atoms: Atoms) -> BlockMatrix: ...


SAME_ENERGY = 1e-8
"""Largest difference in Hartree between total energies of the same state."""

GUESSES = ("minao", "atom", "huckel", "mod_huckel", "sap", "vsap", "1e")
"""PySCF's initial guesses; `vsap` exists only for closed-shell Kohn-Sham."""


def start(mf: Any, model: Predictor) -> Any:
    """Set the predicted density as the initial guess of a PySCF mean field.

    H is predicted for `mf.mol` and diagonalized with the molecule's overlap. The density is D = 2 C_occ C_occ^T, for a
    UKS half of it for each spin. The converged result does not depend on the guess, only the number of cycles does.

    A poor density is rejected before the first cycle (`harmose.scf.guard`), when PySCF has its Fock matrix, so that the
    test of a good density costs nothing. The SCF then starts from the guess that `mf` had, one Fock build later, and
    `OutsideDomain` is warned. An H that is not finite is rejected at once. The second-order solver (`mf.newton()`) has
    no hook for this test and takes the density as it is. An H with ghost levels (`harmose.physics.ghosts`) warns
    `GhostLevels`.

    Args:
        mf: RKS or UKS that has not run; UKS for a collinear model; GKS with `mf.with_soc = True` for a spinor model.
        model: a model, from `harmose.load`.

    Returns:
        `mf`, whose `kernel()` starts from the prediction.

    Raises:
        ModelError: for a molecule outside the model's card (elements, basis set, open shell) and for a mean field of
            another spin kind.

    Examples:
        >>> import harmose
        >>> from pyscf import dft, gto
        >>> water = gto.M(atom="O 0 0 0; H 0 0.76 0.59; H 0 -0.76 0.59", basis="def2-svp", verbose=0)
        >>> mf = harmose.pyscf.start(dft.RKS(water, xc="pbe"), harmose.load("water-pbe-def2svp"))
        >>> energy = mf.kernel()  # Hartree
        >>> mf.converged
        True
    """
    spin = Spin(getattr(model.card, "spin", Spin.NONE))
    _check_mean_field(mf, spin)
    _check_molecule(mf.mol, model.card.basis)
    if spin is not Spin.COLLINEAR:
        _check_closed_shell(mf.mol)
    fallback = _own_guess(mf)
    mf.init_guess = fallback
    try:
        density = predicted_density(mf.mol, model.predict(structure(mf.mol)))
    except (MatrixError, ValueError, np.linalg.LinAlgError) as error:  # SciPy raises ValueError for NaN and infinity
        warnings.warn(rejection(str(error), fallback), OutsideDomain, stacklevel=2)
        return mf
    if spin is Spin.NONE and isinstance(mf, (scf.uhf.UHF, scf.rohf.ROHF)):
        density = np.array([density / 2, density / 2])
    mf.init_guess, mf.pre_kernel = density, Guard(density.copy(), fallback)
    mf._keys = mf._keys | {"pre_kernel"}  # or PySCF warns about an overwritten method
    return mf


def _own_guess(mf: Any) -> Any:
    """PySCF's guess that `mf` had before any prediction."""
    hook = getattr(mf, "pre_kernel", None)
    return hook.fallback if isinstance(hook, Guard) else mf.init_guess


def run(mf: Any, model: Predictor) -> Any:
    """Converge a PySCF mean field from the prediction, and again from its own guess if that fails.

    The predicted density is that of a determinant, so its energy is an upper bound of the ground state's. If the SCF
    ends above it or does not converge, `mf` is converged again from its own guess, and the lower of two converged
    states stays. Only PySCF's `mf.stability()` can tell if the state is the lowest.

    Args:
        mf: a mean field as in `start`.
        model: a model, from `harmose.load`.

    Returns:
        `mf`, after its `kernel()`.

    Raises:
        ModelError: as `start` does.
    """
    start(mf, model).kernel()
    if not from_prediction(mf) or (mf.converged and mf.e_tot <= mf.pre_kernel.energy + SAME_ENERGY):
        return mf
    first = (mf.e_tot, mf.make_rdm1()) if mf.converged else None
    mf.init_guess = mf.pre_kernel.fallback
    mf.kernel()
    if first is not None and not (mf.converged and mf.e_tot <= first[0] + SAME_ENERGY):
        mf.kernel(dm0=first[1])
    return mf


def from_prediction(mf: Any) -> bool:
    """True if `mf` starts or started from the predicted density; False if it was rejected.

    Args:
        mf: a mean field after `start`.

    Returns:
        True or False.
    """
    hook = getattr(mf, "pre_kernel", None)
    return isinstance(hook, Guard) and isinstance(mf.init_guess, np.ndarray) and mf.init_guess is not hook.fallback


def _check_mean_field(mf: Any, spin: Spin) -> None:
    generalized, unrestricted = isinstance(mf, scf.ghf.GHF), isinstance(mf, scf.uhf.UHF)
    expected, fits = {
        Spin.NONE: ("a restricted or unrestricted", not generalized),
        Spin.COLLINEAR: ("an unrestricted", unrestricted),
        Spin.SPINOR: ("a generalized", generalized),
    }[spin]
    if not fits:
        raise ModelError(f"expected {expected} mean field for a model of spin {spin}, got {type(mf).__name__}")


def predicted_density(mol: gto.Mole, h: BlockMatrix) -> np.ndarray:
    """Density matrix in PySCF's order that fills the lowest orbitals of `h`, with the molecule's overlap.

    Args:
        mol: molecule with the atoms and basis set of `h`.
        h: Hamiltonian in eV.

    Returns:
        Closed shell (n, n); collinear (2, n, n) with `mol.nelec` electrons up and down; spinor (2n, 2n), complex.

    Raises:
        ModelError: for a molecule with other atoms or another basis set.

    Warns:
        GhostLevels: `h` has ghost levels.
    """
    fock, s = matrix(h, mol), mol.intor_symmetric("int1e_ovlp")
    atoms = on_site([s[a:b, a:b] for a, b in mol.aoslice_by_atom()[:, 2:]], h.spin)
    if h.spin is Spin.COLLINEAR:
        orbitals = [_orbitals(one, s, n) for one, n in zip(fock, mol.nelec, strict=True)]
    elif h.spin is Spin.SPINOR:
        s = block_diag(s, s)
        orbitals = [_orbitals(fock, s, mol.nelectron)]
    else:
        orbitals = [_orbitals(fock, s, occupied_orbitals(mol.nelectron, len(fock)))]
    warn_of_ghosts(molecular_ghosts(orbitals, s, atoms), stacklevel=3)
    filled = [each.coefficients[:, : each.n_occupied] for each in orbitals]
    densities = np.stack([c @ c.conj().T for c in filled])
    return densities if h.spin is Spin.COLLINEAR else densities[0] * (2 if h.spin is Spin.NONE else 1)


def _orbitals(fock: np.ndarray, s: np.ndarray, n: int) -> MolecularOrbitals:
    """Orbitals of F in Hartree, energies in eV, of which the n lowest are filled."""
    energies, coefficients = eigh(fock, s)
    return MolecularOrbitals(energies * HARTREE, coefficients, n)


def matrix(h: BlockMatrix, mol: gto.Mole, energy: bool = True) -> np.ndarray:
    """An operator as PySCF's matrix, in PySCF's order of orbitals and in Hartree.

    Args:
        h: operator in eV.
        mol: molecule with the atoms and basis set of `h`.
        energy: False for an operator without unit, such as S or a density matrix.

    Returns:
        Shape (n, n), collinear (2, n, n), spinor (2n, 2n).

    Raises:
        ModelError: for a molecule with other atoms or another basis set.
    """
    _check_molecule(mol, h.basis)
    numbers = structure(mol).numbers
    if not np.array_equal(numbers, h.numbers):
        raise ModelError(f"expected a matrix of the molecule's atoms {numbers.tolist()}, got {h.numbers.tolist()}")
    return from_blocks(h, energy)


def structure(mol: gto.Mole) -> Atoms:
    """A PySCF molecule as `ase.Atoms`, positions in angstrom; `info` has its charge and spin (unpaired electrons).

    Args:
        mol: molecule.

    Returns:
        The atoms, without a cell.
    """
    numbers = [gto.charge(mol.atom_pure_symbol(k)) for k in range(mol.natm)]
    atoms = Atoms(numbers, mol.atom_coords(unit="angstrom"))
    if mol.charge:
        atoms.info["charge"] = int(mol.charge)
    atoms.info["spin"] = int(mol.spin)
    return atoms


@dataclass(frozen=True)
class ScfRun:
    """SCF from one initial guess.

    Attributes:
        guess: "prediction", or the name of PySCF's guess.
        cycles: SCF cycles.
        converged: True if the SCF converged.
        energy: total energy in Hartree.
        refused: True if the prediction was rejected and the SCF started from PySCF's default guess.
        seconds: processor time of the SCF, and of the prediction if it starts from one.
    """

    guess: str
    cycles: int
    converged: bool
    energy: float
    refused: bool = False
    seconds: float = 0.0

    @property
    def fock_builds(self) -> int:
        """Number of Fock builds: of the guess, of each cycle, of PySCF's last check, and of a rejected density."""
        return self.cycles + 1 + self.converged + self.refused


@dataclass(frozen=True)
class ScfComparison:
    """SCF from PySCF's minao guess and from a prediction.

    Attributes:
        cycles_minao: SCF cycles from the minao guess.
        cycles_predicted: SCF cycles from the prediction.
        energy_minao: total energy from the minao guess, in Hartree.
        energy_predicted: total energy from the prediction, in Hartree.
    """

    cycles_minao: int
    cycles_predicted: int
    energy_minao: float
    energy_predicted: float

    @property
    def cycles_saved(self) -> int:
        """Number of cycles that the prediction saves."""
        return self.cycles_minao - self.cycles_predicted

    @property
    def energy_difference(self) -> float:
        """Absolute difference of the two energies in Hartree."""
        return abs(self.energy_predicted - self.energy_minao)


def compare_scf(model: Predictor, atoms: Atoms, settings: PySCFSettings | None = None) -> ScfComparison:
    """Converge a molecule from the minao guess and from the prediction, with the same thresholds.

    Args:
        model: a model, from `harmose.load`.
        atoms: molecule.
        settings: default `model_settings(model)`.

    Returns:
        Cycles and energies of both runs.

    Raises:
        LabellingError: for an SCF that does not converge.
        ModelError: for a molecule outside the model's card.
    """
    settings = settings if settings is not None else model_settings(model)
    predicted, minao = compare_guesses(model, atoms, ("minao",), settings)
    for run in (minao, predicted):
        if not run.converged:
            guess = "the prediction" if run is predicted else "the minao guess"
            where = f"{atoms.get_chemical_formula()}: not converged from {guess} in {settings.max_cycle} cycles"
            raise LabellingError(where)
    return ScfComparison(minao.cycles, predicted.cycles, minao.energy, predicted.energy)


def compare_guesses(
    model: Predictor,
    atoms: Atoms,
    guesses: Iterable[str] = GUESSES,
    settings: PySCFSettings | None = None,
    damping: float | None = None,
) -> list[ScfRun]:
    """Converge a molecule from the prediction and from PySCF's guesses.

    Args:
        model: a model, from `harmose.load`.
        atoms: molecule.
        guesses: names in `GUESSES`; those that PySCF lacks for this method or these elements are left out.
        settings: default `model_settings(model)`.
        damping: None for PySCF's DIIS; a number d for F <- (1 - d) F + d F_last instead. 0 diverges for most molecules.

    Returns:
        The run from the prediction, then one run for each guess; `converged` is False after `settings.max_cycle`
        cycles.

    Raises:
        ModelError: for a molecule outside the model's card.
    """
    settings = settings if settings is not None else model_settings(model)
    try:
        mol = molecule(atoms, settings.basis, settings.spin)
    except LabellingError as error:  # charge or spin that labels with these settings cannot have
        raise ModelError(str(error)) from None

    def fresh() -> Any:
        mf = mean_field(mol, settings)
        if damping is not None:  # PySCF damps up to the cycle in which DIIS starts
            mf.diis, mf.damp, mf.diis_start_cycle = None, damping, settings.max_cycle + 2
        return mf

    begin = time.process_time()
    mf = start(fresh(), model)  # before other SCFs, so that a molecule outside the card costs none
    mf.kernel()
    seconds = time.process_time() - begin
    refused = isinstance(getattr(mf, "pre_kernel", None), Guard) and not from_prediction(mf)
    runs = [ScfRun("prediction", mf.cycles, bool(mf.converged), float(mf.e_tot), refused, seconds)]
    for guess in guesses:
        mf = fresh()
        if not _exists(mf, guess):
            continue
        mf.init_guess = guess
        begin = time.process_time()
        mf.kernel()
        seconds = time.process_time() - begin
        runs.append(ScfRun(guess, mf.cycles, bool(mf.converged), float(mf.e_tot), seconds=seconds))
    return runs


def _exists(mf: Any, guess: str) -> bool:
    """True if PySCF has the guess for this method and these elements."""
    if not hasattr(mf, f"init_guess_by_{guess}"):
        return False
    try:
        return bool(np.isfinite(mf.get_init_guess(mf.mol, guess)).all())
    except (NotImplementedError, KeyError, ValueError, RuntimeError, AttributeError):
        return False


def model_settings(model: Predictor) -> PySCFSettings:
    """Settings of the model's labels with PySCF's default convergence (1e-9 Hartree), which users of PySCF know.

    Args:
        model: a model, from `harmose.load`.

    Returns:
        Settings of PySCF.
    """
    labels = {k: v for k, v in model.card.settings.items() if k in PySCFSettings.__dataclass_fields__}
    return PySCFSettings(**{**labels, "convergence": 1e-9, "convergence_gradient": None})


def _check_molecule(mol: gto.Mole, basis: BasisSet) -> None:
    """Raise `ModelError` unless `mol` is a molecule with elements and orbitals of `basis`."""
    if hasattr(mol, "lattice_vectors"):
        raise ModelError("expected a molecule (gto.Mole), got a periodic cell")
    numbers = structure(mol).numbers
    missing = sorted(set(numbers.tolist()) - set(basis.elements))
    if missing:
        elements = ", ".join(chemical_symbols[z] for z in basis.elements)
        raise ModelError(f"expected elements of the training set ({elements}), got {chemical_symbols[missing[0]]}")
    if not has_basis(mol, basis.name):
        raise ModelError(f"expected a molecule in basis {basis.name} (spherical), got one in {_basis_name(mol)}")


def _check_closed_shell(mol: gto.Mole) -> None:
    if mol.nelectron % 2 or mol.spin:
        raise ModelError(f"expected a closed shell, got {mol.nelectron} electrons with spin (2S) {mol.spin}")


def _basis_name(mol: gto.Mole) -> str:
    name = mol.basis if isinstance(mol.basis, str) else "another basis"
    return f"{name} (Cartesian)" if mol.cart else name
