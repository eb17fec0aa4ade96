"""Read a mean field of PySCF: a molecule in any basis set, also in several of one element (`basis={"H1": ..., "H2": ...}`)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from pyscf import gto, scf

from harmose.core.basis import BasisSet
from harmose.core.sample import Sample
from harmose.core.species import with_species
from harmose.errors import BasisError, FormatError
from harmose.io.assembly import zeros
from harmose.io.pyscf.pyscf import EXCHANGE_TAIL, MIN_RADIUS, orbitals_of_atom, to_blocks
from harmose.io.species import number_species
from harmose.spin import Spin
from harmose.units import HARTREE


def read_mean_field(mf: scf.hf.SCF, name: str = "molecule", basis: BasisSet | None = None) -> Sample:
    """Return the sample of a mean field that PySCF has converged.

    Args:
        mf: Hartree-Fock or Kohn-Sham of a molecule: restricted, unrestricted or generalized.
        name: name of the sample.
        basis: basis set of another molecule with the same shells. Default: that of the molecule (`basis_of`).

    Returns:
        The sample: the Fock matrix of the last density as H in eV, S, orbital energies, total energy.

    Raises:
        FormatError: the mean field has not run, or has restricted open shells, which have no one H.
        BasisError: the orbitals are Cartesian, an atom is a ghost, or `basis` has other shells.
        MatrixError: H has values outside the reach of `basis`.
    """
    if mf.mo_energy is None:
        raise FormatError("expected a mean field that has run, got one before its kernel()")
    if isinstance(mf, scf.rohf.ROHF):
        raise FormatError("expected a restricted closed shell, or an unrestricted or generalized mean field, got restricted "
                          "open shells; run UHF or UKS")  # fmt: skip
    structure, own = basis_of(mf.mol, basis)
    h = np.asarray(mf.get_fock())
    spin = Spin.COLLINEAR if h.ndim == 3 else Spin.SPINOR if len(h) == 2 * mf.mol.nao else Spin.NONE
    if spin is Spin.COLLINEAR:
        structure.info["spin"] = int(mf.mol.spin)
    return Sample(
        name=name,
        structure=structure,
        basis=own,
        hamiltonian=to_blocks(h, zeros(structure, own, spin), name="H", dropped=EXCHANGE_TAIL),
        overlap=to_blocks(mf.mol.intor_symmetric("int1e_ovlp"), zeros(structure, own), energy=False, name="S"),
        spin=spin,
        n_electrons=float(mf.mol.nelectron),
        energy=float(mf.e_tot) * HARTREE,
        orbital_energies=np.sort(np.asarray(mf.mo_energy)) * HARTREE,
        provenance=_provenance(mf),
    )


def basis_of(mol: gto.Mole, basis: BasisSet | None = None) -> tuple[Atoms, BasisSet]:
    """Return a molecule as `ase.Atoms` and its basis set, or `basis` if it has the same shells.

    Atoms of one element with other shells are other species (`core.species`). Radii are those of `io.pyscf.pyscf.basis_set`.

    Raises:
        BasisError: the orbitals are Cartesian, an atom is a ghost, or `basis` has other shells.
    """
    if mol.cart:
        raise BasisError("expected spherical orbitals, got Cartesian ones (cart=True)")
    ghosts = [mol.atom_symbol(k) for k in range(mol.natm) if mol.atom_charge(k) == 0]
    if ghosts:
        raise BasisError(f"expected atoms with nuclei, got {ghosts[0]}, a ghost")
    numbers = [gto.charge(mol.atom_pure_symbol(k)) for k in range(mol.natm)]
    atoms = Atoms(numbers, mol.atom_coords(unit="angstrom"))
    if mol.charge:
        atoms.info["charge"] = int(mol.charge)
    orbitals = [orbitals_of_atom(mol, k) for k in range(mol.natm)]
    species = number_species([(z, shells) for z, (shells, _) in zip(numbers, orbitals)], basis, "molecule")
    radii: dict[int, float] = {}
    for z, (_, radius) in zip(species, orbitals):
        radii[z] = max(radii.get(z, MIN_RADIUS), radius)
    own = BasisSet(_name(mol), {z: shells for z, (shells, _) in zip(species, orbitals)}, radii)
    return with_species(atoms, np.array(species)), own if basis is None else basis


def _name(mol: gto.Mole) -> str:
    """Return the name of the basis set, or the names of several; "pyscf" for one without."""
    names = mol.basis.values() if isinstance(mol.basis, Mapping) else [mol.basis]
    return "+".join(sorted({n.lower() for n in names})) if all(isinstance(n, str) for n in names) else "pyscf"


def _provenance(mf: Any) -> dict[str, Any]:
    functional = {"functional": str(mf.xc)} if getattr(mf, "xc", None) else {}
    return {"code": "pyscf", **functional, "converged": bool(mf.converged)}
