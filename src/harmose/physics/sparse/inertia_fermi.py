"""The Fermi level of large cells without all of their bands: from the states near it, and the number of those below.

    N = g sum_k w_k (below_k + sum of f((e - E_F) / width) over the states near E_F)

The number of states below a level is exact (`physics.factorization`), states further away than `COVER` widths are full or empty,
and so the level is that of `states.mesh_fermi_level` to 1e-8 eV.
"""

import numpy as np

from harmose.core.blocks import BlockMatrix
from harmose.errors import MatrixError
from harmose.physics.eigen import check_pair
from harmose.physics.occupations import ROOM_TEMPERATURE, Smearing, electrons_per_state, fermi_level
from harmose.physics.sparse.bloch import pencils
from harmose.physics.sparse.factorization import Dense, Factorize, Factors, SuperLU, factorizer
from harmose.physics.sparse.shift_invert import nearest
from harmose.physics.states import Mesh, mesh_for
from harmose.spin import Spin

COVER = 25.0
"""Widths from the Fermi level beyond which a state of Fermi and Dirac's rule is full or empty to 1e-11."""
FIRST = 24
"""States that are found at first."""
DENSE = 3000
"""Orbitals up to which matrices are factorized as dense ones."""
MOVES = 30
"""How often the search may move."""


def counted_fermi_level(
    h: BlockMatrix,
    s: BlockMatrix | None,
    mesh: Mesh,
    n_electrons: float,
    smearing: Smearing = ROOM_TEMPERATURE,
    guess: float = 0.0,
    solver: str | None = None,
) -> float:
    """The Fermi level in eV of `n_electrons` per cell, as of `mesh_fermi_level`; the search begins at `guess`.

    Raises `MatrixError` as `eigen.eigenvalues` and where the states cannot be counted or found.
    """
    s = check_pair(h, s)
    mesh = mesh_for(h, mesh)
    factorize = Dense if solver is None and _size(h) <= DENSE else _counting(factorizer(solver, counts=True))
    level, n = float(guess), min(FIRST, _size(h) - 2)
    some = slice(0, 1)  # one k-point is enough to come near
    for _ in range(MOVES):
        kpoints, weights = mesh.kpoints[some], mesh.weights[some] / mesh.weights[some].sum()
        energies, below = _near(h, s, kpoints, level, n, factorize)
        remaining = n_electrons - electrons_per_state(h.spin) * float((below * weights).sum())
        capacity = electrons_per_state(h.spin) * energies.shape[-1] * (2 if h.spin is Spin.COLLINEAR else 1)
        if not 0 < remaining < capacity:
            level = _moved(energies, remaining / capacity)
            continue
        if len(kpoints) < len(mesh.kpoints):
            level, some = fermi_level(energies, weights, remaining, h.spin, smearing), slice(None)
            continue
        level = fermi_level(energies, mesh.weights, remaining, h.spin, smearing)
        margin = COVER * smearing.width
        if energies[..., 0].max() < level - margin and energies[..., -1].min() > level + margin:
            return level
        if n >= _size(h) // 4:
            break
        n = min(2 * n, _size(h) // 4)
    raise MatrixError(f"Fermi level: the states that hold {n_electrons:g} electrons were not found around {level:g} eV")


def _size(h: BlockMatrix) -> int:
    return h.n_orbitals * (2 if h.spin is Spin.SPINOR else 1)


def _counting(factorize: Factorize) -> Factorize:
    """The same factors, or SuperLU's of the diagonal alone where those do not tell the number of negative eigenvalues."""

    def factors(matrix) -> Factors:
        found = factorize(matrix)
        if found.negative() is not None:
            return found
        found.free()
        return SuperLU(matrix, 0.0)  # stable or not: `nearest` checks the states

    return factors


def _near(
    h: BlockMatrix, s: BlockMatrix, kpoints: np.ndarray, level: float, n: int, factorize: Factorize
) -> tuple[np.ndarray, np.ndarray]:
    """The `n` states nearest to `level` at each k-point ([2,] n_k, n), and the number of those below ([2,] n_k)."""
    energies, below = [], []
    for k in kpoints:
        found = [nearest(h_k, s_k, level, n, factorize) for h_k, s_k in pencils(h, s, k)]
        energies.append([each[0] for each in found])
        below.append([each[2] for each in found])
    if np.min(below) < 0:
        raise MatrixError("Fermi level: the states below a level could not be counted, for lack of stable pivots")
    by_spin = np.array(energies).swapaxes(0, 1), np.array(below).T
    return by_spin if h.spin is Spin.COLLINEAR else (by_spin[0][0], by_spin[1][0])


def _moved(energies: np.ndarray, filling: float) -> float:
    """A new level, where the density of states that was found puts a filling (0 to 1 is within the states that were found)."""
    low, high = float(energies[..., 0].mean()), float(energies[..., -1].mean())
    step = (filling - 0.5) * (high - low)
    return (low + high) / 2 + float(np.clip(step, -10.0, 10.0))
