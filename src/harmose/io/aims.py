"""FHI-aims: the sparse real-space matrices of `output_rs_matrices plain` (or `hdf5`).

    geometry.in                   the structure
    basis-indices.out             type, atom, n, l, m of each orbital
    rs_indices.out                cell_index, index_hamiltonian(1 and 2, cell, row), column_index_hamiltonian
    rs_hamiltonian.out            H in Hartree, one value per line; with spin rs_hamiltonian_up.out and _dn.out
    rs_overlap.out                S
    control.in                    optional: elements of the species, cut-off radii, charge
    aims.out, or another name     optional: convergence, Fermi level, total energy

For row r in cell c the values index_hamiltonian(1, c, r) to (2, c, r) are <r in cell c | H | column in the home cell>, so R is
minus the cell. Of <r, c | H | s, 0> and <s, -c | H | r, 0> only the one with s <= r is written. aims moves the atoms to
fractional coordinates in (-1/2, 1/2], and its cells refer to these. The last cell, value and column are padding, which is
memory that was never set: it may be any number, or *** where one does not fit. A molecule has no `cell_index`, one cell and
the padding.
"""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from harmose.core.basis import LETTERS, BasisSet, Shell, n_orbitals
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.core.species import atomic_number_of, with_species
from harmose.errors import FormatError, IncompleteHamiltonian
from harmose.io.aims_input import SWITCH, Control, read_control, read_geometry
from harmose.io.aims_output import Output, find_outputs, read_output
from harmose.io.assembly import Rules, covering_radii, from_elements, hamiltonian_rules, overlap_rules
from harmose.io.hdf5 import numbers, open_hdf5
from harmose.io.species import number_species
from harmose.io.valence import all_electrons
from harmose.so3.conventions import Convention
from harmose.spin import Spin
from harmose.units import HARTREE

AIMS = Convention("aims", {}, {l: (1,) * (l + 1) + tuple((-1) ** m for m in range(1, l + 1)) for l in range(1, 7)})
"""m = -l..l with the Condon-Shortley sign (-1)^m for m > 0."""

CHANNELS = (
    ("rs_hamiltonian",),
    ("rs_hamiltonian_up", "rs_hamiltonian_dn"),
    ("rs_hamiltonian_up", "rs_hamiltonian_down"),
)
"""Names of the files of H: without spin, and for up and down."""

NO_SPIN_ORBIT = "not in the matrices: FHI-aims adds it to H(k) after it has written H"


def read_aims(folder: str | Path, basis: BasisSet | None = None) -> Sample:
    """Read a run. H is in eV; the sample is collinear if H has two channels.

    Elements are those of the species in control.in, else of their names. Radii are the cut-off radii of control.in (onset
    plus width of cut_pot, where all orbitals end; there are no projectors), else those of `io.assembly.covering_radii`.

    Args:
        folder: folder of the run.
        basis: basis set with the same shells, whose radii are taken.

    Returns:
        The sample. `n_electrons` is None without control.in and the output, Fermi level and energy without the output.
        The provenance says `converged` where the output does, and `spin_orbit` if the run has it, since the matrices do not.

    Raises:
        FormatError: files that are missing, damaged or of a run that moved the atoms; ghost atoms.
        BasisError: other orbitals than those of `basis`.
        MatrixError: matrices that are not Hermitian or reach further than the radii.
        StructureError: a structure without meaning.

    Warns:
        IncompleteHamiltonian: the run has spin-orbit coupling.
    """
    folder = Path(folder)
    control = read_control(folder / "control.in")
    structure = read_geometry(folder / "geometry.in", control)
    outputs = find_outputs(folder)
    output = read_output(outputs[0]) if len(outputs) == 1 else None
    if output is not None and output.n_moved:
        raise FormatError(f"{output.path}: expected a run of one structure, that of geometry.in, got one that moved the atoms "
                          f"{output.n_moved} times; run once more with the last structure as geometry.in")  # fmt: skip
    of_atom = _shells(folder / "basis-indices.out", structure)
    species = number_species(list(zip(structure.numbers.tolist(), of_atom)), basis, str(folder))
    structure, shells = with_species(structure, np.array(species)), dict(zip(species, of_atom))
    counts = np.array([n_orbitals(own) for own in of_atom])
    rows, cols, cells = _elements(folder / "rs_indices.out", int(counts.sum()), bool(structure.pbc.any()))
    channels = _hamiltonians(folder)
    h_values = np.stack([_values(path, len(rows)) * HARTREE for path in channels])
    overlap = _one_of(folder, "rs_overlap")
    s_values = _values(overlap, len(rows))
    atom = np.repeat(np.arange(len(structure)), counts)
    keys = np.column_stack([atom[rows], atom[cols], cells + _shifts(structure, atom[rows], atom[cols])])
    if basis is None:
        used = (np.abs(h_values).max(axis=0) > 1e-6) | (np.abs(s_values) > 1e-8)
        basis = BasisSet("aims", shells, _radii(control, structure, shells, np.unique(keys[used], axis=0)))
    spin = Spin.COLLINEAR if len(channels) == 2 else Spin.NONE

    def operator(values: np.ndarray, rules: Rules, kind: Spin) -> BlockMatrix:
        return from_elements(structure, basis, rows, cols, keys[:, 2:], values, rules, kind, AIMS)

    h_rules = hamiltonian_rules(str(channels[0]), one_triangle=True)
    s_rules = overlap_rules(str(overlap), one_triangle=True)
    n_electrons = _electrons(structure, control, output)
    if n_electrons is not None and (charge := float(structure.numbers.sum()) - n_electrons):
        structure.info["charge"] = charge
    return Sample(
        folder.resolve().name,
        structure,
        basis,
        operator(h_values, h_rules, spin),
        overlap=operator(s_values, s_rules, Spin.NONE),
        spin=spin,
        n_electrons=n_electrons,
        fermi_level=None if output is None else output.fermi_level,
        energy=None if output is None else output.energy,
        provenance=_provenance(folder, structure, control, output, outputs),
    )


def _electrons(structure: Atoms, control: Control, output: Output | None) -> float | None:
    if output is not None and output.n_electrons is not None:
        return output.n_electrons
    return None if control.charge is None else float(structure.numbers.sum()) - control.charge


def _provenance(
    folder: Path, structure: Atoms, control: Control, output: Output | None, outputs: Sequence[Path]
) -> dict[str, Any]:
    settings: dict[str, Any] = {"code": "fhi-aims", **all_electrons(structure)}
    if "xc" in control.settings:
        settings["functional"] = control.settings["xc"]
    if output is not None and output.converged is not None:
        settings["converged"] = output.converged
    if len(outputs) > 1:
        settings["outputs_left_out"] = [path.name for path in outputs]  # one of several runs in this folder
    if control.has_spin_orbit:
        settings["spin_orbit"] = NO_SPIN_ORBIT
        warnings.warn(f"{folder}: spin-orbit coupling is {NO_SPIN_ORBIT}", IncompleteHamiltonian, stacklevel=3)
    return settings


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise FormatError(f"{path}: no such file; {SWITCH}")


def _shells(path: Path, structure: Atoms) -> list[tuple[Shell, ...]]:
    """Return the shells of each atom in aims's order. A second shell of the same n and l is zeta 2."""
    _check_there(path)
    words = [line.split() for line in path.read_text(errors="replace").splitlines()]
    table = [row for row in words if len(row) == 6 and row[0] != "fn."]
    try:
        orbitals = np.array([[int(x) for x in (row[2], *row[3:])] for row in table]).reshape(-1, 4)
    except ValueError:
        raise FormatError(f"{path}: expected rows 'fn. type at. n l m' of whole numbers, got others (aims writes *** for "
                          "atoms beyond 999)") from None  # fmt: skip
    atoms, n, l, m = orbitals.T
    if not np.array_equal(np.unique(atoms), np.arange(1, len(structure) + 1)) or (np.diff(atoms) < 0).any():
        raise FormatError(f"{path}: expected the orbitals of {len(structure)} atoms in order, got those of "
                          f"{len(np.unique(atoms))} atoms")  # fmt: skip
    _check_whole_shells(path, atoms, n, l, m)
    begins = m == -l
    first = np.searchsorted(atoms[begins], np.arange(1, len(structure) + 2))
    kinds = list(zip(n[begins].tolist(), l[begins].tolist()))
    return [_numbered(tuple(kinds[start:stop])) for start, stop in zip(first.tolist(), first[1:].tolist())]


@lru_cache(maxsize=512)
def _numbered(kinds: tuple[tuple[int, int], ...]) -> tuple[Shell, ...]:
    """Return the shells with these (n, l)."""
    return tuple(Shell(n, l, zeta=1 + kinds[:k].count((n, l))) for k, (n, l) in enumerate(kinds))


def _check_whole_shells(path: Path, atoms: np.ndarray, n: np.ndarray, l: np.ndarray, m: np.ndarray) -> None:
    """`FormatError` unless m runs from -l to l in each shell."""
    begins = m == -l
    shell = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    sensible = len(m) > 0 and begins[0] and (l >= 0).all() and (l < len(LETTERS)).all() and (n > 0).all()
    if not (
        sensible
        and all((x == x[first[shell]]).all() for x in (atoms, n, l))
        and np.array_equal(m + l, np.arange(len(m)) - first[shell])
        and np.array_equal(np.bincount(shell), 2 * l[first] + 1)
    ):
        raise FormatError(f"{path}: expected whole shells, m from -l to l, l = 0 to {len(LETTERS) - 1}; got others: "
                          "the file is cut off or damaged; copy it again, or run FHI-aims again")  # fmt: skip


def _elements(path: Path, n_orbitals: int, periodic: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row (nnz,), column (nnz,) and R (nnz, 3) of each value, without padding."""
    size, n_cells, n_basis, sections = _sections(path)
    if n_basis != n_orbitals:
        raise FormatError(f"{path}: n_basis: expected {n_orbitals} by basis-indices.out, got {n_basis}")
    n_used = max(n_cells - 1, 1)  # the last cell is padding
    if periodic:
        cell_index = _whole_numbers(path, "cell_index", sections, (n_cells, 3), n_used)
    else:
        cell_index = np.zeros((n_used, 3), dtype=np.int64)
    first, last = (
        _whole_numbers(path, f"index_hamiltonian({k},:,:)", sections, (n_cells, n_basis), n_used).ravel()
        for k in (1, 2)
    )
    # (0, -1) marks an empty row.
    counts = np.where((last >= first) & (first > 0), last - first + 1, 0)
    n_values = int(counts.sum(dtype=np.float64)) if len(counts) else 0
    if n_values not in (size - 1, size):
        raise _not_each_once(path, size)
    start = np.where(counts > 0, first - 1, 0)
    at = np.repeat(start - (np.cumsum(counts) - counts), counts) + np.arange(n_values)
    if not np.array_equal(np.sort(at), np.arange(n_values)):
        raise _not_each_once(path, size)
    cell, row = np.divmod(np.repeat(np.arange(len(counts)), counts), n_basis)
    columns = _whole_numbers(path, "column_index_hamiltonian", sections, (size,), n_values) - 1
    rows, cells = np.empty(n_values, np.int64), np.empty((n_values, 3), np.int64)
    rows[at], cells[at] = row, -cell_index[cell]
    if (columns < 0).any() or (columns >= n_basis).any():
        raise FormatError(f"{path}: column_index_hamiltonian: expected columns 1 to {n_basis}, got others")
    return rows, columns, cells


def _not_each_once(path: Path, size: int) -> FormatError:
    return FormatError(f"{path}: expected index_hamiltonian to count each of {size} values once, got others")


def _sections(path: Path) -> tuple[int, int, int, dict[str, str]]:
    """Return number of values, cells and orbitals, and the text below each heading."""
    _check_there(path)
    text = path.read_text(errors="replace")
    sizes = []
    for key in ("n_hamiltonian_matrix_size", "n_cells_in_hamiltonian", "n_basis"):
        size = re.search(rf"^\s*{key}\s*:\s*(\d+)\s*$", text[:1000], re.MULTILINE)
        if size is None:
            raise FormatError(f"{path}: expected {key}, got another file")
        sizes.append(int(size[1]))
    # A heading may have a remark: cell_index (not used in aperiodic systems).
    parts = re.split(r"^\s*([a-z_]+(?:\([12],:,:\))?)(?: \([a-z ]+\))?\s*$", text, flags=re.MULTILINE)
    return sizes[0], sizes[1], sizes[2], dict(zip(parts[1::2], parts[2::2]))


def _whole_numbers(
    path: Path, name: str, sections: Mapping[str, str], shape: tuple[int, ...], n_used: int
) -> np.ndarray:
    """Return the first `n_used` rows of a table. The padding after them need not be whole numbers."""
    words, width = sections.get(name, "").split(), float(np.prod(shape[1:], dtype=np.float64))
    if not n_used * width <= len(words) <= shape[0] * width:
        raise FormatError(f"{path}: {name}: expected {shape} whole numbers, got {len(words)}: the file is cut "
                          "off; copy it again, or run FHI-aims again")  # fmt: skip
    try:
        return np.array(words[: n_used * int(width)], dtype=np.int64).reshape(n_used, *shape[1:])
    except (ValueError, OverflowError):
        raise FormatError(
            f"{path}: {name}: expected whole numbers, got others; copy it again, or run FHI-aims again"
        ) from None


def _hamiltonians(folder: Path) -> list[Path]:
    for names in CHANNELS:
        if all((folder / f"{name}.out").is_file() or (folder / f"{name}.h5").is_file() for name in names):
            return [_one_of(folder, name) for name in names]
    for up, *down in CHANNELS[1:]:
        for one, other in ((up, down[0]), (down[0], up)):
            if (folder / f"{one}.out").is_file() or (folder / f"{one}.h5").is_file():
                raise FormatError(
                    f"{folder}: expected {other}.out (or .h5) beside that of {one}, got a run without it; copy it again, or "
                    "run FHI-aims again"
                )
    raise FormatError(
        f"{folder}: expected rs_hamiltonian.out, or rs_hamiltonian_up.out and rs_hamiltonian_dn.out, got no H; {SWITCH}"
    )


def _one_of(folder: Path, name: str) -> Path:
    paths = [folder / f"{name}{suffix}" for suffix in (".out", ".h5")]
    for path in paths:
        if path.is_file():
            return path
    raise FormatError(f"{folder}: expected {paths[0].name} (or .h5), got a folder without it; {SWITCH}")


def _values(path: Path, size: int) -> np.ndarray:
    """Read the values of a matrix, without padding."""
    if path.suffix == ".h5":
        with open_hdf5(path) as file:
            values = numbers(file, "sparse_matrix").ravel()
    else:
        text = path.read_text(errors="replace")
        try:
            values = np.array(text.split(), dtype=np.float64)
        except ValueError:
            values = _fortran_numbers(path, text)
    if len(values) not in (size, size + 1):
        raise FormatError(f"{path}: expected {size} values (and padding) by rs_indices.out, got {len(values)}; "
                          "copy it again, or run FHI-aims again")  # fmt: skip
    return values[:size].astype(np.float64)


def _fortran_numbers(path: Path, text: str) -> np.ndarray:
    """Read numbers like 0.1-105: Fortran leaves out the E before an exponent of three digits."""
    try:
        return np.array(re.sub(r"(\d)([+-]\d{3})\b", r"\1E\2", text).split(), dtype=np.float64)
    except ValueError:
        raise FormatError(f"{path}: expected one number per line, got something else: the file is damaged; "
                          "copy it again, or run FHI-aims again") from None  # fmt: skip


def _shifts(structure: Atoms, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return the change of R (nnz, 3) from the positions to which aims moves the atoms to those of geometry.in."""
    if not structure.pbc.any():
        return np.zeros((len(i), 3), dtype=np.int64)
    fractional = structure.get_scaled_positions(wrap=False)
    moved = np.round(fractional - 1e-8).astype(np.int64)  # position in aims = position in geometry.in - moved
    return moved[i] - moved[j]


def _radii(control: Control, structure: Atoms, species: Iterable[int], keys: np.ndarray) -> dict[int, float]:
    radii = control.radii()
    if all(atomic_number_of(z) in radii for z in species):
        return {z: radii[atomic_number_of(z)] for z in species}
    return covering_radii(structure, keys)
