"""The Fermi level of a predicted H: its own bands, filled with the electrons of the cell."""

from collections.abc import Mapping
from typing import Any

from ase import Atoms
from ase.data import chemical_symbols

from harmose.blocks import BlockMatrix
from harmose.errors import ModelError
from harmose.physics.kmesh import mesh_size
from harmose.physics.states import mesh_fermi_level
from harmose.radial_basis import overlap
from harmose.sample import Sample, in_fermi_gauge

SPACING = 0.35
"""1/angstrom between k-points: graphene's level is within 3 meV of that of a mesh twice as dense."""


def at_own_fermi_level(h: BlockMatrix, atoms: Atoms, n_electrons: float) -> BlockMatrix:
    """`H - E_F S`, with E_F of H's own bands at 300 K, on a mesh with Gamma; S is computed.

    `BasisError` for a basis set whose radial functions are not known (`radial_basis.overlap`).
    """
    s = overlap(atoms, h.basis)
    mesh = mesh_size(atoms, SPACING) if atoms.pbc.any() else (1, 1, 1)
    level = mesh_fermi_level(h, s, mesh, n_electrons)
    return in_fermi_gauge(Sample("prediction", atoms, h.basis, h, s, spin=h.spin, fermi_level=level)).hamiltonian


def n_electrons(settings: Mapping[str, Any], basis, atoms: Atoms) -> float:
    """Of the cell, as labels with these `settings` count them: their `valence` by element, or PySCF's; else `ModelError`."""
    valence = settings.get("valence")
    symbols = [chemical_symbols[z] for z in atoms.numbers.tolist()]
    if isinstance(valence, Mapping) and set(symbols) <= set(valence):
        return float(sum(valence[symbol] for symbol in symbols))
    if settings.get("code") == "pyscf":
        from harmose.io.pyscf import molecule

        return float(molecule(atoms, basis.name).nelectron)
    raise ModelError(
        "the Fermi level of a prediction needs the labels' valence electrons, which their settings do not say"
    )
