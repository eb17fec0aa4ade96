"""Paths through the Brillouin zone, along which bands are drawn.

Special points, their letters and the default path are ASE's (Setyawan and Curtarolo, Comput. Mater. Sci. 49, 299 (2010))
for the Bravais lattice of the cell as it is, supercells included: in one, two or three dimensions by `structure.pbc`.
`path="seekpath"` takes those of Hinuma et al., Comput. Mater. Sci. 128, 140 (2017), when seekpath is installed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import lazy_loader
import numpy as np
from ase import Atoms
from ase.cell import Cell
from numpy.typing import ArrayLike

from harmose.errors import ConfigError, StructureError
from harmose.physics.bloch import check_kpoints

dft = lazy_loader.load("ase.dft", suppress_warning=True)  # its import takes long: it imports most of SciPy

DENSITY = 20.0
"""K-points per 1/angstrom of a path whose number of points is not set."""

MAX_POINTS = 100_000
"""More points than this on a path are a mistake."""


@dataclass(frozen=True, eq=False)
class KPath:
    """`kpoints` (n_k, 3) in fractions of the reciprocal lattice; `x` (n_k,), the length of the path up to each, in 1/angstrom.

    Lengths of reciprocal vectors include 2 pi. `labels` name special points ("G" is Gamma, "U|K" a jump from U to K) at the
    positions `ticks` on x.
    """

    kpoints: np.ndarray
    x: np.ndarray
    ticks: np.ndarray
    labels: tuple[str, ...]


def kpath(structure: Atoms, path: str | None = None, points: int | None = None, density: float | None = None) -> KPath:
    """Return the path through special points of a crystal's cell, e.g. "GMKG", with a comma for a jump: "GXWK,UX".

    Default: the usual path of the lattice. `points` is the number of k-points, as near as equal steps with every
    special point on the path allow; otherwise there are `density` of them per 1/angstrom, default 20. Raises `StructureError` for a
    molecule, `ConfigError` for points that the lattice does not have.
    """
    if points is not None and not 2 <= points <= MAX_POINTS:
        raise ConfigError(f"k-path: expected 2 to {MAX_POINTS} points, got {points}")
    if density is not None and not 0 < density < np.inf:
        raise ConfigError(f"k-path: expected a positive number of points per 1/angstrom, got {density}")
    check_crystal(structure, "k-path")
    sections, special = _seekpath(structure) if path == "seekpath" else _sections(structure, path)
    reciprocal = reciprocal_vectors(structure)
    length = sum(float(np.linalg.norm((special[b] - special[a]) @ reciprocal)) for a, b in _segments(sections))
    if points is not None:
        density = (points - len(sections)) / length if length else 1.0
    chosen = DENSITY if density is None else density
    if chosen * length > MAX_POINTS:
        raise ConfigError(f"k-path: expected at most {MAX_POINTS} points, got {chosen * length:.3g}")
    return _interpolated(sections, special, reciprocal, chosen)


def explicit_path(kpoints: ArrayLike, structure: Atoms | None = None) -> KPath:
    """Return k-points (n_k, 3) as a path without labels; x is in 1/angstrom, or without a structure the index of the point."""
    k = check_kpoints(kpoints)
    if structure is None:
        return KPath(k, np.arange(len(k), dtype=float), np.zeros(0), ())
    steps = np.linalg.norm(np.diff(k, axis=0) @ reciprocal_vectors(structure), axis=1)
    return KPath(k, np.concatenate([[0.0], np.cumsum(steps)]), np.zeros(0), ())


def special_points(structure: Atoms) -> dict[str, np.ndarray]:
    """Return the fractional coordinates of the lattice's special points by letter."""
    return _sections(structure, None)[1]


def reciprocal_vectors(structure: Atoms) -> np.ndarray:
    """Return rows b_i with a_i . b_j = 2 pi delta_ij (1/angstrom); zero for the directions that are not periodic."""
    cell = Cell(np.where(structure.pbc[:, None], structure.cell.array, 0.0))
    return 2 * np.pi * cell.reciprocal().array * structure.pbc[:, None]


def check_crystal(structure: Atoms, what: str) -> None:
    """Raise `StructureError` unless the structure is periodic and has a lattice vector for each periodic direction."""
    if not structure.pbc.any():
        formula = structure.get_chemical_formula()
        raise StructureError(f"{what}: expected a crystal, got a molecule ({formula}, no periodic direction)")
    cell = np.where(structure.pbc[:, None], structure.cell.array, 0.0)
    if np.linalg.matrix_rank(cell) < structure.pbc.sum():
        raise StructureError(
            f"{what}: expected independent lattice vectors of the periodic directions, got {cell.tolist()}"
        )


def _sections(structure: Atoms, path: str | None) -> tuple[list[list[str]], dict[str, np.ndarray]]:
    """Return the unbroken parts of the path as lists of labels, and the special points of the lattice."""
    cell = Cell(structure.cell.array)
    try:
        usual = cell.bandpath(npoints=0, pbc=structure.pbc.tolist())
    except RuntimeError:
        raise StructureError(f"k-path: ASE does not recognise the lattice of {structure.cell.array.tolist()}") from None
    special = {name: np.asarray(point, dtype=float) for name, point in usual.special_points.items()}
    text = usual.path if path is None else path
    sections = [part for part in dft.kpoints.parse_path_string(text) if part] if _has_letters_only(text) else []
    if not sections or any(label not in special for part in sections for label in part):
        letters = ", ".join(sorted(special))
        dimensions = {1: "one-dimensional ", 2: "two-dimensional ", 3: ""}[int(structure.pbc.sum())]
        raise ConfigError(f"k-path: expected points among {letters} of this {dimensions}cell, got {text!r}")
    return sections, special


def _has_letters_only(text: str) -> bool:
    """True if ASE's parser understands the text: letters, digits behind letters, commas."""
    return text.replace(",", "").isalnum() and all(part[:1].isalpha() for part in text.split(",") if part)


def _seekpath(structure: Atoms) -> tuple[list[list[str]], dict[str, np.ndarray]]:
    try:
        import seekpath
    except ImportError:
        raise ConfigError("k-path: 'seekpath' needs the package seekpath (pip install seekpath)") from None
    if not structure.pbc.all():
        raise ConfigError("k-path: seekpath is for three-dimensional crystals; name the points instead, e.g. GMKG")
    cell = (structure.cell.array, structure.get_scaled_positions(), structure.numbers)
    result = seekpath.get_path_orig_cell(cell, with_time_reversal=True)
    name = {label: "G" if label == "GAMMA" else label.replace("_", "") for label in result["point_coords"]}
    special = {name[label]: np.array(point, dtype=float) for label, point in result["point_coords"].items()}
    sections: list[list[str]] = []
    for start, end in result["path"]:
        if not sections or sections[-1][-1] != name[start]:
            sections.append([name[start]])
        sections[-1].append(name[end])
    return sections, special


def _segments(sections: Sequence[Sequence[str]]) -> Iterator[tuple[str, str]]:
    return ((a, b) for part in sections for a, b in pairwise(part))


def _interpolated(
    sections: Sequence[Sequence[str]], special: Mapping[str, np.ndarray], reciprocal: np.ndarray, density: float
) -> KPath:
    """Return a path with equal steps on each segment, its two ends included."""
    kpoints, x, ticks, labels = [], [], [], []
    length_so_far = 0.0
    for part in sections:
        # where one section ends the next begins, at the same x
        if labels:
            labels[-1] += f"|{part[0]}"
        else:
            labels.append(part[0])
            ticks.append(length_so_far)
        kpoints.append(special[part[0]][None])
        x.append(np.array([length_so_far]))
        for a, b in pairwise(part):
            length = float(np.linalg.norm((special[b] - special[a]) @ reciprocal))
            t = np.linspace(0, 1, max(1, round(length * density)) + 1)[1:]
            kpoints.append(special[a] + t[:, None] * (special[b] - special[a]))
            x.append(length_so_far + t * length)
            length_so_far += length
            labels.append(b)
            ticks.append(length_so_far)
    return KPath(np.concatenate(kpoints), np.concatenate(x), np.array(ticks), tuple(labels))
