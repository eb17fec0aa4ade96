"""The Fermi level of large cells from the states near it and the number of states below those.

    N = g sum_k w_k (below_k + sum of f((e - E_F) / width) over the states near E_F)

The number below is exact (Sylvester's law of inertia, `factorization`), and states further away than `full_after` widths are full or
empty: the level is that of `states.mesh_fermi_level` to 1e-8 eV.
"""

import numpy as np

from harmose.core.blocks import BlockMatrix
from harmose.errors import MatrixError
from harmose.physics.eigen import check_pair
from harmose.physics.occupations import ROOM_TEMPERATURE, Smearing, electrons_per_state, fermi_level
from harmose.physics.sparse.bloch import pencils
from harmose.physics.sparse.factorization import Factorize, factorizer
from harmose.physics.sparse.settings import DEFAULT, SparseSettings
from harmose.physics.sparse.shift_invert import nearest_states
from harmose.physics.states import Mesh, mesh_for
from harmose.spin import Spin


def counted_fermi_level(
    h: BlockMatrix,
    s: BlockMatrix | None,
    mesh: Mesh,
    n_electrons: float,
    smearing: Smearing = ROOM_TEMPERATURE,
    guess: float = 0.0,
    solver: str | None = None,
    settings: SparseSettings = DEFAULT,
) -> float:
    """Return the Fermi level in eV of `n_electrons` per cell, as `mesh_fermi_level` does; the search begins at `guess` (eV).

    Raises `MatrixError` as `eigen.eigenvalues` does, and where the states do not converge or cannot be counted.
    """
    s = check_pair(h, s)
    mesh = mesh_for(h, mesh)
    factorize = factorizer(solver, settings)
    size = h.n_orbitals * (2 if h.spin is Spin.SPINOR else 1)
    per_state = electrons_per_state(h.spin)
    level, n = float(guess), min(settings.first_states, size - 2)
    used = slice(0, 1)  # one k-point is enough to come near
    for _ in range(settings.max_moves):
        kpoints, weights = mesh.kpoints[used], mesh.weights[used] / mesh.weights[used].sum()
        energies, below = _states_and_counts(h, s, kpoints, level, n, factorize, settings)
        remaining = n_electrons - per_state * float((below * weights).sum())
        capacity = per_state * energies.shape[-1] * (2 if h.spin is Spin.COLLINEAR else 1)
        if not 0 < remaining < capacity:
            level = _extrapolate(energies, remaining / capacity)
            continue
        level = fermi_level(energies, weights, remaining, h.spin, smearing)
        if len(kpoints) < len(mesh.kpoints):
            used = slice(None)
            continue
        margin = settings.full_after * smearing.width
        if energies[..., 0].max() < level - margin and energies[..., -1].min() > level + margin:
            return level
        if n >= size // 4:
            break
        n = min(2 * n, size // 4)
    raise MatrixError(f"Fermi level: the states that hold {n_electrons:g} electrons were not found around {level:g} eV")


def _states_and_counts(
    h: BlockMatrix,
    s: BlockMatrix,
    kpoints: np.ndarray,
    level: float,
    n: int,
    factorize: Factorize,
    settings: SparseSettings,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the `n` energies nearest to `level` at each k-point ([2,] n_k, n), and the number of those below ([2,] n_k)."""
    energies, below = [], []
    for k in kpoints:
        states = [nearest_states(*pair, level, n, factorize, settings=settings) for pair in pencils(h, s, k)]
        energies.append([state[0] for state in states])
        below.append([state[2] for state in states])
    if np.min(below) < 0:
        raise MatrixError("Fermi level: the solver cannot count the states below an energy")
    by_spin = np.array(energies).swapaxes(0, 1), np.array(below).T
    return by_spin if h.spin is Spin.COLLINEAR else (by_spin[0][0], by_spin[1][0])


def _extrapolate(energies: np.ndarray, filling: float) -> float:
    """Return the energy of a filling outside 0 to 1, from the density of the states that 0 to 1 stands for."""
    low, high = float(energies[..., 0].mean()), float(energies[..., -1].mean())
    step = (filling - 0.5) * (high - low)
    return (low + high) / 2 + float(np.clip(step, -10.0, 10.0))
