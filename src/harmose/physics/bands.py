"""Bands along a path, their Fermi level and gap.

    H(k) c = e S(k) c

The average potential of a crystal is arbitrary: H and H + c S mean the same, and every energy moves by c. Energies here
are on the scale of H. To compare two Hamiltonians, first give their energies a common zero: the Fermi level of each
(`relative`), or an energy that both have (`shifted`).
"""

from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from harmose.core.blocks import BlockMatrix
from harmose.errors import ConfigError, MatrixError
from harmose.physics.ghosts import Ghosts, find_ghosts, warn_of_ghosts
from harmose.physics.kmesh import mesh_size
from harmose.physics.kpath import KPath, check_crystal, explicit_path, kpath
from harmose.physics.occupations import ROOM_TEMPERATURE, Smearing
from harmose.physics.sparse.shift_invert import states_near
from harmose.physics.states import Mesh, check_overlap, energies_and_ratios, mesh_fermi_level
from harmose.spin import Spin

MIN_GAP = 1e-3
"""Smaller gaps (eV) are the noise of a calculation: the bands touch."""


@dataclass(frozen=True)
class Gap:
    """Energies (eV) of the highest occupied and the lowest empty state, the indices of their k-points, and the gaps.

    `indirect` is `lowest_empty - highest_occupied`; `direct` is the smallest such difference at one k-point and of one spin.
    Both are 0 for a metal, where a band crosses the Fermi level or the two energies are within `MIN_GAP`.
    """

    highest_occupied: float
    lowest_empty: float
    k_occupied: int
    k_empty: int
    indirect: float
    direct: float
    is_metal: bool

    @property
    def is_direct(self) -> bool:
        """True if there is a gap and both states are at the same k-point."""
        return not self.is_metal and self.k_occupied == self.k_empty


@dataclass(frozen=True, eq=False)
class Bands:
    """Band energies along a path.

    Attributes:
        kpoints: Fractional coordinates (n_k, 3).
        x: Length of the path up to each k-point (n_k,) in 1/angstrom.
        ticks: Positions of the special points on `x`.
        labels: Names of the special points.
        energies: In eV on the scale of H, ascending: (n_k, n_bands); collinear (2, n_k, n_bands).
        spin: Spin of H.
        fermi_level: In eV on the scale of H, or None.
        ghosts: Ghost levels of a predicted H; None where none were looked for.
    """

    kpoints: np.ndarray
    x: np.ndarray
    ticks: np.ndarray
    labels: tuple[str, ...]
    energies: np.ndarray
    spin: Spin = Spin.NONE
    fermi_level: float | None = None
    ghosts: Ghosts | None = None

    @property
    def by_spin(self) -> np.ndarray:
        """Energies with a spin axis in front: (1 or 2, n_k, n_bands)."""
        return self.energies.reshape(-1, *self.energies.shape[-2:])

    @property
    def required_fermi_level(self) -> float:
        """The Fermi level in eV. Raises `MatrixError` where there is none."""
        if self.fermi_level is None:
            raise MatrixError("bands: the Fermi level is not known; give it, or the number of electrons and a mesh")
        return self.fermi_level

    @property
    def relative(self) -> np.ndarray:
        """Energies (eV) relative to the Fermi level, in the shape of `energies`."""
        return self.energies - self.required_fermi_level

    def shifted(self, by: float) -> "Bands":
        """Return the bands of H + by * S: all energies and the Fermi level move by `by` eV."""
        level = None if self.fermi_level is None else self.fermi_level + by
        return replace(self, energies=self.energies + by, fermi_level=level)

    @property
    def gap(self) -> Gap | None:
        """The gap at the Fermi level between the energies on the path; None if all of them lie on one side."""
        return band_gap(self.by_spin, self.required_fermi_level)


def bands(
    h: BlockMatrix,
    s: BlockMatrix | None,
    path: str | KPath | ArrayLike | None = None,
    structure: Atoms | None = None,
    n_electrons: float | None = None,
    mesh: Mesh | None = None,
    smearing: Smearing = ROOM_TEMPERATURE,
    fermi_level: float | None = None,
    nearest: int | None = None,
    predicted: bool = False,
) -> Bands:
    """Compute the bands of H and S along a path through the Brillouin zone.

    Args:
        h: Hamiltonian in eV, any spin.
        s: Overlap.
        path: Special points such as "GMKG" (a comma for a jump), a `KPath`, or fractional k-points (n_k, 3). Default: the
            usual path of the lattice.
        structure: The crystal. Needed for its cell unless `path` is a `KPath` or k-points.
        n_electrons: Electrons per cell, from which the Fermi level is found unless `fermi_level` is set.
        mesh: k-points of the Fermi level: a `KMesh` or its size, e.g. (15, 15, 1). Default: from the cell (`mesh_size`).
        smearing: Occupation rule of the Fermi level. Default: Fermi-Dirac at 300 K.
        fermi_level: Fermi level in eV, on the scale of H.
        nearest: Compute only so many states at each k-point, those nearest to the Fermi level, from sparse matrices.
        predicted: True for a predicted H: look for ghost levels at some of the k-points, among the levels that are computed.

    Returns:
        `Bands` with `energies` (n_k, n_bands) in eV, collinear (2, n_k, n_bands), and the Fermi level, None if neither it nor
        `n_electrons` is set.

    Raises:
        MatrixError: No S, and as `eigenvalues`; `nearest` without a Fermi level.
        StructureError: A molecule.
        ConfigError: A path that the lattice does not have; no structure where one is needed.

    Warns:
        GhostLevels: A predicted H has ghost levels.

    Examples:
        >>> import harmose
        >>> from ase.build import graphene
        >>> atoms = graphene(a=2.46, vacuum=10.0)
        >>> atoms.pbc = (True, True, False)
        >>> h = harmose.load("graphene-pbe-dzvp").predict(atoms)
        >>> bands = harmose.bands(h, harmose.overlap(atoms, h.basis), "GMKG", atoms, n_electrons=8)
        >>> bands.labels, bands.gap.is_metal
        (('G', 'M', 'K', 'G'), True)
    """
    s = check_overlap(s, "bands")
    if structure is not None:
        check_crystal(structure, "bands")
    along = _path(path, structure)
    if fermi_level is None and n_electrons is not None:
        fermi_level = mesh_fermi_level(h, s, _mesh(mesh, structure), n_electrons, smearing)
    if nearest is None:
        energies, ratios = energies_and_ratios(h, s, along.kpoints, predicted)
    elif fermi_level is None:
        raise MatrixError("bands: `nearest` needs the Fermi level or the number of electrons; got neither")
    else:
        near = states_near(h, s, fermi_level, nearest, along.kpoints)
        energies, ratios = near.energies, near.ratios
    ghosts = None
    if predicted and fermi_level is not None:
        ghosts = find_ghosts(energies, ratios, fermi_level, kpoints=along.kpoints)
        warn_of_ghosts(ghosts)
    return Bands(along.kpoints, along.x, along.ticks, along.labels, energies, h.spin, fermi_level, ghosts)


def band_gap(energies: np.ndarray, fermi_level: float) -> Gap | None:
    """Return the gap of `energies` (n_spins, n_k, n_bands) at `fermi_level`, all in eV; None if all energies lie on one side.

    A Fermi level up to `MIN_GAP` inside a band still counts as the edge of this band: codes write it with few digits, or
    take it from the highest occupied state of their own k-points.
    """
    found = [_gap_at(energies, fermi_level + shift) for shift in (0.0, MIN_GAP, -MIN_GAP)]
    return next((gap for gap in found if gap is not None and not gap.is_metal), found[0])


def _gap_at(energies: np.ndarray, level: float) -> Gap | None:
    """Return the gap between the states at or below `level` and those above."""
    occupied = energies <= level
    if occupied.all() or not occupied.any():
        return None
    filled, empty = np.where(occupied, energies, -np.inf), np.where(occupied, np.inf, energies)
    n_k = energies.shape[1]
    top, bottom = float(filled.max()), float(empty.min())
    k_top, k_bottom = (int(np.argmax(best)) for best in (filled.max(axis=(0, 2)), -empty.min(axis=(0, 2))))
    crosses = (occupied.any(axis=1) & ~occupied.all(axis=1)).any()
    if crosses or bottom - top < MIN_GAP:
        return Gap(top, bottom, k_top, k_bottom, 0.0, 0.0, True)
    at_each_k = (empty.min(axis=2) - filled.max(axis=2)).reshape(-1, n_k)
    return Gap(top, bottom, k_top, k_bottom, bottom - top, float(at_each_k.min()), False)


def _path(path: str | KPath | ArrayLike | None, structure: Atoms | None) -> KPath:
    if isinstance(path, KPath):
        return path
    if path is None or isinstance(path, str):
        if structure is None:
            raise ConfigError(f"bands: the path {path or 'of the lattice'} needs the structure for its cell; got none")
        return kpath(structure, path)
    return explicit_path(path, structure)


def _mesh(mesh: Mesh | None, structure: Atoms | None) -> Mesh:
    if mesh is not None:
        return mesh
    if structure is None:
        raise ConfigError("Fermi level: expected a k-mesh, or the structure to choose one, got neither")
    return mesh_size(structure)
