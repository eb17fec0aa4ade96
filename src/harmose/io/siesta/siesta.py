"""SIESTA: H and S of a run, from its HSX or TSHS file, which sisl reads, or from its netCDF file.

SIESTA writes Rydberg and real harmonics times (-1)^m (docs/conventions.md). Samples are in eV, with the energy zero of
SIESTA's eigenvalues (`.EIG`), without this sign.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.core.species import species_of, with_species
from harmose.core.structure import check_structure
from harmose.errors import FormatError
from harmose.io.assembly import (
    covering_radii,
    element_keys,
    from_elements,
    hamiltonian_rules,
    overlap_rules,
)
from harmose.io.siesta.basis import Species, find_ion, read_orbital_table
from harmose.io.siesta.elements import atomic_numbers, check_count, check_orbitals
from harmose.io.siesta.ion_nc import NAME
from harmose.io.siesta.matrices import needed, read_matrices
from harmose.io.siesta.moments import initial_moments
from harmose.io.siesta.run import Run, find_run, outcome_of
from harmose.io.siesta.stored import Stored, known
from harmose.io.species import number_species
from harmose.io.unfolding import nearest_cells, unfolded_cells
from harmose.io.valence import valence_of_elements
from harmose.so3.conventions import Convention
from harmose.spin import Spin

SIESTA = Convention("siesta", {}, {l: tuple((-1) ** abs(m) for m in range(-l, l + 1)) for l in range(1, 7)})
"""m = -l..l with the Condon-Shortley sign: p is (-y, z, -x)."""

LONGEST_PROJECTOR = 1.6
"""Reach (angstrom) of projectors where no file gives it; those of common pseudopotentials end before 3 Bohr."""

LONGEST_REACH = 6.5
"""Reach (angstrom) of an atom's orbitals and projectors where no file gives either."""


def read_siesta(path: str | Path, basis: BasisSet | None = None) -> Sample:
    """Read a run.

    H is in eV with the energy zero of `.EIG`. Spin is none, collinear or spinor (non-collinear and spin-orbit). A run with
    the Gamma point only is a sum over cells: each pair of atoms is put back into the only cell in which they reach each
    other. If none is in another cell, the run is a molecule.

    Args:
        path: folder of the run, or its `.fdf`, `.HSX`, `.TSHS` or `.nc` file.
        basis: basis set of another run of the same system, so that both fit into one store. By default radii come from the
            orbitals and projectors in the netCDF file, `.ion.nc` or `.ion.xml`, or from the blocks that are not zero.

    Returns:
        The sample with S. Fermi level and number of valence electrons are None where SIESTA did not compute them; the
        provenance says `converged` where the output or MESSAGES do.

    Raises:
        FormatError: files that are missing, damaged or of another kind; a run with the Gamma point only of a small cell.
        BasisError: other orbitals than those of `basis`.
        MatrixError: matrices that are not Hermitian or reach further than the radii.
        StructureError: a structure without meaning.
    """
    run = find_run(Path(path))
    stored = read_matrices(run)
    species, which = _species(run, stored)
    numbers = atomic_numbers(run, stored, species, which)
    structure = Atoms(numbers, positions=stored.positions, cell=stored.cell, pbc=stored.n_cells > 1)
    check_structure(structure, str(run.matrix))
    used, place = np.unique(np.column_stack([numbers, which]), axis=0, return_inverse=True)
    of_kind = number_species([(z, species[k].shells) for z, k in used.tolist()], basis, str(run.matrix))
    structure = with_species(structure, np.array(of_kind)[place.ravel()])
    kinds = [(z, species[k]) for z, k in zip(of_kind, used[:, 1].tolist())]
    if stored.reaches is None:
        for _, kind in kinds:
            check_orbitals(run, kind)
    reaches = _reaches(run, stored, {kind.label for _, kind in kinds})
    if not structure.pbc.any():
        structure, stored = _unfolded(
            run, structure, stored, _reach_of_atoms(reaches, basis, structure, species, which)
        )
    if basis is None:
        basis = BasisSet(NAME, {z: kind.shells for z, kind in kinds}, _radii(run, structure, stored, kinds, reaches))
    entries = (stored.rows, stored.cols, stored.cells)
    h = from_elements(
        structure, basis, *entries, stored.h, hamiltonian_rules(f"{run.matrix}: H"), stored.spin, convention=SIESTA
    )
    s = from_elements(structure, basis, *entries, stored.s, overlap_rules(f"{run.matrix}: S"), convention=SIESTA)
    moments = initial_moments(run, len(structure)) if stored.spin is Spin.COLLINEAR else None
    if moments is not None:
        structure.set_initial_magnetic_moments(moments)
    return _sample(run, structure, h, s, stored, [species[k].label for k in which])


def _sample(
    run: Run, structure: Atoms, h: BlockMatrix, s: BlockMatrix, stored: Stored, labels: Sequence[str]
) -> Sample:
    outcome = outcome_of(run)
    provenance: dict[str, Any] = {"code": "siesta", "file": run.matrix.name}
    if outcome.converged is not None:
        provenance["converged"] = outcome.converged
    provenance |= valence_of_elements(structure, _valence(run, stored, labels), stored.n_electrons)
    return Sample(
        name=run.label,
        structure=structure,
        basis=h.basis,
        hamiltonian=h,
        overlap=s,
        spin=h.spin,
        n_electrons=None if stored.n_electrons is None else round(stored.n_electrons, 6),
        fermi_level=stored.fermi_level if stored.has_fermi_level else _fermi_level(run.beside(".EIG")),
        energy=outcome.energy,
        provenance=provenance,
    )


def _valence(run: Run, stored: Stored, labels: Sequence[str]) -> list[float | None]:
    """Return the valence electrons of each atom by its species: of the netCDF file, or of ion files; None where unknown."""
    known_of = dict(stored.valence or {})
    for label in set(labels) - set(known_of):
        ion = find_ion(run.matrix.parent, label)
        if ion is not None and ion.valence is not None:
            known_of[label] = ion.valence
    return [known_of.get(label) for label in labels]


def _species(run: Run, stored: Stored) -> tuple[list[Species], np.ndarray]:
    """Return the species, and the index of the species of each atom (N,)."""
    species, which = stored.species, stored.species_of_atom
    if species is None:
        species, which = read_orbital_table(needed(run, ".ORB_INDX")).species()
        check_count(run, ".ORB_INDX", len(which), len(stored.counts))
    expected = np.array([kind.n_orbitals for kind in species])[which]
    if not np.array_equal(expected, stored.counts):
        k = int(np.argmax(expected != stored.counts))
        raise FormatError(f"{run.matrix}: expected {expected[k]} orbitals on atom {k} ({species[which[k]].label}), got "
                          f"{stored.counts[k]}")  # fmt: skip
    return species, which


# How far orbitals reach ----------------------------------------------------------------------------------------------


def _reaches(run: Run, stored: Stored, labels: Collection[str]) -> tuple[dict[str, float], bool]:
    """Return the reach (angstrom) of each species by its label, and whether projectors are in it.

    Orbitals plus projectors are in the netCDF file and in ion files, orbitals in `.ORB_INDX`.
    """
    if stored.reaches is not None:
        return dict(stored.reaches), True
    ions = {label: ion for label in labels if (ion := find_ion(run.matrix.parent, label)) is not None}
    if len(ions) == len(labels):
        projectors = max(ion.projector_reach for ion in ions.values())
        return {label: max(f.cutoff for f in ion.functions) + projectors for label, ion in ions.items()}, True
    table = run.beside(".ORB_INDX")
    return (read_orbital_table(table).reaches if table.is_file() else {}), False


def _reach_of_atoms(
    reaches: tuple[Mapping[str, float], bool],
    basis: BasisSet | None,
    structure: Atoms,
    species: Sequence[Species],
    which: np.ndarray,
) -> np.ndarray:
    """Return for each atom (N,) a distance at which its orbitals and projectors end for certain."""
    known_reaches, with_projectors = reaches
    if basis is not None and not with_projectors:
        return basis.reach(species_of(structure))
    margin = 0.0 if with_projectors else LONGEST_PROJECTOR
    return np.array([known_reaches.get(kind.label, LONGEST_REACH - margin) + margin for kind in species])[which]


def _radii(
    run: Run,
    structure: Atoms,
    stored: Stored,
    kinds: Sequence[tuple[int, Species]],
    reaches: tuple[Mapping[str, float], bool],
) -> dict[int, float]:
    keys = element_keys(stored.counts, stored.rows, stored.cols, stored.cells)
    keys = keys[np.abs(stored.h).max(axis=0) > hamiltonian_rules().tolerance]
    least: dict[int, float] = {}
    for z, kind in kinds:
        least[z] = max(least.get(z, 1.0), reaches[0].get(kind.label, 1.0))
    return covering_radii(structure, keys, least, where=str(run.matrix))


def _unfolded(run: Run, structure: Atoms, stored: Stored, reach: np.ndarray) -> tuple[Atoms, Stored]:
    """Return the crystal and the elements with their cells, of a run with the Gamma point only; or the same molecule."""
    periodic = structure.copy()
    periodic.pbc = True
    keys = element_keys(stored.counts, stored.rows, stored.cols, stored.cells)
    used = np.abs(stored.h).max(axis=0) > hamiltonian_rules().tolerance
    used |= np.abs(stored.s) > overlap_rules().tolerance
    i, j = keys[used, 0], keys[used, 1]
    remedy = "run with more k-points, or with `ForceAuxCell true`; .ion.nc files beside it say how far orbitals reach"
    cells = np.zeros_like(keys[:, 2:])
    cells[used] = unfolded_cells(periodic, reach, i, j, str(run.matrix), remedy)
    crosses = cells.any(axis=0)
    if not crosses.any():
        return structure, stored
    cells[~used] = np.where(crosses, nearest_cells(periodic, *keys[~used, :2].T), 0)
    crystal = structure.copy()
    crystal.pbc = crosses
    return crystal, replace(stored, cells=cells)


def _fermi_level(path: Path) -> float | None:
    """Return the first number of `.EIG` (eV); None without the file, or where SIESTA has set none."""
    if not path.is_file():
        return None
    with path.open(errors="replace") as file:
        first = file.readline().split()
    try:
        return known(float(first[0]))
    except (ValueError, IndexError):
        raise FormatError(f"{path}: expected the Fermi level in the first line, got {' '.join(first)[:40]!r}") from None
