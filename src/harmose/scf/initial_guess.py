"""Between harmose's models and PySCF: converged DFT that starts from a prediction.

`start(mf, model)` gives a mean-field object the predicted density as its guess, `run(mf, model)` converges it too; `matrix`
brings any operator into PySCF's order and units; `compare_scf` and `compare_guesses` count the cycles that a prediction saves.
"""

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
from harmose.physics.density import density_from_dense
from harmose.scf.guard import Guard, refusal
from harmose.spin import Spin


class Predictor(Protocol):
    """What is needed of a model: its card's basis, and H in eV for a structure."""

    @property
    def card(self) -> Any: ...

    def predict(self, atoms: Atoms) -> BlockMatrix: ...


SAME_ENERGY = 1e-8
"""Hartree: total energies closer than this are those of one state."""

GUESSES = ("minao", "atom", "huckel", "mod_huckel", "sap", "vsap", "1e")
"""PySCF's own guesses; `vsap` is for Kohn-Sham, closed shells only."""


def start(mf: Any, model: Predictor) -> Any:
    """`mf` (PySCF's RKS or UKS, not yet run) with the predicted density as its guess; `mf.kernel()` starts from it.

    H is predicted for `mf.mol` and diagonalized with the molecule's own overlap; D = 2 C_occ C_occ^T, half of it for
    each spin of a UKS. A collinear model starts UKS, one of spinors GKS (`mf.with_soc = True`). Only the way to the converged
    result changes. Raises `ModelError` for a molecule outside the model's card (elements, basis, open shell), and for a
    mean field of another spin kind.

    A guard (`harmose.scf.guard`) sits in PySCF's hook before the first cycle, not here: there the Fock matrix of the guess is
    at hand, so that a good guess costs nothing more. A density that the guard refuses is replaced by that of the guess which `mf`
    had before, with a warning (`OutsideDomain`): the cycles are then that guess's own, and one Fock build is lost. The same
    for an H that is not finite. The second-order solver (`mf.newton()`) has no such hook and takes the density as it is.
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
    except (MatrixError, ValueError, np.linalg.LinAlgError) as error:  # SciPy's refusal of what is not finite
        warnings.warn(refusal(str(error), fallback), OutsideDomain, stacklevel=2)
        return mf
    if spin is Spin.NONE and isinstance(mf, (scf.uhf.UHF, scf.rohf.ROHF)):
        density = np.array([density / 2, density / 2])
    mf.init_guess, mf.pre_kernel = density, Guard(density.copy(), fallback)
    mf._keys = mf._keys | {"pre_kernel"}  # else PySCF complains about the overwritten method
    return mf


def _own_guess(mf: Any) -> Any:
    """The guess that `mf` had before any prediction."""
    hook = getattr(mf, "pre_kernel", None)
    return hook.fallback if isinstance(hook, Guard) else mf.init_guess


def run(mf: Any, model: Predictor) -> Any:
    """`mf`, converged from the prediction, or from its own guess where that is the better way.

    `start` and `mf.kernel()`, and two checks of the end. Unless it is the ground state, what converged may lie above it: the
    predicted density is that of a determinant, so its energy bounds the ground state's from above, and an SCF that ends
    higher than where it began has gone astray. Then, and when it does not converge, `mf` is run again from its own guess;
    the lower of two converged states stays. (Whether a state that passes is the lowest, only PySCF's `mf.stability()` can tell.)
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
    """Whether the predicted density is (still) the guess of `mf`: false once the guard has refused it."""
    hook = getattr(mf, "pre_kernel", None)
    return isinstance(hook, Guard) and isinstance(mf.init_guess, np.ndarray) and mf.init_guess is not hook.fallback


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
class ScfRun:
    """Self-consistency from one guess: PySCF's cycles, energy in Hartree; `refused`: the guard has put minao in its place."""

    guess: str
    cycles: int
    converged: bool
    energy: float
    refused: bool = False

    @property
    def fock_builds(self) -> int:
        """The guess's own, one for each cycle, PySCF's last check, and the refused guess's."""
        return self.cycles + 1 + self.converged + self.refused


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
    """Converge `atoms` from the prediction, which is the first of the list, and from PySCF's `guesses`, where they exist.

    `damping`: without DIIS, F <- (1 - damping) F + damping F_last; 0 is the plain iteration, which diverges for most molecules
    wherever it starts: its response is too strong. None: PySCF's DIIS. Without `settings`: `model_settings`. What
    does not converge in `settings.max_cycle` cycles is told by `converged`, not raised.
    """
    settings = settings if settings is not None else model_settings(model)
    mol = molecule(atoms, settings.basis, settings.spin)

    def fresh() -> Any:
        mf = mean_field(mol, settings)
        if damping is not None:  # PySCF damps until the cycle in which its DIIS starts
            mf.diis, mf.damp, mf.diis_start_cycle = None, damping, settings.max_cycle + 2
        return mf

    mf = start(fresh(), model)  # first: a molecule outside the card costs no SCF
    mf.kernel()
    refused = isinstance(getattr(mf, "pre_kernel", None), Guard) and not from_prediction(mf)
    runs = [ScfRun("prediction", mf.cycles, bool(mf.converged), float(mf.e_tot), refused)]
    for guess in guesses:
        mf = fresh()
        if not _exists(mf, guess):
            continue
        mf.init_guess = guess
        mf.kernel()
        runs.append(ScfRun(guess, mf.cycles, bool(mf.converged), float(mf.e_tot)))
    return runs


def _exists(mf: Any, guess: str) -> bool:
    """Whether PySCF has the guess for this method and these elements."""
    if not hasattr(mf, f"init_guess_by_{guess}"):
        return False
    try:
        return bool(np.isfinite(mf.get_init_guess(mf.mol, guess)).all())
    except (NotImplementedError, KeyError, ValueError, RuntimeError, AttributeError):
        return False


def model_settings(model: Predictor) -> PySCFSettings:
    """The settings that the model's labels were made with (`card.settings`), at PySCF's own convergence."""
    known = {k: v for k, v in model.card.settings.items() if k in PySCFSettings.__dataclass_fields__}
    return PySCFSettings(**{**known, "convergence": 1e-9, "convergence_gradient": None})


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
