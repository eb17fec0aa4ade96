"""OpenMX's radial functions of an element, from a `.pao` file or one compressed by gzip (`.pao.gz`).

    AtomSpecies, radial.cutoff.pao       atomic number; radius (Bohr) at which the functions end
    PAO.Lmax, PAO.Mul                    largest l, number of functions of each l
    <pseudo.atomic.orbitals.L=0          rows: ln r, r (Bohr), R of the first function of l = 0, R of the second, ...
    pseudo.atomic.orbitals.L=0>          the same for each l up to PAO.Lmax

A basis set such as `C6.0-s2p2d1` is the first two functions of l = 0 and of l = 1 and the first of l = 2 in `C6.0.pao`.
OpenMX interpolates them with cubic polynomials whose slopes at the points are those of parabolas through three points, and
integrates on 900 intervals up to 0.5 Bohr beyond the cutoff; its S is of such sums.
"""

import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
from ase.data import chemical_symbols

from harmose.core.basis import LETTERS, BasisSet
from harmose.core.radial import RadialBasis, Tabulated
from harmose.core.species import atomic_number_of, symbol_of
from harmose.errors import BasisError, FormatError
from harmose.io.assembly import rounded_up
from harmose.io.openmx.names import NAME, OPENMX_BOHR, PaoName, parse_pao

ENDINGS = (".pao", ".pao.gz")

INTERVALS = 900
"""Number of intervals of OpenMX's radial grid (1DFFT.NumGridR)."""

BEYOND = 0.5
"""Length in Bohr by which that grid reaches beyond the cutoff."""

MAX_SIZE = 100_000_000
"""Largest number of bytes of a file, uncompressed. Real files have about 1 MB."""

MAX_CUTOFF = 50.0
"""Largest cutoff in Bohr. Real ones are 4 to 12."""


@dataclass(frozen=True, eq=False)
class Pao:
    """Content of a file, in Bohr.

    Attributes:
        path: the file.
        number: atomic number.
        cutoff: radius at which the functions end.
        radii: distances (Q,) of the tables, ascending.
        tables: R of every function (n, Q) in Bohr^(-3/2), by l.
    """

    path: Path
    number: int
    cutoff: float
    radii: np.ndarray
    tables: Mapping[int, np.ndarray]

    @property
    def radius(self) -> float:
        """Radius (angstrom) of an atom: the cutoff, as in basis sets that are read from a run."""
        return rounded_up(self.cutoff * OPENMX_BOHR, 1e-6)

    def functions(self, degrees: Sequence[int]) -> tuple[Tabulated, ...]:
        """Return the radial functions of shells: for the k-th shell of an l, the k-th function of this l.

        Args:
            degrees: l of each shell.

        Returns:
            One table for each shell, in angstrom, on OpenMX's grid.

        Raises:
            BasisError: the file has fewer functions.
        """
        counts: dict[int, int] = {}
        functions = []
        for l in degrees:
            counts[l] = counts.get(l, 0) + 1
            if counts[l] > len(self.tables.get(l, ())):
                raise BasisError(f"{self.path}: expected at least {counts[l]} functions of l = {l}, got "
                                 f"{len(self.tables.get(l, ()))}")  # fmt: skip
            functions.append(self._function(l, counts[l] - 1))
        return tuple(functions)

    def _function(self, l: int, k: int) -> Tabulated:
        r, values = self.radii, self.tables[l][k]
        step = (self.cutoff + BEYOND) / INTERVALS
        ends = np.flatnonzero(values)[-1] + 1  # the first point from which on the function is zero
        points = step * np.arange(int(np.ceil(r[min(ends, len(r) - 1)] / step)) + 1)
        spline = scipy.interpolate.CubicHermiteSpline(r, values, np.gradient(values, r), extrapolate=False)
        inner = points < r[0]
        f = np.nan_to_num(spline(points)) / np.where(inner, 1.0, points) ** l
        f[inner] = values[0] / r[0] ** l  # R / r^l does not change between the origin and the first point
        norm = float(np.sum(points ** (2 * l + 2) * f**2) * step)
        if not abs(norm - 1) < 1e-2:
            raise FormatError(f"{self.path}: expected normalised functions, got a norm of {norm:.5g} for l = {l}, "
                              f"function {k + 1}")  # fmt: skip
        return Tabulated(l, f * OPENMX_BOHR ** -(l + 1.5), step * OPENMX_BOHR, step * OPENMX_BOHR)


def read_paos(names: Sequence[str], files: Sequence[str | Path]) -> RadialBasis:
    """Read the basis sets with these names as one.

    Args:
        names: names such as "C6.0-s2p2d1", one for each element.
        files: their `.pao` files, or folders that hold them, such as `DFT_DATA19/PAO` or `DFT_DATA19`.

    Returns:
        The radial functions. The radius of an element is the cutoff of its functions: OpenMX's H ends where S ends.

    Raises:
        FormatError: a name is of another form, or a file is missing, damaged or of another kind.
        BasisError: two names of one element, or a file has fewer functions than its name asks for.
    """
    shells, radii, functions = {}, {}, {}
    for name in map(parse_pao, names):
        _check_not_contracted(name)
        pao = read_pao(_file_of(name, [Path(file) for file in files]))
        if pao.number in shells:
            raise BasisError(f"{name.text}: expected one basis set for each element, got a second one for "
                             f"{chemical_symbols[pao.number]}")  # fmt: skip
        shells[pao.number], radii[pao.number] = name.shells, pao.radius
        functions[pao.number] = pao.functions([shell.l for shell in name.shells])
    return RadialBasis(BasisSet(NAME, shells, radii), functions)


def read_paos_like(basis: BasisSet, files: Sequence[str | Path], names: Mapping[str, str] | None = None) -> RadialBasis:
    """Read the radial functions of a basis set.

    Args:
        basis: basis set of samples that were read from OpenMX's runs.
        files: `.pao` files, one for each element, or folders that hold them.
        names: name of each element's basis set, such as {"C": "C6.0-s2p2d1"}. Default: in a folder, the file of the element
            whose cutoff is the radius of `basis`.

    Returns:
        The radial functions of the elements of `basis`.

    Raises:
        FormatError: a file is missing, damaged or of another kind, or several files have the same cutoff.
        BasisError: a file has fewer functions than `basis` has shells.
    """
    files = [Path(file) for file in files]
    paos = [read_pao(file) for file in files if not file.is_dir()]
    given = {pao.number: pao for pao in paos}
    if len(given) < len(paos):
        twice = next(p for p in paos if given[p.number] is not p)
        raise BasisError(f"{twice.path}: expected one file for each element, got a second one for "
                         f"{chemical_symbols[twice.number]}")  # fmt: skip
    functions = {}
    for z in basis.elements:
        name = (names or {}).get(symbol_of(z), "")
        pao = given.get(atomic_number_of(z)) or _pao_in_folders(
            z, basis.radii[z], name, [file for file in files if file.is_dir()]
        )
        functions[z] = pao.functions(basis.degrees(z))
    return RadialBasis(basis, functions)


def read_pao(path: str | Path) -> Pao:
    """Read a `.pao` file, or one compressed by gzip.

    Args:
        path: the file.

    Returns:
        All its radial functions.

    Raises:
        FormatError: the file is missing, damaged or of another kind.
    """
    path = Path(path)
    text = _text(path)
    number, cutoff = _value(path, text, "AtomSpecies"), _value(path, text, "radial.cutoff.pao")
    if number not in range(1, len(chemical_symbols)):
        raise FormatError(f"{path}: expected the functions of an element, got AtomSpecies {number:g} (an empty or virtual "
                          "atom), which harmose does not support")  # fmt: skip
    if not 0.5 < cutoff < MAX_CUTOFF:
        raise FormatError(f"{path}: expected a radial.cutoff.pao of 0.5 to {MAX_CUTOFF:g} Bohr, got {cutoff:g}")
    l_max, multiplicity = _value(path, text, "PAO.Lmax"), _value(path, text, "PAO.Mul")
    if l_max not in range(len(LETTERS)) or multiplicity not in range(1, 1000):
        raise FormatError(f"{path}: expected PAO.Lmax from 0 to {len(LETTERS) - 1} and PAO.Mul from 1, got {l_max:g} and "
                          f"{multiplicity:g}")  # fmt: skip
    tables = [_table(path, text, l, int(multiplicity)) for l in range(int(l_max) + 1)]
    radii = tables[0][:, 1]
    if any(table.shape != tables[0].shape or not np.array_equal(table[:, 1], radii) for table in tables):
        raise FormatError(f"{path}: expected the functions of all l at the same distances, got others")
    return Pao(path, int(number), cutoff, radii, {l: table[:, 2:].T.copy() for l, table in enumerate(tables)})


def _text(path: Path) -> str:
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MAX_SIZE + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(
            f"{path}: expected radial functions of OpenMX, got a file that cannot be read ({error})"
        ) from None
    if len(content) > MAX_SIZE:
        raise FormatError(f"{path}: expected radial functions of OpenMX, got more than {MAX_SIZE // 10**6} MB")
    return content.decode("latin-1")


def _value(path: Path, text: str, key: str) -> float:
    """Return the number after a key at the beginning of a line; its last value, since the file repeats inputs."""
    found = re.findall(rf"^[ \t]*{re.escape(key)}[ \t]+(\S+)", text, re.MULTILINE)
    try:
        return float(found[-1])
    except (IndexError, ValueError):
        got = f"{found[-1]!r}" if found else "none"
        raise FormatError(f"{path}: expected radial functions of OpenMX with a number after {key}, got {got}") from None


def _table(path: Path, text: str, l: int, multiplicity: int) -> np.ndarray:
    """Return the rows of one l (Q, 2 + multiplicity)."""
    key = f"pseudo.atomic.orbitals.L={l}"
    _, start, rest = text.partition(f"<{key}\n" if f"<{key}\n" in text else f"<{key}\r\n")
    body, end, _ = rest.partition(f"{key}>")
    if not (start and end):
        raise FormatError(f"{path}: expected the functions of l = {l} from <{key} to {key}>, got a truncated file")
    try:
        rows = np.array(body.split(), dtype=np.float64).reshape(len(body.strip().splitlines()), 2 + multiplicity)
    except ValueError:
        raise FormatError(f"{path}: expected rows of {2 + multiplicity} numbers for l = {l}, got others") from None
    r = rows[:, 1]
    if len(r) < 10 or not (np.isfinite(rows).all() and r[0] > 0 and (np.diff(r) > 0).all()):
        raise FormatError(
            f"{path}: expected finite functions at 10 or more ascending distances for l = {l}, got others"
        )
    if not np.abs(rows[:, 2:]).max(axis=0).all():
        raise FormatError(f"{path}: expected functions that are not zero everywhere for l = {l}, got one that is")
    return rows


def _check_not_contracted(name: PaoName) -> None:
    if name.counts != name.primitives:
        raise BasisError(f"{name.text}: expected functions that are in the .pao file, got contracted ones, which OpenMX makes "
                         "while it runs (orbitalOpt)")  # fmt: skip


def _file_of(name: PaoName, files: Sequence[Path]) -> Path:
    """Return the file of a basis set: the only one, the one with its name, or the one in a folder."""
    if len(files) == 1 and not files[0].is_dir():
        return files[0]
    wanted = [name.file + ending for ending in ENDINGS]
    places = [file for file in files if not file.is_dir() and file.name in wanted]
    places += [
        place / own for folder in files if folder.is_dir() for place in (folder, folder / "PAO") for own in wanted
    ]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FormatError(f"{name.text}: expected the file {wanted[0]}, or a folder that holds it (DFT_DATA19/PAO of OpenMX), "
                          f"got {', '.join(map(str, files)) or 'none'}")  # fmt: skip
    return found


def _pao_in_folders(z: int, radius: float, name: str, folders: Sequence[Path]) -> Pao:
    """Return the file of an element in folders: the one with its name, or with the radius (angstrom)."""
    symbol = symbol_of(atomic_number_of(z))
    if name and "+" not in name and folders:
        return read_pao(_file_of(parse_pao(name), folders))
    places = [place for folder in folders for place in (folder, folder / "PAO")]
    candidates = sorted(
        {file for place in places for ending in ENDINGS for file in place.glob(f"{symbol}[0-9]*{ending}")}
    )
    found = [
        pao
        for pao in map(read_pao, candidates)
        if pao.number == atomic_number_of(z) and abs(pao.radius - radius) < 1e-3
    ]
    if len(found) != 1:
        names = ", ".join(pao.path.name for pao in found) or "none"
        raise FormatError(f"{symbol}: expected one .pao file with a cutoff of {radius / OPENMX_BOHR:.4g} Bohr, got {names}; "
                          "give the file of each element")  # fmt: skip
    return found[0]
