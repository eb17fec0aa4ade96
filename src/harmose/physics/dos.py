"""Density of states, in total and projected.

    g(E) = sum_k w_k sum_n delta(E - e_nk)          integral g(E) dE = number of orbitals of the cell

where delta is a normalised Gaussian, or the sum over k an integral with energies linear within tetrahedra (MacDonald,
Vosko and Coleridge, J. Phys. C 12, 2991 (1979), as ASE has it). States are counted, not electrons: without spin each holds
two. A projected density has the state's Mulliken weight as a factor, and the projections add up to the total.
"""

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from ase import Atoms
from ase.cell import Cell

from harmose.core.blocks import BlockMatrix
from harmose.errors import ConfigError
from harmose.physics.kmesh import SPACING, KMesh, mesh_size
from harmose.physics.occupations import ROOM_TEMPERATURE, Smearing
from harmose.physics.occupations import fermi_level as found_level
from harmose.physics.projections import Groups, grouping, mulliken
from harmose.physics.states import Mesh, check_overlap, energies_at, mesh_for, states_at
from harmose.spin import Spin

WIDTH = 0.2
"""Of the Gaussians, eV."""

POINTS, MAX_POINTS = 1001, 1_000_000
"""Of the energies: the least number unless another is given, and the greatest."""

FINE_SPACING = 0.08
"""Of the default mesh for Gaussians (1/angstrom): single k-points are not to be seen. Tetrahedra need fewer points."""


@dataclass(frozen=True, eq=False)
class DensityOfStates:
    """`total` (n_e,), collinear (2, n_e), in states per eV and cell at `energies` (n_e,) in eV, on the scale of H.

    `projections` have the shape of `total`. `fermi_level` in eV, None where it is not known.
    """

    energies: np.ndarray
    total: np.ndarray
    projections: dict[str, np.ndarray]
    spin: Spin = Spin.NONE
    fermi_level: float | None = None

    @property
    def zero(self) -> float:
        """Where energies are counted from: the Fermi level, 0 where it is not known."""
        return 0.0 if self.fermi_level is None else self.fermi_level

    @property
    def relative(self) -> np.ndarray:
        """Energies relative to the Fermi level (n_e,), as they are where it is not known."""
        return self.energies - self.zero


def dos(
    h: BlockMatrix,
    s: BlockMatrix | None,
    structure: Atoms,
    mesh: Mesh | None = None,
    n_electrons: float | None = None,
    window: tuple[float, float] | None = None,
    width: float | None = WIDTH,
    by: str | None = None,
    points: int | None = None,
    smearing: Smearing = ROOM_TEMPERATURE,
    fermi_level: float | None = None,
) -> DensityOfStates:
    """The density of states of H and S, any spin, on a mesh of k-points, with a default size for the cell.

    `window` (eV) is relative to the Fermi level, where it is known: given, or that of `n_electrons` per cell with
    `smearing`; by default it holds all levels. `width` is the standard deviation of the Gaussians in eV, None for
    tetrahedra. `by` divides it by "element", "atom", "shell" or "l". `points` energies, by default 1001, or as many as draw
    each Gaussian with five points to its width. A molecule has the one k-point Gamma.

    Raises `MatrixError` without S and as `eigenvalues`, `ConfigError` for a width, window, mesh or division that has no
    meaning.
    """
    s = check_overlap(s, "density of states")
    if width is not None and not 0 < width < np.inf:
        raise ConfigError(f"density of states: expected a positive width in eV, got {width}")
    if points is not None and not 2 <= points <= MAX_POINTS:
        raise ConfigError(f"density of states: expected 2 to {MAX_POINTS} points, got {points}")
    groups = grouping(by)(h) if by is not None else {}
    chosen = mesh_for(h, mesh if mesh is not None else default_mesh(structure, width))
    energies, weights = _levels(h, s, chosen, groups)
    if fermi_level is None and n_electrons is not None:
        fermi_level = found_level(energies, chosen.weights, n_electrons, h.spin, smearing)
    grid = _grid(energies, window, fermi_level or 0.0, width, points)
    n_spins = 2 if h.spin is Spin.COLLINEAR else 1
    # one column of weights for the total, one for each group
    shape = (n_spins, len(chosen.kpoints), -1, energies.shape[-1])
    columns = np.concatenate([np.ones_like(energies).reshape(shape), weights.reshape(shape)], axis=2)
    levels = energies.reshape(n_spins, len(chosen.kpoints), -1)
    if width is not None:
        density = np.stack([_gaussian(*spin, chosen.weights, grid, width) for spin in zip(levels, columns)])
    else:
        density = np.stack([_tetrahedra(*spin, chosen, grid, structure) for spin in zip(levels, columns)])
    density = density if n_spins == 2 else density[0]  # ([2,] 1 + n_groups, n_e)
    projections = {label: density[..., k, :] for k, label in enumerate(groups, start=1)}
    return DensityOfStates(grid, density[..., 0, :], projections, h.spin, fermi_level)


def default_mesh(structure: Atoms, width: float | None = WIDTH) -> tuple[int, int, int]:
    """The size of a mesh for Gaussians of this width, or for tetrahedra; of a molecule the one point Gamma."""
    if not structure.pbc.any():
        return 1, 1, 1
    return mesh_size(structure, SPACING if width is None else FINE_SPACING)


def _levels(h: BlockMatrix, s: BlockMatrix, mesh: KMesh, groups: Groups) -> tuple[np.ndarray, np.ndarray]:
    """Energies ([2,] n_k, n_bands) and the groups' weights ([2,] n_k, n_groups, n_bands)."""
    if not groups:
        energies = energies_at(h, s, mesh.kpoints)
        return energies, np.empty((*energies.shape[:-1], 0, energies.shape[-1]))
    found = [(e, mulliken(c, overlap, groups, h.spin)) for _, e, c, overlap in states_at(h, s, mesh.kpoints)]
    energies, weights = zip(*found, strict=True)
    return np.concatenate(energies, axis=-2), np.concatenate(weights, axis=-3)


def _grid(
    energies: np.ndarray, window: tuple[float, float] | None, zero: float, width: float | None, points: int | None
) -> np.ndarray:
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
    """(n_columns, n_e) of one spin's levels (n_k, n_bands) with `columns` (n_k, n_columns, n_bands)."""
    density = np.zeros((columns.shape[1], len(grid)))
    for levels, column, weight in zip(energies, columns, k_weights, strict=True):
        near = (levels > grid[0] - 9 * width) & (levels < grid[-1] + 9 * width)
        x = (grid - levels[near, None]) / width
        density += weight / (sqrt(2 * pi) * width) * (column[:, near] @ np.exp(-(x**2) / 2))
    return density


def _tetrahedra(
    energies: np.ndarray, columns: np.ndarray, mesh: KMesh, grid: np.ndarray, structure: Atoms
) -> np.ndarray:
    """As `_gaussian`, with ASE's linear tetrahedra on the whole mesh."""
    from ase.dft.dos import linear_tetrahedron_integration

    cell = Cell(np.where(structure.pbc[:, None], structure.cell.array, 0.0)).complete().array
    levels = energies[mesh.of_full].reshape(*mesh.size, -1)
    weights = columns[mesh.of_full].swapaxes(1, 2).reshape(*mesh.size, -1, columns.shape[1])
    return linear_tetrahedron_integration(cell, levels, grid, weights)
