"""The Fermi level of a predicted H: its own bands, filled with the electrons of the cell."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample, relative_to_fermi_level
from harmose.errors import MatrixError, ModelError
from harmose.physics.kmesh import mesh_size
from harmose.physics.sparse.inertia_fermi import counted_fermi_level
from harmose.physics.states import mesh_fermi_level
from harmose.spin import Spin

COUNTED = 2500
"""Orbitals from which on the states near the level are found sooner than all of them."""
SPACING = 0.35
"""1/angstrom between k-points."""


def at_own_fermi_level(h: BlockMatrix, s: BlockMatrix, atoms: Atoms, n_electrons: float) -> BlockMatrix:
    """`H - E_F S`, with E_F of H's own bands at 300 K, on a mesh with Gamma."""
    level = own_level(h, s, level_mesh(atoms), n_electrons)
    return relative_to_fermi_level(
        Sample("prediction", atoms, h.basis, h, s, spin=h.spin, fermi_level=level)
    ).hamiltonian


def own_level(h: BlockMatrix, s: BlockMatrix, mesh: tuple[int, int, int], n_electrons: float) -> float:
    """`mesh_fermi_level`, of many orbitals from the states near it alone: the same to 1e-8 eV."""
    if h.n_orbitals >= COUNTED:
        try:
            return counted_fermi_level(h, s, mesh, n_electrons)
        except MatrixError:  # states that were not found, or could not be counted
            pass
    return mesh_fermi_level(h, s, mesh, n_electrons)


def level_mesh(atoms: Atoms) -> tuple[int, int, int]:
    """k-points for the level: `mesh_size`, and 3 in place of 2, so that graphene's K is among them in cells up to 7x7."""
    if not atoms.pbc.any():
        return 1, 1, 1
    a, b, c = (3 if n == 2 else n for n in mesh_size(atoms, SPACING))
    return a, b, c


def valence_of(samples: Iterable[Sample], elements: Iterable[int]) -> dict[str, float] | None:
    """ChargeFeatures of an atom of each element, from the samples' numbers of electrons: sum_z N[s, z] v[z] = n[s].

    None where the samples do not tell: numbers that are not known, elements that only occur together in one ratio, charges.
    """
    elements = list(elements)
    counted = [
        ([np.count_nonzero(sample.structure.numbers == z) for z in elements], sample.n_electrons)
        for sample in islice(samples, 1000)
    ]
    if not counted or any(n is None for _, n in counted):
        return None
    atoms, electrons = (np.array(column, dtype=np.float64) for column in zip(*counted))
    valence, _, rank, _ = np.linalg.lstsq(atoms, electrons)
    if rank < len(elements) or np.abs(atoms @ valence - electrons).max() > 1e-6:
        return None
    return {chemical_symbols[z]: round(v, 6) for z, v in zip(elements, valence.tolist())}


def n_electrons(settings: Mapping[str, Any], basis: BasisSet, spin: Spin, atoms: Atoms) -> float:
    """Of the cell, as labels with these `settings` count them: their `valence` by element, or PySCF's; else `ModelError`."""
    valence = settings.get("valence")
    symbols = [chemical_symbols[z] for z in atoms.numbers.tolist()]
    if isinstance(valence, Mapping) and set(symbols) <= set(valence):
        return float(sum(valence[symbol] for symbol in symbols))
    if settings.get("code") == "pyscf":
        from harmose.io.pyscf.pyscf import molecule

        return float(molecule(atoms, basis.name, spin).nelectron)
    raise ModelError(
        "the Fermi level of a prediction needs the labels' valence electrons, which their settings do not say"
    )
