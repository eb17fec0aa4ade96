"""FHI-aims: the sparse real-space matrices of `output_rs_matrices plain` (or `hdf5`).

    geometry.in                   the structure
    basis-indices.out             type, atom, n, l, m of each orbital
    rs_indices.out                cell_index, index_hamiltonian(1 and 2, cell, row), column_index_hamiltonian
    rs_hamiltonian.out            H in Hartree, one value per line; with spin rs_hamiltonian_up.out and _dn.out
    rs_overlap.out                S
    control.in, aims.out          optional: cut-off radii and charge; Fermi level and total energy

For row r in cell c the values index_hamiltonian(1, c, r) to (2, c, r) are <r in cell c | H | column in the home cell>, so R is
minus the cell. Of <r, c | H | s, 0> and <s, -c | H | r, 0> only the one with s <= r is written. aims moves the atoms to
fractional coordinates in (-1/2, 1/2], and its cells refer to these. The last cell, value and column are padding.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from harmose.core.basis import LETTERS, BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.core.structure import check_structure
from harmose.errors import FormatError
from harmose.io.assembly import Rules, check_shells, covering_radii, from_elements, hamiltonian_rules, overlap_rules
from harmose.io.hdf5 import numbers, open_hdf5
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


def read_aims(folder: str | Path, basis: BasisSet | None = None) -> Sample:
    """Read a run. H is in eV; the sample is collinear if H has two channels.

    Radii are the cut-off radii of control.in (onset plus width of cut_pot, where all orbitals end; there are no projectors).
    Without control.in they come from `io.assembly.covering_radii`. `basis` replaces both. `n_electrons` is the sum of the
    atomic numbers minus the charge in control.in. Raises `FormatError`, `MatrixError` or `StructureError` with the file.
    """
    folder = Path(folder)
    structure = _structure(folder / "geometry.in")
    shells = _shells(folder / "basis-indices.out", structure)
    n_orbitals = sum(shell.n_orbitals for z in structure.numbers.tolist() for shell in shells[z])
    rows, cols, cells = _elements(folder / "rs_indices.out", n_orbitals)
    channels = _hamiltonians(folder)
    h_values = np.stack([_values(path, len(rows)) * HARTREE for path in channels])
    overlap = _one_of(folder, "rs_overlap")
    s_values = _values(overlap, len(rows))
    atom = np.repeat(
        np.arange(len(structure)), [sum(s.n_orbitals for s in shells[z]) for z in structure.numbers.tolist()]
    )
    keys = np.column_stack([atom[rows], atom[cols], cells + _shifts(structure, atom[rows], atom[cols])])
    if basis is None:
        used = (np.abs(h_values).max(axis=0) > 1e-6) | (np.abs(s_values) > 1e-8)
        basis = BasisSet("aims", shells, _radii(folder / "control.in", structure, np.unique(keys[used], axis=0)))
    check_shells(basis, shells, str(folder))
    spin = Spin.COLLINEAR if len(channels) == 2 else Spin.NONE

    def operator(values: np.ndarray, rules: Rules, kind: Spin) -> BlockMatrix:
        return from_elements(structure, basis, rows, cols, keys[:, 2:], values, rules, kind, AIMS)

    h_rules = hamiltonian_rules(str(channels[0]), one_triangle=True)
    s_rules = overlap_rules(str(overlap), one_triangle=True)
    log = _log(folder / "aims.out")
    charge = _control_number(folder / "control.in", "charge") or 0.0
    if charge:
        structure.info["charge"] = charge
    return Sample(
        folder.resolve().name,
        structure,
        basis,
        operator(h_values, h_rules, spin),
        overlap=operator(s_values, s_rules, Spin.NONE),
        spin=spin,
        n_electrons=float(structure.numbers.sum()) - charge,
        fermi_level=_last_number(log, r"Chemical potential \(Fermi level\)\s*:\s*([-+.\dE]+) eV"),
        energy=_last_number(log, r"Total energy of the DFT / Hartree-Fock s\.c\.f\. calculation\s*:\s*([-+.\dE]+) eV"),
        provenance={
            "code": "fhi-aims",
            **({"functional": xc} if (xc := _keyword(folder / "control.in", "xc")) else {}),
        },
    )


def _structure(path: Path) -> Atoms:
    from ase.io import read  # takes 0.5 s

    _check_there(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ASE will move its reader to another package
            atoms = read(path, format="aims")
    except Exception as error:  # ASE's parsers raise many types
        raise FormatError(
            f"{path}: expected a geometry of FHI-aims, got something else ({_first_line(error)})"
        ) from None
    assert isinstance(atoms, Atoms)
    structure = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    check_structure(structure, str(path))
    return structure


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise FormatError(f"{path}: no such file")


def _shells(path: Path, structure: Atoms) -> dict[int, tuple[Shell, ...]]:
    """Return the shells of each element in aims's order. A second shell of the same n and l is zeta 2."""
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
    shells: dict[int, tuple[Shell, ...]] = {}
    starts = np.searchsorted(atoms, np.arange(1, len(structure) + 2))
    for z in np.unique(structure.numbers).tolist():
        of_z = np.flatnonzero(structure.numbers == z)
        own = [orbitals[starts[k] : starts[k + 1], 1:] for k in of_z]
        if any(not np.array_equal(own[0], other) for other in own):
            raise FormatError(f"{path}: expected the same orbitals on every {chemical_symbols[z]}, got different ones")
        kinds = [(int(row[0]), int(row[1])) for row in own[0] if row[2] == -row[1]]
        shells[z] = tuple(Shell(n, l, zeta=1 + kinds[:k].count((n, l))) for k, (n, l) in enumerate(kinds))
    return shells


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
        raise FormatError(f"{path}: expected whole shells, m from -l to l, l = 0 to {len(LETTERS) - 1}; got others")


def _elements(path: Path, n_orbitals: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row (nnz,), column (nnz,) and R (nnz, 3) of each value, without padding."""
    size, n_cells, n_basis, sections = _sections(path)
    if n_basis != n_orbitals:
        raise FormatError(f"{path}: n_basis: expected {n_orbitals} by basis-indices.out, got {n_basis}")
    expected = {
        "cell_index": (n_cells, 3),
        "index_hamiltonian(1,:,:)": (n_cells, n_basis),
        "index_hamiltonian(2,:,:)": (n_cells, n_basis),
        "column_index_hamiltonian": (size,),
    }
    tables = [_whole_numbers(path, name, sections.get(name), shape) for name, shape in expected.items()]
    cell_index, first, last, columns = tables
    # The last cell is padding; (0, -1) marks an empty row.
    first, last = first[:-1].ravel(), last[:-1].ravel()
    filled = last >= first
    counts = np.where(filled & (first > 0), last - first + 1, 0)
    start = np.where(counts > 0, first - 1, 0)
    at = np.repeat(start - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    if len(at) not in (size - 1, size) or not np.array_equal(np.sort(at), np.arange(len(at))):
        raise FormatError(f"{path}: expected index_hamiltonian to count each of {size} values once, got others")
    cell, row = np.divmod(np.repeat(np.arange(len(counts)), counts), n_basis)
    rows, cols, cells = np.empty(len(at), np.int64), columns[: len(at)] - 1, np.empty((len(at), 3), np.int64)
    rows[at], cells[at] = row, -cell_index[cell]
    if (cols < 0).any() or (cols >= n_basis).any():
        raise FormatError(f"{path}: column_index_hamiltonian: expected columns 1 to {n_basis}, got others")
    return rows, cols, cells


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
    parts = re.split(r"^\s*([a-z_]+(?:\([12],:,:\))?)\s*$", text, flags=re.MULTILINE)
    return sizes[0], sizes[1], sizes[2], dict(zip(parts[1::2], parts[2::2]))


def _whole_numbers(path: Path, name: str, text: str | None, shape: tuple[int, ...]) -> np.ndarray:
    words = [] if text is None else text.split()
    if len(words) != np.prod([float(n) for n in shape]):
        raise FormatError(f"{path}: {name}: expected {shape} whole numbers, got {len(words)}")
    try:
        return np.array(words, dtype=np.int64).reshape(shape)
    except (ValueError, OverflowError):
        raise FormatError(f"{path}: {name}: expected whole numbers, got others") from None


def _hamiltonians(folder: Path) -> list[Path]:
    for names in CHANNELS:
        if all((folder / f"{name}.out").is_file() or (folder / f"{name}.h5").is_file() for name in names):
            return [_one_of(folder, name) for name in names]
    raise FormatError(
        f"{folder}: expected rs_hamiltonian.out, or rs_hamiltonian_up.out and rs_hamiltonian_dn.out, got no H"
    )


def _one_of(folder: Path, name: str) -> Path:
    paths = [folder / f"{name}{suffix}" for suffix in (".out", ".h5")]
    for path in paths:
        if path.is_file():
            return path
    raise FormatError(f"{folder}: expected {paths[0].name} (or .h5), got a folder without it")


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
        raise FormatError(f"{path}: expected {size} values (and padding) by rs_indices.out, got {len(values)}")
    return values[:size].astype(np.float64)


def _fortran_numbers(path: Path, text: str) -> np.ndarray:
    """Read numbers like 0.1-105: Fortran leaves out the E before an exponent of three digits."""
    try:
        return np.array(re.sub(r"(\d)([+-]\d{3})\b", r"\1E\2", text).split(), dtype=np.float64)
    except ValueError:
        raise FormatError(f"{path}: expected one number per line, got something else") from None


def _shifts(structure: Atoms, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return the change of R (nnz, 3) from the positions to which aims moves the atoms to those of geometry.in."""
    if not structure.pbc.any():
        return np.zeros((len(i), 3), dtype=np.int64)
    fractional = structure.get_scaled_positions(wrap=False)
    moved = np.round(fractional - 1e-8).astype(np.int64)  # position in aims = position in geometry.in - moved
    return moved[i] - moved[j]


def _radii(control: Path, structure: Atoms, keys: np.ndarray) -> dict[int, float]:
    cutoffs = dict(_cutoffs(control)) if control.is_file() else {}
    elements = np.unique(structure.numbers).tolist()
    if all(z in cutoffs for z in elements):
        return {z: cutoffs[z] for z in elements}
    return covering_radii(structure, keys)


def _cutoffs(control: Path) -> Iterator[tuple[int, float]]:
    """Yield the atomic number of each species and the radius (angstrom) where its confinement ends."""
    element = None
    for words in _keyword_lines(control):
        if words[0] == "species":
            element = None
        elif words[0] == "nucleus" and len(words) > 1:
            charge = _as_number(words[1])
            element = round(charge) if charge is not None else None
        elif words[0] == "cut_pot" and len(words) > 2 and element is not None:
            onset, width = _as_number(words[1]), _as_number(words[2])
            if onset is not None and width is not None and 0 < onset + width < 50:
                yield element, onset + width


def _keyword_lines(path: Path) -> Iterator[Sequence[str]]:
    if path.is_file():
        for line in path.read_text(errors="replace").splitlines():
            words = line.split("#")[0].split()
            if words:
                yield words


def _keyword(path: Path, key: str) -> str | None:
    return next((" ".join(words[1:]) for words in _keyword_lines(path) if words[0] == key and len(words) > 1), None)


def _control_number(path: Path, key: str) -> float | None:
    value = _keyword(path, key)
    return None if value is None else _as_number(value.split()[0])


def _as_number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _log(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def _last_number(text: str, pattern: str) -> float | None:
    found = re.findall(pattern, text)
    return _as_number(found[-1]) if found else None
