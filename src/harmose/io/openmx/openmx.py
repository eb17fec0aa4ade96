"""OpenMX: H, S and the density matrix of a run from its `.scfout` file, which `HS.fileout on` makes it write.

OpenMX writes Hartree and Bohr, with its own value of the Bohr radius, and orbitals in its own order without sign
(docs/conventions.md). Elements and shells come from the input, whose text is in the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph, pair_vectors, reversed_pairs
from harmose.core.sample import Sample
from harmose.core.structure import check_structure
from harmose.errors import FormatError, MatrixError
from harmose.io.assembly import (
    Rules,
    check_shells,
    covering_radii,
    from_blocks,
    hamiltonian_rules,
    overlap_rules,
    rounded_up,
)
from harmose.io.deeph.legacy import OPENMX
from harmose.io.openmx.files import find_input, find_scfout
from harmose.io.openmx.input import Input, Species
from harmose.io.openmx.log import Log, read_log
from harmose.io.openmx.names import element_of_species
from harmose.io.openmx.scfout import Scfout, read_scfout
from harmose.io.species import shells_of_elements
from harmose.spin import Spin
from harmose.units import HARTREE

NAME = "openmx"
"""Name of the basis sets; the names of their files are in the provenance of a sample."""

OPENMX_BOHR = 0.529177249
"""OpenMX's Bohr radius in angstrom, with which it turns the angstrom of an input into Bohr."""

DEBYE = 2.54174776
"""OpenMX's Debye per electron and Bohr."""

SPINS = {0: Spin.NONE, 1: Spin.COLLINEAR, 3: Spin.SPINOR}

EDGE = 1e-4
"""Pairs whose distance (angstrom) is so near to the sum of the radii may be in OpenMX's list of neighbours or not."""

MOVED = 1e-3
"""Largest difference (Debye) of the cores' dipole moment from that of the positions in the file; it moves by more if an atom
moves by 0.001 angstrom."""


def read_openmx(path: str | Path, basis: BasisSet | None = None) -> Sample:
    """Read a run of OpenMX 3.7 to 3.9.

    Args:
        path: folder of the run, its `.scfout` file, or its `.dat` or `.out` file beside that.
        basis: basis set of another run of the same system, with radii that cover this one. Default: the radii at which
            the functions end.

    Returns:
        The sample: H and Fermi level in eV on OpenMX's scale, S, number of electrons. Spin is none, collinear, or spinor
        (non-collinear, with or without spin-orbit coupling). Total energy and convergence are those of the `.out` file, and
        None without it. `provenance["settings"]["pao"]` has the name of each element's basis set, such as `C6.0-s2p2d1`.

    Raises:
        FormatError: files are missing, damaged, of another version or another code, atoms were moved after H was computed,
            or a species has no nucleus.
        BasisError: two species of one element have different orbitals, or others than `basis`.
        MatrixError: H or S is not Hermitian, or has values outside the reach of `basis`.
        StructureError: the structure is not valid, for example atoms at the same place.
    """
    run = read_run(path)
    basis = run.own_basis() if basis is None else basis
    check_shells(basis, run.shells(), str(run.stored.path))
    spin = SPINS[run.stored.spin]
    h = run.operator(basis, _hamiltonian(run.stored) * HARTREE, hamiltonian_rules(f"{run.stored.path}: H"), spin)
    s = run.operator(basis, run.stored.matrix("S"), overlap_rules(f"{run.stored.path}: S"))
    return Sample(
        name=run.stored.path.stem,
        structure=run.structure,
        basis=basis,
        hamiltonian=h,
        overlap=s,
        spin=spin,
        n_electrons=round(run.stored.n_electrons, 6),
        fermi_level=run.stored.fermi_level * HARTREE if np.isfinite(run.stored.fermi_level) else None,
        energy=run.log.energy * HARTREE if run.log is not None and run.log.energy is not None else None,
        provenance=_provenance(run),
    )


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

    def shells(self) -> dict:
        """Shells of each element; `BasisError` if two species of one element have different ones."""
        kinds = ((z, kind.label, kind.pao.shells) for z, kind in self.kinds)
        return shells_of_elements(kinds, str(self.stored.path))

    @property
    def kinds(self) -> list[tuple[int, Species]]:
        """Atomic number and species, of each species that has atoms."""
        kinds = set(zip(self.structure.numbers.tolist(), self.species))
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
        """Return the largest cutoff of each element's species in angstrom, rounded up; 1 for names without a number."""
        radii: dict[int, float] = {}
        for z, kind in self.kinds:
            own = 1.0 if kind.pao.cutoff is None else rounded_up(kind.pao.cutoff * OPENMX_BOHR, 1e-6)
            radii[z] = max(radii.get(z, 0.0), own)
        return radii

    def _is_covered(self, basis: BasisSet) -> bool:
        """True if the pairs within reach of `basis` are those that OpenMX lists, but for pairs at the edge."""
        reach = basis.reach(self.structure.numbers)

        def lengths(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            distance = np.linalg.norm(pair_vectors(self.structure, keys), axis=1)
            return distance, reach[keys[:, 0]] + reach[keys[:, 1]]

        listed, limit = lengths(self.stored.keys)
        expected, bound = lengths(build_graph(self.structure, basis).pairs)
        n_expected = len(self.structure) + 2 * int((expected < bound - EDGE).sum())
        return bool((listed < limit).all()) and int((listed < limit - EDGE).sum()) == n_expected


def read_run(path: str | Path) -> Run:
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


def _hamiltonian(stored: Scfout) -> np.ndarray:
    """Return H in Hartree: (1, size), (2, size) with up and down, or (4, size) with uu, ud, du, dd."""
    h = stored.matrix("H")
    if stored.spin != 3:
        return h
    imaginary = stored.matrix("iH")
    return spinor_components(stored, h[0] + 1j * imaginary[0], h[2] + 1j * (h[3] + imaginary[2]), h[1] + 1j * imaginary[1])


def spinor_components(stored: Scfout, uu: np.ndarray, ud: np.ndarray, dd: np.ndarray) -> np.ndarray:
    """Return uu, ud, du, dd (4, size). OpenMX does not write du: it is the adjoint of ud of the reversed block."""
    return np.stack([uu, ud, ud[_transposed(stored)].conj(), dd])


def _transposed(stored: Scfout) -> np.ndarray:
    """Return the place (size,) of the element <b, R | a> of each element <a | b, R>."""
    keys, shapes = stored.keys, stored.shapes
    order, reverse = np.lexsort(keys.T[::-1]), np.lexsort(reversed_pairs(keys).T[::-1])
    if not np.array_equal(keys[order], reversed_pairs(keys)[reverse]):
        raise MatrixError(f"{stored.path}: expected with each block (i, j, R) also (j, i, -R), got blocks without")
    partner = np.empty(len(keys), dtype=np.int64)
    partner[reverse] = order
    sizes = shapes.prod(axis=1)
    starts = np.cumsum(sizes) - sizes
    block = np.repeat(np.arange(len(keys)), sizes)
    row, col = np.divmod(np.arange(len(block)) - starts[block], shapes[block, 1])
    return starts[partner[block]] + col * shapes[block, 0] + row


def _provenance(run: Run) -> dict[str, Any]:
    """Return settings and outcome as JSON values; what the files do not say is left out, or None for `converged`."""
    text, log, spin = run.text, run.log, SPINS[run.stored.spin]
    settings = {
        "pao": _by_element(run, lambda kind: kind.pao.text),
        "vps": _by_element(run, lambda kind: kind.vps),
        "temperature": text.number("scf.ElectronicTemperature", 300.0),
        "energy_cutoff": text.number("scf.energycutoff", 150.0),
        "hubbard": text.is_on("scf.Hubbard.U"),
    }
    result: dict[str, Any] = {"code": NAME, "settings": settings}
    if log is not None and log.version is not None:
        result["version"] = log.version
    if functional := text.word("scf.XcType", ""):
        result["functional"] = functional
    if text.word("scf.EigenvalueSolver", "").lower() == "band":
        result["kmesh"] = text.whole_numbers("scf.Kgrid", (4, 4, 4))
    if spin is Spin.SPINOR:
        result["spin_orbit"] = text.is_on("scf.SpinOrbit.Coupling")
    if spin is not Spin.NONE and (moments := _initial_moments(text, spin)) is not None:
        result["initial_moments"] = moments
    criterion, max_steps = text.number("scf.criterion", 1e-6), int(text.number("scf.maxIter", 40))
    result["converged"] = None if log is None else log.converged(criterion, max_steps)
    if log is not None and log.history:
        result["cycles"] = len(log.history)
    if run.left_out:
        result["left_out"] = list(run.left_out)
    return result


def _by_element(run: Run, value) -> dict[str, str]:
    """Return a text of each element, by its symbol; several species of an element are joined by a plus sign."""
    kinds: dict[str, set[str]] = {}
    for z, kind in run.kinds:
        kinds.setdefault(chemical_symbols[z], set()).add(value(kind))
    return {symbol: "+".join(sorted(texts)) for symbol, texts in sorted(kinds.items())}


def _initial_moments(text: Input, spin: Spin) -> list | None:
    """Return the initial moment of each atom in Bohr magnetons, (N,) or for spinors vectors (N, 3); None without them."""
    electrons = text.initial_electrons()
    if not electrons:
        return None
    lengths = np.array([up - down for up, down in electrons])
    if spin is Spin.COLLINEAR:
        return lengths.tolist()
    theta, phi = np.radians(text.initial_directions()).T
    directions = np.column_stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
    return (lengths[:, None] * directions).tolist()
