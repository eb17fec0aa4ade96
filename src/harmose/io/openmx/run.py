"""A run of OpenMX: its `.scfout` file, with the structure and the shells that its input names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph, pair_vectors
from harmose.core.species import species_of, with_species
from harmose.core.structure import check_structure
from harmose.errors import FormatError
from harmose.io.assembly import Rules, covering_radii, from_blocks, rounded_up
from harmose.io.openmx.files import find_input, find_scfout
from harmose.io.openmx.input import Input, Species
from harmose.io.openmx.log import Log, read_log
from harmose.io.openmx.moments import initial_moments
from harmose.io.openmx.names import NAME, OPENMX_BOHR, element_of_species
from harmose.io.openmx.scfout import Scfout, read_scfout
from harmose.io.species import number_species
from harmose.so3.conventions import OPENMX
from harmose.spin import Spin

DEBYE = 2.54174776
"""OpenMX's Debye per electron and Bohr."""

SPINS = {0: Spin.NONE, 1: Spin.COLLINEAR, 3: Spin.SPINOR}

EDGE = 1e-4
"""Pairs whose distance (angstrom) is so near to the sum of the radii may be in OpenMX's list of neighbours or not."""

MOVED = 1e-3
"""Largest difference (Debye) of the cores' dipole moment from that of the positions in the file; it moves by more if an atom
moves by 0.001 angstrom."""


@dataclass(frozen=True, eq=False)
class Run:
    """A `.scfout` file with the input and the structure; `log` is None without the `.out` of the same run.

    `species` has the species of each atom, `left_out` the files beside it that are not used, with the reason.
    """

    stored: Scfout
    text: Input
    log: Log | None
    left_out: Sequence[str]
    structure: Atoms
    species: Sequence[Species]

    def shells(self) -> dict[int, tuple[Shell, ...]]:
        """Shells of each species, by its number (`core.species`)."""
        return {z: kind.pao.shells for z, kind in self.kinds}

    @property
    def kinds(self) -> list[tuple[int, Species]]:
        """Number (`core.species`) and species, of each species that has atoms."""
        kinds = set(zip(species_of(self.structure).tolist(), self.species))
        return sorted(kinds, key=lambda kind: (kind[0], kind[1].label))

    def own_basis(self) -> BasisSet:
        """Return the shells of the run, with the radii at which their functions end."""
        basis = BasisSet(NAME, self.shells(), self._radii_by_name())
        if not self._is_covered(basis):
            radii = covering_radii(self.structure, self.stored.keys, where=str(self.stored.path))
            basis = BasisSet(NAME, self.shells(), radii)
        return basis

    def operator(self, basis: BasisSet, values: np.ndarray, rules: Rules, spin: Spin = Spin.NONE) -> BlockMatrix:
        """Return the operator with these values (n_components, size), which are in the order of the file."""
        return from_blocks(self.structure, basis, self.stored.keys, values, rules, spin, OPENMX, self.stored.shapes)

    def _radii_by_name(self) -> dict[int, float]:
        """Return the largest cutoff of the species with each number in angstrom, rounded up; 1 for names without a number."""
        radii: dict[int, float] = {}
        for z, kind in self.kinds:
            own = 1.0 if kind.pao.cutoff is None else rounded_up(kind.pao.cutoff * OPENMX_BOHR, 1e-6)
            radii[z] = max(radii.get(z, 0.0), own)
        return radii

    def _is_covered(self, basis: BasisSet) -> bool:
        """True if the pairs within reach of `basis` are those that OpenMX lists, but for pairs at the edge."""
        reach = basis.reach(species_of(self.structure))

        def lengths(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            distance = np.linalg.norm(pair_vectors(self.structure, keys), axis=1)
            return distance, reach[keys[:, 0]] + reach[keys[:, 1]]

        listed, limit = lengths(self.stored.keys)
        expected, bound = lengths(build_graph(self.structure, basis).pairs)
        n_expected = len(self.structure) + 2 * int((expected < bound - EDGE).sum())
        return bool((listed < limit).all()) and int((listed < limit - EDGE).sum()) == n_expected


def read_run(path: str | Path, basis: BasisSet | None = None) -> Run:
    """Read all of a run but its matrices. Arguments and errors as in `read_openmx`."""
    stored = read_scfout(find_scfout(Path(path)))
    log, left_out = _own_log(stored)
    text = find_input(stored, log)
    species, numbers = _species(stored, text)
    structure = Atoms(
        numbers,
        positions=stored.positions * OPENMX_BOHR,
        cell=stored.cell * OPENMX_BOHR,
        # OpenMX is periodic in all directions. Where no atom reaches an image of an atom, nothing of that is in H.
        pbc=stored.keys[:, 2:].any(axis=0),
    )
    check_structure(structure, str(stored.path))
    _check_not_moved(stored, text)
    charge = text.number("scf.system.charge", 0.0)
    if charge:
        structure.info["charge"] = charge
    if SPINS.get(stored.spin) is Spin.COLLINEAR and (moments := initial_moments(text, Spin.COLLINEAR)) is not None:
        structure.set_initial_magnetic_moments(moments)
    kinds = [(z, kind.pao.shells) for z, kind in zip(numbers.tolist(), species)]
    structure = with_species(structure, np.array(number_species(kinds, basis, str(stored.path))))
    return Run(stored, text, log, left_out, structure, species)


def _own_log(stored: Scfout) -> tuple[Log | None, list[str]]:
    """Return the `.out` file beside the run, unless it is that of another run; and the files that are left out."""
    path = stored.path.with_suffix(".out")
    log = read_log(path)
    if log is None or (log.fermi_level is not None and abs(log.fermi_level - stored.fermi_level) < 1e-10):
        return log, []
    return None, [f"{path.name}: its chemical potential is not that of {stored.path.name}"]


def _species(stored: Scfout, text: Input) -> tuple[list[Species], np.ndarray]:
    """Return the species and the atomic number of each atom (N,)."""
    known, rows, n_atoms = text.species(), text.atoms(), len(stored.orbitals)
    if len(rows) != n_atoms:
        raise FormatError(f"{text.where}: expected the {n_atoms} atoms of {stored.path.name}, got {len(rows)}")
    unknown = next((row[1] for row in rows if row[1] not in known), None)
    if unknown is not None:
        raise FormatError(f"{text.where}: expected species out of {', '.join(known)}, got {unknown!r}")
    elements = {label: _element(text, known[label]) for label in {row[1] for row in rows}}
    species = [known[row[1]] for row in rows]
    expected = np.array([kind.pao.n_orbitals for kind in species])
    if not np.array_equal(expected, stored.orbitals):
        k = int(np.argmax(expected != stored.orbitals))
        raise FormatError(f"{text.where}: expected the {stored.orbitals[k]} orbitals of atom {k} in {stored.path.name}, got "
                          f"{expected[k]} of {species[k].pao.text}")  # fmt: skip
    return species, np.array([elements[kind.label] for kind in species])


def _element(text: Input, kind: Species) -> int:
    number = element_of_species(kind.label, kind.pao.text, kind.vps)
    if number is None:
        raise FormatError(f"{text.where}: expected a pseudopotential that names an element, such as C_PBE19, got {kind.vps!r} "
                          f"of species {kind.label}; rename it")  # fmt: skip
    if number == 0:
        raise FormatError(f"{text.where}: expected atoms with nuclei, got species {kind.label} of empty atoms, which harmose "
                          "does not support")  # fmt: skip
    return number


def _check_not_moved(stored: Scfout, text: Input) -> None:
    """`FormatError` if a run of several geometries ended with a move of the atoms, so that H belongs to other positions.

    OpenMX moves atoms after the last SCF, too, unless an optimization has converged. The dipole moment of the cores was
    computed before. Their charges are the initial electrons of the atoms, if the sum of these is right.
    """
    if text.word("MD.Type", "nomd").lower() == "nomd":
        return
    electrons = text.initial_electrons()
    charges = np.array([up + down for up, down in electrons])
    if not electrons or abs(charges.sum() - text.number("scf.system.charge", 0.0) - stored.n_electrons) > 1e-6:
        return
    difference = np.abs(DEBYE * charges @ stored.positions - stored.core_dipole).max()
    if not difference < MOVED:
        raise FormatError(f"{stored.path}: expected the positions for which H was computed, got atoms that OpenMX moved after the "
                          f"last SCF of MD.Type {text.word('MD.Type', '')} (their dipole moment changes by {difference:.2g} Debye); "
                          "run the last structure with MD.Type nomd")  # fmt: skip
