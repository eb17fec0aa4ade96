"""Density of states: from all states, with projections, or by kernel polynomials for large cells.

    g(E) = sum_k w_k sum_n delta(E - e_nk)          integral g(E) dE = number of orbitals of the cell

where delta is a normalised Gaussian, or the sum over k an integral with energies linear within tetrahedra (MacDonald,
Vosko and Coleridge, J. Phys. C 12, 2991 (1979), as ASE has it). States are counted, not electrons: without spin each holds
two. A projected density has the state's Mulliken weight as a factor, and the projections add up to the total.
"""

from dataclasses import dataclass, field
from math import pi, sqrt
from typing import Literal

import numpy as np
from ase import Atoms
from ase.cell import Cell
from ase.dft.dos import linear_tetrahedron_integration

from harmose.core.blocks import BlockMatrix
from harmose.errors import ConfigError
from harmose.physics.density_of_states import DensityOfStates
from harmose.physics.ghosts import find_ghosts, on_site_of, overlap_ratios, warn_of_ghosts
from harmose.physics.kmesh import SPACING, KMesh, mesh_size
from harmose.physics.occupations import ROOM_TEMPERATURE, Smearing
from harmose.physics.occupations import fermi_level as find_fermi_level
from harmose.physics.projections import Groups, grouping, mulliken
from harmose.physics.sparse.kpm import KpmSettings, kpm
from harmose.physics.states import Mesh, check_overlap, energies_and_ratios, mesh_for, states_at
from harmose.spin import Spin

POINTS, MAX_POINTS = 1001, 1_000_000
"""Number of energies: the least unless another is set, and the greatest."""

GAUSSIAN_SPACING = 0.08
"""Spacing of the default mesh for Gaussians (1/angstrom), so fine that single k-points are not visible. Tetrahedra need fewer."""

DENSE_ORBITALS = 6000
"""Most orbitals for which all states are computed by default; this takes minutes and grows with the cube."""

KPM_WINDOW = (-20.0, 10.0)
"""Default window of kernel polynomials in eV, which need one before they know the spectrum."""


@dataclass(frozen=True)
class DosSettings:
    """Settings of `dos`.

    Attributes:
        window: Lowest and highest energy in eV, relative to the Fermi level or, without one, on the scale of H. Default: all.
        width: Standard deviation of the Gaussians in eV; None for linear tetrahedra.
        by: Project on "element", "atom", "shell" or "l".
        points: Number of energies. Default: 1001, or as many as draw each Gaussian with five points to its width.
        smearing: Occupation rule of the Fermi level.
        method: "dense": all states. "kpm": kernel polynomials at Gamma, in linear time; default window -20 to 10 eV.
            "auto": kpm above 6000 orbitals, unless tetrahedra, projections or a mesh exclude it.
        kpm: Settings of the kernel polynomials.
    """

    window: tuple[float, float] | None = None
    width: float | None = 0.2
    by: str | None = None
    points: int | None = None
    smearing: Smearing = ROOM_TEMPERATURE
    method: Literal["auto", "dense", "kpm"] = "auto"
    kpm: KpmSettings = field(default_factory=KpmSettings)

    def __post_init__(self) -> None:
        if self.width is not None and not 0 < self.width < np.inf:
            raise ConfigError(f"density of states: expected a positive width in eV, got {self.width}")
        if self.points is not None and not 2 <= self.points <= MAX_POINTS:
            raise ConfigError(f"density of states: expected 2 to {MAX_POINTS} points, got {self.points}")
        if self.by is not None:
            grouping(self.by)
        if self.method not in ("auto", "dense", "kpm"):
            raise ConfigError(f"method: expected auto, dense or kpm, got {self.method!r}")


def dos(
    h: BlockMatrix,
    s: BlockMatrix | None,
    structure: Atoms,
    mesh: Mesh | None = None,
    n_electrons: float | None = None,
    fermi_level: float | None = None,
    settings: DosSettings = DosSettings(),
    predicted: bool = False,
) -> DensityOfStates:
    """Compute the density of states of H and S: from all energies on a mesh of k-points, or by kernel polynomials.

    Kernel polynomials take H and S at Gamma. Their Fermi level, from `n_electrons`, is that of zero temperature and has a
    statistical error of up to some tenths of an eV: set `fermi_level` if it is known.

    Args:
        h: Hamiltonian in eV, any spin.
        s: Overlap.
        structure: The crystal or molecule.
        mesh: k-points, a `KMesh` or its size, e.g. (15, 15, 1). Default: from the cell; Gamma for a molecule.
        n_electrons: Electrons per cell, from which the Fermi level is found unless `fermi_level` is set.
        fermi_level: Fermi level in eV, on the scale of H.
        settings: Energies, broadening and projections.
        predicted: True for a predicted H: look for ghost levels at some of the k-points. Kernel polynomials have no levels.

    Returns:
        The density in states per eV and cell.

    Raises:
        MatrixError: No S, and as `eigenvalues`.
        ConfigError: A window or mesh without meaning, or kernel polynomials with tetrahedra, projections or a mesh.

    Warns:
        GhostLevels: A predicted H has ghost levels.

    Examples:
        >>> import harmose
        >>> from ase.build import molecule
        >>> from harmose.physics.dos import DosSettings
        >>> atoms = molecule("H2O")
        >>> h = harmose.load("water-pbe-def2svp").predict(atoms)
        >>> s = harmose.overlap(atoms, h.basis)
        >>> density = harmose.dos(h, s, atoms, n_electrons=10, settings=DosSettings(window=(-30, 10), by="element"))
        >>> list(density.projections), density.total.shape
        (['O', 'H'], (1001,))
    """
    s = check_overlap(s, "density of states")
    if uses_kpm(h.n_orbitals, mesh, settings):
        window, width = settings.window or KPM_WINDOW, settings.width or 0.0
        polynomials = kpm(h, s, structure, window, width, n_electrons, fermi_level, settings=settings.kpm)
        return polynomials.dos(window, settings.points or POINTS)[0]
    groups = grouping(settings.by)(h) if settings.by is not None else {}
    mesh = mesh_for(h, mesh if mesh is not None else default_mesh(structure, settings.width))
    energies, weights, ratios = _energies_and_weights(h, s, mesh, groups, predicted)
    if fermi_level is None and n_electrons is not None:
        fermi_level = find_fermi_level(energies, mesh.weights, n_electrons, h.spin, settings.smearing)
    if predicted and fermi_level is not None:
        warn_of_ghosts(find_ghosts(energies, ratios, fermi_level, kpoints=mesh.kpoints))
    grid = _grid(energies, fermi_level or 0.0, settings)
    n_spins = 2 if h.spin is Spin.COLLINEAR else 1
    # one column of weights for the total, one for each group
    shape = (n_spins, len(mesh.kpoints), -1, energies.shape[-1])
    columns = np.concatenate([np.ones_like(energies).reshape(shape), weights.reshape(shape)], axis=2)
    by_spin = zip(energies.reshape(n_spins, len(mesh.kpoints), -1), columns)
    if settings.width is not None:
        density = np.stack([_gaussian(*spin, mesh.weights, grid, settings.width) for spin in by_spin])
    else:
        density = np.stack([_tetrahedra(*spin, mesh, grid, structure) for spin in by_spin])
    density = density if n_spins == 2 else density[0]  # ([2,] 1 + n_groups, n_e)
    projections = {label: density[..., k, :] for k, label in enumerate(groups, start=1)}
    return DensityOfStates(grid, density[..., 0, :], projections, h.spin, fermi_level)


def uses_kpm(n_orbitals: int, mesh: Mesh | None, settings: DosSettings) -> bool:
    """Return True if `dos` uses kernel polynomials for so many orbitals.

    Raises:
        ConfigError: The method is "kpm", and tetrahedra, projections or a mesh exclude it.
    """
    excluding = {"by": settings.by is not None, "tetrahedra": settings.width is None, "mesh": mesh is not None}
    names = [name for name, excludes in excluding.items() if excludes]
    if settings.method == "kpm" and names:
        raise ConfigError(f"{names[0]}: expected method dense, got kpm")
    return settings.method == "kpm" or (settings.method == "auto" and not names and n_orbitals > DENSE_ORBITALS)


def default_mesh(structure: Atoms, width: float | None) -> tuple[int, int, int]:
    """Return the size of a mesh for Gaussians of this width, or for tetrahedra (None); Gamma alone for a molecule."""
    if not structure.pbc.any():
        return 1, 1, 1
    return mesh_size(structure, SPACING if width is None else GAUSSIAN_SPACING)


def _energies_and_weights(
    h: BlockMatrix, s: BlockMatrix, mesh: KMesh, groups: Groups, predicted: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return energies ([2,] n_k, n_bands), weights of the groups ([2,] n_k, n_groups, n_bands), and `energies_and_ratios`'s ratios."""
    if not groups:
        energies, ratios = energies_and_ratios(h, s, mesh.kpoints, predicted)
        return energies, np.empty((*energies.shape[:-1], 0, energies.shape[-1])), ratios
    atoms = on_site_of(s, h.spin)
    chunks = [
        (e, mulliken(c, overlap, groups, h.spin), overlap_ratios(c, overlap, atoms))
        for _, e, c, overlap in states_at(h, s, mesh.kpoints)
    ]
    energies, weights, ratios = zip(*chunks, strict=True)
    return np.concatenate(energies, axis=-2), np.concatenate(weights, axis=-3), np.concatenate(ratios, axis=-2)


def _grid(energies: np.ndarray, zero: float, settings: DosSettings) -> np.ndarray:
    """Return the energies (n_e,) at which the density is computed; the window is relative to `zero` (eV)."""
    width, points, window = settings.width, settings.points, settings.window
    margin = 0.5 if width is None else 6 * width
    low, high = (energies.min() - margin - zero, energies.max() + margin - zero) if window is None else window
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ConfigError(f"window: expected two energies in eV, the lower first, got {low:g} and {high:g}")
    if points is None:
        points = int(np.clip(5 * (high - low) / (width or np.inf), POINTS, MAX_POINTS))
    return zero + np.linspace(low, high, points)


def _gaussian(
    energies: np.ndarray, columns: np.ndarray, k_weights: np.ndarray, grid: np.ndarray, width: float
) -> np.ndarray:
    """Return the density (n_columns, n_e) of one spin: energies (n_k, n_bands) with weights (n_k, n_columns, n_bands)."""
    density = np.zeros((columns.shape[1], len(grid)))
    for e, column, weight in zip(energies, columns, k_weights, strict=True):
        near = (e > grid[0] - 9 * width) & (e < grid[-1] + 9 * width)
        x = (grid - e[near, None]) / width
        density += weight / (sqrt(2 * pi) * width) * (column[:, near] @ np.exp(-(x**2) / 2))
    return density


def _tetrahedra(
    energies: np.ndarray, columns: np.ndarray, mesh: KMesh, grid: np.ndarray, structure: Atoms
) -> np.ndarray:
    """Return the same as `_gaussian` by ASE's linear tetrahedra on the whole mesh."""
    cell = Cell(np.where(structure.pbc[:, None], structure.cell.array, 0.0)).complete().array
    full = energies[mesh.of_full].reshape(*mesh.size, -1)
    weights = columns[mesh.of_full].swapaxes(1, 2).reshape(*mesh.size, -1, columns.shape[1])
    return linear_tetrahedron_integration(cell, full, grid, weights)
