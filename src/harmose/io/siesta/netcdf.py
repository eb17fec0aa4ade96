"""SIESTA's netCDF file LABEL.nc (`CDF.Save`): netCDF4, which is HDF5, with everything that a run needs.

    cell, xa              lattice vectors and positions in Bohr
    nsc, lasto            number of cells; last orbital of each atom
    Ef, Qtot              Fermi level in Ry; valence electrons
    BASIS/basis           number of the species of each atom
    BASIS/LABEL           a species: attributes ID, Atomic_number; orbnl_n, orbnl_l, orbnl_z; cutoff, kbcutoff in Bohr
    SPARSE                n_col, list_col (from 1), isc_off (R of the cells); H (n_spin, nnz) in Ry; S (nnz,)

Elements are those of HSX files: rows and columns are exchanged (Fortran), so that element (a, b, R) of the file is
<b, home cell | H | a, cell -R>, without complex conjugation.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from harmose.core.basis import LETTERS, Shell
from harmose.errors import FormatError
from harmose.io.assembly import MAX_RADIUS
from harmose.io.hdf5 import h5py, numbers, open_hdf5
from harmose.io.siesta.basis import Species
from harmose.io.siesta.stored import Stored, known
from harmose.spin import Spin
from harmose.units import BOHR, RYDBERG

OTHERS = (".ion.nc", ".grid.nc", ".DM.nc")
"""Endings of other netCDF files of a run."""

NEVER_WRITTEN = 9e36
"""netCDF fills arrays with 9.97e36 until they are written."""


def is_siesta_netcdf(path: Path) -> bool:
    """True for a netCDF4 file with sparse matrices and the basis set of SIESTA."""
    if path.suffix != ".nc" or path.name.endswith(OTHERS) or not path.is_file():
        return False
    try:
        with h5py.File(path, "r") as file:
            return "SPARSE" in file and "BASIS" in file
    except (OSError, RuntimeError):
        return False


def is_damaged_netcdf(path: Path) -> bool:
    """True for a netCDF4 file, which is HDF5, that cannot be opened."""
    if path.suffix != ".nc" or path.name.endswith(OTHERS) or not path.is_file():
        return False
    with path.open("rb") as file:
        if file.read(4) != b"\x89HDF":
            return False
    try:
        with h5py.File(path, "r"):
            return False
    except (OSError, RuntimeError):
        return True


def read_netcdf(path: Path) -> Stored:
    """Read H and S of every spin kind; `FormatError` for a file that is damaged or has no H."""
    with open_hdf5(path) as file:
        counts = np.diff(numbers(file, "lasto").ravel(), prepend=0).astype(np.int64)
        kinds = _species(path, file)
        species_of_atom = numbers(file, "BASIS/basis").ravel().astype(np.int64) - 1
        rows, cols, cells = _elements(path, file, int(counts.sum()))
        h, s = (_matrix(path, file, name, len(rows)) for name in ("SPARSE/H", "SPARSE/S"))
        levels = np.unique(numbers(file, "Ef").ravel())
        values, spin = _components(path, h.reshape(-1, len(rows)) * RYDBERG)
        if len(species_of_atom) != len(counts) or not ((species_of_atom >= 0) & (species_of_atom < len(kinds))).all():
            raise FormatError(f"{path}: expected a species of each of {len(counts)} atoms, got others")
        projectors = max(kind.projector for kind in kinds)
        return Stored(
            positions=numbers(file, "xa").reshape(-1, 3) * BOHR,
            cell=numbers(file, "cell").reshape(3, 3) * BOHR,
            n_cells=numbers(file, "nsc").ravel(),
            species=[kind.species for kind in kinds],
            species_of_atom=species_of_atom,
            counts=counts,
            rows=rows,
            cols=cols,
            cells=cells,
            h=values,
            s=s.ravel(),
            spin=spin,
            # Two levels belong to a fixed spin: there is no common one.
            fermi_level=known(float(levels[0]) * RYDBERG) if len(levels) == 1 else None,
            n_electrons=known(float(numbers(file, "Qtot").ravel()[0])) if "Qtot" in file else None,
            numbers=np.array([kind.number for kind in kinds])[species_of_atom],
            reaches={kind.species.label: kind.orbital + projectors for kind in kinds},
            valence={kind.species.label: kind.valence for kind in kinds if kind.valence is not None},
        )


@dataclass(frozen=True)
class _Kind:
    """One species of the file. `orbital` and `projector`: the longest of each, in angstrom; `valence`: electrons, if stated."""

    id: int
    number: int
    species: Species
    orbital: float
    projector: float
    valence: float | None


def _species(path: Path, file: "h5py.File") -> list[_Kind]:
    groups = [name for name, item in file["BASIS"].items() if isinstance(item, h5py.Group)]
    kinds = sorted((_kind(path, file, label) for label in groups), key=lambda kind: kind.id)
    if not kinds or [kind.id for kind in kinds] != list(range(1, len(kinds) + 1)):
        raise FormatError(f"{path}: BASIS: expected the species 1, 2, ..., got {[kind.id for kind in kinds]}")
    return kinds


def _kind(path: Path, file: "h5py.File", label: str) -> _Kind:
    where, group = f"{path}: BASIS/{label}", f"BASIS/{label}"
    given = {name: np.ravel(file[group].attrs.get(name, ())) for name in ("ID", "Atomic_number")}
    if any(value.size != 1 or value.dtype.kind != "i" for value in given.values()):
        raise FormatError(f"{where}: expected ID and Atomic_number of a species, got none")
    n, l, zeta = (numbers(file, f"{group}/orbnl_{x}").ravel() for x in "nlz")
    if not (len(n) == len(l) == len(zeta) > 0 and n.min() > 0 and l.min() >= 0 and l.max() < len(LETTERS)):
        raise FormatError(f"{where}: expected n > 0 and l = 0..{len(LETTERS) - 1} of every orbital, got others")
    number = int(given["Atomic_number"][0])
    if not 0 < number < len(chemical_symbols):
        raise FormatError(f"{where}: expected an atom with a nucleus, got a ghost or an alloy (number {number})")
    shells = tuple(Shell(*shell) for shell in np.stack([n, l, zeta], axis=1).astype(int).tolist())
    orbitals = numbers(file, f"{group}/cutoff")
    projectors = numbers(file, f"{group}/kbcutoff") if "kbcutoff" in file[group] else np.zeros(0)
    reach = [float(x.max(initial=0.0)) * BOHR for x in (orbitals, projectors)]
    if not (0 < reach[0] < MAX_RADIUS and reach[1] < MAX_RADIUS):
        raise FormatError(f"{where}: expected orbitals that end within {MAX_RADIUS} angstrom, got {reach[0]:.3g}")
    valence = np.ravel(file[group].attrs.get("Valence_charge", ()))
    electrons = float(valence[0]) if valence.size == 1 and valence.dtype.kind in "if" else None
    return _Kind(int(given["ID"][0]), number, Species(label, shells), reach[0], reach[1], electrons)


def _elements(path: Path, file: "h5py.File", n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row, column and R of each element, rows and columns exchanged."""
    per_row, columns = (numbers(file, f"SPARSE/{x}").ravel().astype(np.int64) for x in ("n_col", "list_col"))
    offsets = numbers(file, "SPARSE/isc_off").reshape(-1, 3).astype(np.int64)
    fits = len(per_row) == n > 0 and per_row.min() >= 0 and per_row.sum() == len(columns) > 0
    if not fits or columns.min() < 1 or columns.max() > n * len(offsets):
        raise FormatError(f"{path}: SPARSE: expected elements of {n} orbitals in {len(offsets)} cells, got others")
    cell, column = np.divmod(columns - 1, n)
    return column, np.repeat(np.arange(n), per_row), -offsets[cell]


def _matrix(path: Path, file: "h5py.File", name: str, n_elements: int) -> np.ndarray:
    if name not in file:
        raise FormatError(f"{path}: expected {name}, got a file without it; `SaveHS true` in SIESTA's input writes it")
    values = numbers(file, name)
    if values.size == 0 or values.size % n_elements:
        raise FormatError(f"{path}: {name}: expected values of {n_elements} elements, got {values.shape}")
    if np.abs(values).max() > NEVER_WRITTEN:
        raise FormatError(f"{path}: {name}: expected values, got an array that was never written; `SaveHS true` in SIESTA's "
                          f"input writes it")  # fmt: skip
    return values


def _components(path: Path, h: np.ndarray) -> tuple[np.ndarray, Spin]:
    """Return SIESTA's 1, 2, 4 or 8 real components as those of harmose."""
    if len(h) in (1, 2):
        return h, Spin.NONE if len(h) == 1 else Spin.COLLINEAR
    if len(h) not in (4, 8):
        raise FormatError(f"{path}: SPARSE/H: expected 1, 2, 4 or 8 spin components, got {len(h)}")
    up_down = h[2] - 1j * h[3]
    if len(h) == 4:
        return np.stack([h[0] + 0j, up_down, up_down.conj(), h[1] + 0j]), Spin.SPINOR
    return np.stack([h[0] + 1j * h[4], up_down, h[6] + 1j * h[7], h[1] + 1j * h[5]]), Spin.SPINOR
