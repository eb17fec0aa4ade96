"""Labels of molecules from PySCF: Kohn-Sham DFT of any spin kind in Gaussian basis sets, with H0."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyscf
from ase import Atoms
from pyscf import dft, lib, scf

from harmose.core.basis import BasisSet
from harmose.core.electrons import SMALL_MOMENT, initial_moments
from harmose.core.sample import Sample, check_sample
from harmose.errors import LabellingError
from harmose.io.assembly import zeros
from harmose.io.pyscf.pyscf import (
    EXCHANGE_TAIL,
    FLAVOURS,
    PySCFSettings,
    basis_set,
    charge,
    check_molecule,
    mean_field,
    molecule,
    prior_fock,
    to_blocks,
    unpaired,
)
from harmose.label.code import Code
from harmose.spin import TIME_REVERSAL_TOLERANCE, Spin, time_reversal_error
from harmose.units import HARTREE


def calculate(atoms: Atoms, settings: PySCFSettings, basis: BasisSet, name: str) -> Sample:
    """Converge one molecule on one thread and return its sample: H, S, H0, energies, electrons, provenance.

    H is the Fock matrix of the converged density; the orbital energies are its eigenvalues. A collinear SCF starts from the
    initial moments of the atoms. Raises `LabellingError` if the SCF does not converge, turns an initial moment, or a spinor H
    is not symmetric under time reversal, `MatrixError` if `check_sample` fails.
    """
    started = time.perf_counter()
    blocks, spinless = zeros(atoms, basis, settings.spin), zeros(atoms, basis)
    with lib.with_omp_threads(1):
        mf = mean_field(molecule(atoms, settings.basis, settings.spin), settings)
        h0 = prior_fock(mf.mol, settings)
        mf.kernel(_initial_density(mf, atoms, settings.spin))
        if not mf.converged:
            raise LabellingError(f"{atoms.get_chemical_formula()}: not converged in {settings.max_cycle} cycles")
        h, s = np.asarray(mf.get_fock()), mf.mol.intor_symmetric("int1e_ovlp")
        energies, _ = mf.eig(h, mf.get_ovlp())
        if settings.spin is Spin.COLLINEAR:
            up, down = mf.make_rdm1()
            starts = mf.mol.aoslice_by_atom()[:, 2]
            check_moments(atoms, np.add.reduceat(np.einsum("ij,ji->i", up - down, s), starts))  # Mulliken's
    sample = Sample(
        name=name,
        structure=_with_electrons(atoms, settings.spin),
        basis=basis,
        hamiltonian=to_blocks(h, blocks, name="H", dropped=EXCHANGE_TAIL),
        overlap=to_blocks(s, spinless, energy=False, name="S"),
        prior=to_blocks(h0, blocks, name="H0", dropped=EXCHANGE_TAIL),
        spin=settings.spin,
        n_electrons=float(mf.mol.nelectron),
        energy=float(mf.e_tot) * HARTREE,
        orbital_energies=np.sort(energies) * HARTREE,
        provenance={**_provenance(atoms, settings), "cycles": int(mf.cycles), "seconds": time.perf_counter() - started},
    )
    check_sample(sample)
    odd = time_reversal_error(sample.hamiltonian.values) if settings.spin is Spin.SPINOR else 0.0
    if odd > TIME_REVERSAL_TOLERANCE:
        raise LabellingError(f"{atoms.get_chemical_formula()}: H breaks time-reversal symmetry by {odd:.2g} eV")
    return sample


def _initial_density(mf: scf.hf.SCF, atoms: Atoms, spin: Spin) -> np.ndarray | None:
    """Return the density (2, n, n) with the initial moments of the atoms, from which a collinear SCF starts; None without.

    Of the superposed atoms, an atom of N electrons and moment m gets (N + m) / 2N of its density up, the rest down. An SCF
    that starts so can end in the antiferromagnetic state of an open-shell singlet.
    """
    moments = initial_moments(atoms)
    if spin is not Spin.COLLINEAR or moments is None:
        return None
    total, s = scf.hf.init_guess_by_minao(mf.mol), mf.mol.intor_symmetric("int1e_ovlp")
    starts = mf.mol.aoslice_by_atom()[:, 2]
    counts = np.add.reduceat(np.einsum("ij,ji->i", total, s), starts)  # electrons of each atom
    share = np.clip(moments / counts, -1, 1) / 2
    share = np.repeat(share, np.diff(np.append(starts, len(s))))
    return np.stack([total * (0.5 + share[:, None]), total * (0.5 - share[:, None])])


def check_moments(atoms: Atoms, final: np.ndarray) -> None:
    """Raise `LabellingError` for an atom whose moment `final` (N,) has another sign than its initial one.

    Such a label would have the H of another state than its structure says.
    """
    moments = initial_moments(atoms)
    if moments is None:
        return
    turned = (np.sign(final) * np.sign(moments) < 0) & (np.abs(final) > SMALL_MOMENT)
    if turned.any():
        k = int(np.argmax(turned))
        raise LabellingError(
            f"{atoms.get_chemical_formula()}: the SCF turned the initial moment {moments[k]:g} of atom {k} into {final[k]:.2f}; "
            f"start from moments of a state that exists"
        )


def _provenance(atoms: Atoms, settings: PySCFSettings) -> dict[str, Any]:
    versions = {"pyscf": pyscf.__version__, "libxc": str(getattr(dft.libxc, "__version__", "unknown"))}
    group = str(atoms.info.get("group", atoms.get_chemical_formula()))
    origin = {key: str(atoms.info[key]) for key in ("name", "source") if key in atoms.info}
    return {**settings.to_dict(), **versions, **origin, "group": group, "charge": charge(atoms), "converged": True}


def _with_electrons(atoms: Atoms, spin: Spin) -> Atoms:
    """Return the structure, which states the charge and, for collinear labels, the unpaired electrons of the calculation."""
    stated = {"charge": charge(atoms)} if charge(atoms) else {}
    if spin is Spin.COLLINEAR:
        stated["spin"] = unpaired(atoms)
    labelled = atoms.copy()
    labelled.info.update(stated)
    return labelled


def _remark(settings: PySCFSettings) -> str | None:
    flavour = FLAVOURS.get(settings.functional)
    return None if flavour is None else f"{settings.functional}: {flavour}"


def _check(atoms: Atoms, settings: PySCFSettings) -> None:
    check_molecule(atoms, settings.basis, settings.spin)


def _basis(elements: Iterable[int], settings: PySCFSettings) -> BasisSet:
    return basis_set(settings.basis, elements, settings.min_radius)


PYSCF = Code(
    name="pyscf",
    settings=PySCFSettings,
    check_installed=lambda: None,
    check=_check,
    basis=_basis,
    calculate=calculate,
    remark=_remark,
    limits=frozenset({"max_cycle"}),
)
