"""The one-particle density matrix of a crystal (or a molecule) of any spin, from H and S.

    D(k) = g sum_n f_nk c_nk c_nk^dagger,      D(R) = sum_k w_k exp(-2 pi i k . R) D(k)

so that D(k) = sum_R exp(2 pi i k . R) D(R) as for H, D(-R) = D(R)^dagger, and the electrons of a cell are

    N = sum_R Tr( D(R) S(R)^dagger ) = sum_k w_k Tr( D(k) S(k) )

with g = 2 electrons for each state without spin; a collinear D is that of up and that of down electrons.
"""

from collections.abc import Iterator

import numpy as np

from harmose.core.blocks import BlockMatrix
from harmose.errors import MatrixError
from harmose.physics.kmesh import KMesh
from harmose.physics.occupations import ROOM_TEMPERATURE, Smearing, electrons_per_state, occupations
from harmose.physics.states import Mesh, check_overlap, mesh_fermi_level, mesh_for, states_at
from harmose.spin import Spin


def crystal_density(
    h: BlockMatrix,
    s: BlockMatrix | None,
    n_electrons: float,
    mesh: Mesh,
    smearing: Smearing = ROOM_TEMPERATURE,
) -> BlockMatrix:
    """Return D(R) in the blocks of H, without units, for `n_electrons` per cell.

    Blocks outside the graph are dropped: H and S vanish there, so that Tr(D H) and Tr(D S) lose nothing. Raises
    `MatrixError` without S, as `eigenvalues` and `fermi_level` do, and for a spinor H on a mesh without the points -k.
    """
    mesh = mesh_for(h, mesh)
    values = np.zeros_like(h.values)
    for part, d in weighted_densities(h, s, n_electrons, mesh, smearing):
        values += _blocks(h, d, mesh.kpoints[part])
    return h.with_values(values)


def weighted_densities(
    h: BlockMatrix,
    s: BlockMatrix | None,
    n_electrons: float,
    mesh: KMesh,
    smearing: Smearing = ROOM_TEMPERATURE,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield for each chunk: the slice of its k-points, and w_k D(k) ([2,] n_k, m, m). Raises as `crystal_density`."""
    s = check_overlap(s, "density matrix")
    if h.spin is Spin.SPINOR and mesh.is_reduced:
        raise MatrixError(
            "density matrix: expected the whole mesh for a spinor H (time_reversal=False), got half of it"
        )
    level = mesh_fermi_level(h, s, mesh, n_electrons, smearing)
    for part, energies, c, _ in states_at(h, s, mesh.kpoints):
        filled = electrons_per_state(h.spin) * occupations(energies, level, smearing)
        yield part, (c * filled[..., None, :]) @ c.conj().swapaxes(-1, -2) * mesh.weights[part, None, None]


def electrons(d: BlockMatrix, s: BlockMatrix) -> float:
    """Return the electrons per cell, sum_R Tr(D(R) S(R)^dagger), of both spins; D and S have the same blocks."""
    if not np.array_equal(d.pairs, s.pairs) or not np.array_equal(d.numbers, s.numbers):
        raise MatrixError("electrons: expected D and S with the same atoms and pairs, got different ones")
    diagonal = d.values if d.spin is not Spin.SPINOR else d.values[[0, 3]]  # S does not couple up and down
    overlap = s.values if s.spin is not Spin.SPINOR else s.values[[0, 3]]
    weights = np.repeat(d.multiplicity, np.diff(d.offsets))
    return float((np.real(diagonal * overlap.conj()) * weights).sum())


def _blocks(h: BlockMatrix, d: np.ndarray, kpoints: np.ndarray) -> np.ndarray:
    """Return sum_k exp(-2 pi i k . R) d(k) at the stored elements of each R: (n_components, size)."""
    block, row, col = h.indices
    cells, cell_of_block = np.unique(h.keys[:, 2:], axis=0, return_inverse=True)
    cell = cell_of_block.ravel()[block]
    parts = _components(h, d)
    values = np.empty_like(h.values)
    for index, phases in enumerate(np.exp(-2j * np.pi * cells @ kpoints.T)):
        at = cell == index
        for component, part in enumerate(parts):
            summed = np.tensordot(phases, part, axes=1)[row[at], col[at]]
            # of k and -k, where one stands for both, the imaginary parts cancel
            values[component, at] = summed if h.spin is Spin.SPINOR else np.real(summed)
    return values


def _components(h: BlockMatrix, d: np.ndarray) -> list[np.ndarray]:
    """Return the matrices (n_k, n, n) of each component: one, up and down, or uu, ud, du, dd."""
    n = h.n_orbitals
    if h.spin is Spin.SPINOR:
        return [d[:, a : a + n, b : b + n] for a in (0, n) for b in (0, n)]
    return list(d) if h.spin is Spin.COLLINEAR else [d]
