"""The energy zero of a prediction: that of the labels, or the Fermi level of the prediction's own bands."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, get_args

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.electrons import total_charge
from harmose.core.sample import Sample, relative_to_fermi_level
from harmose.errors import MatrixError, ModelError
from harmose.inference.card import EnergyZero
from harmose.io import pyscf
from harmose.physics.kmesh import mesh_size
from harmose.physics.sparse.inertia_fermi import counted_fermi_level
from harmose.physics.states import mesh_fermi_level
from harmose.spin import Spin

SPARSE_SOLVER_ORBITALS = 2500
"""Number of orbitals from which states near the Fermi level are found sooner than all states."""
K_SPACING = 0.35
"""Largest distance between k-points, in 1/angstrom."""
MOST_COUNTED = 1000
"""Largest number of samples whose electrons are counted."""


def check_energy_zero(requested: str | None, learned: EnergyZero) -> EnergyZero:
    """Return the energy zero of a prediction: `requested`, default that of the model.

    Raises `ModelError` for an unknown one, and for one that the model cannot give.
    """
    if requested is None:
        return learned
    if requested not in get_args(EnergyZero):
        raise ModelError(f"energy_zero: expected one of {', '.join(get_args(EnergyZero))}, got {requested!r}")
    if requested != learned and "fermi_of_labels" in (requested, learned):
        raise ModelError(f"energy_zero: the model learned H with the energy zero {learned}, it cannot give {requested}")
    return requested  # type: ignore[return-value]


def relative_to_own_fermi_level(h: BlockMatrix, s: BlockMatrix, atoms: Atoms, n_electrons: float) -> BlockMatrix:
    """Return `H - E_F S` in eV, with E_F of the bands of H at 300 K, on a mesh that holds Gamma."""
    fermi_level = own_fermi_level(h, s, fermi_mesh(atoms), n_electrons)
    sample = Sample("prediction", atoms, h.basis, h, s, spin=h.spin, fermi_level=fermi_level)
    return relative_to_fermi_level(sample).hamiltonian


def own_fermi_level(h: BlockMatrix, s: BlockMatrix, mesh: tuple[int, int, int], n_electrons: float) -> float:
    """Return the Fermi level in eV: `mesh_fermi_level`; for large matrices from the states near it, the same to 1e-8 eV."""
    if h.n_orbitals >= SPARSE_SOLVER_ORBITALS:
        try:
            return counted_fermi_level(h, s, mesh, n_electrons)
        except MatrixError:  # states that were not found, or could not be counted
            pass
    return mesh_fermi_level(h, s, mesh, n_electrons)


def fermi_mesh(atoms: Atoms) -> tuple[int, int, int]:
    """Return the k-mesh of `mesh_size` with 3 in place of 2, so that it holds graphene's K point in cells up to 7x7."""
    if not atoms.pbc.any():
        return 1, 1, 1
    a, b, c = (3 if n == 2 else n for n in mesh_size(atoms, K_SPACING))
    return a, b, c


def valence_electrons(samples: Iterable[Sample], elements: Iterable[int]) -> dict[str, float] | None:
    """Solve `sum_z N[s, z] v[z] = n[s] + q[s]` for the valence electrons v of each element.

    n are the samples' numbers of electrons, q their charges. Returns None where counts are missing, elements occur in
    one ratio only, or samples have charges that they do not state.
    """
    elements = list(elements)
    counted = [
        ([np.count_nonzero(s.structure.numbers == z) for z in elements], s.n_electrons, total_charge(s.structure))
        for s in islice(samples, MOST_COUNTED)
    ]
    if not counted or any(n is None for _, n, _ in counted):
        return None
    atoms, electrons, charges = (np.array(column, dtype=np.float64) for column in zip(*counted))
    electrons += charges
    valence, _, rank, _ = np.linalg.lstsq(atoms, electrons)
    if rank < len(elements) or np.abs(atoms @ valence - electrons).max() > 1e-6:
        return None
    return {chemical_symbols[z]: round(v, 6) for z, v in zip(elements, valence.tolist())}


def stated_valence(provenances: Iterable[Mapping[str, Any]], elements: Iterable[int]) -> dict[str, float] | None:
    """Return the valence electrons of each element that samples state by `valence` of their provenance.

    None unless all elements are stated, and none by two numbers.
    """
    wanted, found = {chemical_symbols[z] for z in elements if z < len(chemical_symbols)}, dict[str, float]()
    for provenance in islice(provenances, MOST_COUNTED):
        own = provenance.get("valence")
        for symbol, count in own.items() if isinstance(own, Mapping) else ():
            if found.setdefault(symbol, count) != count:
                return None
    return {symbol: found[symbol] for symbol in sorted(wanted)} if wanted and wanted <= set(found) else None


def n_electrons(settings: Mapping[str, Any], basis: BasisSet, spin: Spin, atoms: Atoms) -> float:
    """Return the number of electrons in the cell, as labels with these `settings` count them.

    Uses their `valence` by element, else PySCF where it made the labels. Raises `ModelError` where neither is known.
    """
    valence = settings.get("valence")
    symbols = [chemical_symbols[z] for z in atoms.numbers.tolist()]
    if isinstance(valence, Mapping) and set(symbols) <= set(valence):
        return float(sum(valence[symbol] for symbol in symbols) - total_charge(atoms))
    if settings.get("code") == "pyscf":
        return float(pyscf.molecule(atoms, basis.name, spin).nelectron)
    raise ModelError(
        "the Fermi level of a prediction needs the labels' valence electrons, which their settings do not say"
    )
