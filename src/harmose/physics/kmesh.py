"""Meshes of k-points for sums over the Brillouin zone (Monkhorst and Pack, Phys. Rev. B 13, 5188 (1976)).

    k = ((i + s) / n_1, (j + s) / n_2, (l + s) / n_3),      s = 0 (with Gamma) or 1/2 (shifted)

(`monkhorst_pack_mesh`: s = 0 in directions of odd size, 1/2 in those of even size.)

Where H(R) is real (spin none and collinear), H(-k) = H(k)*, so that k and -k have the same energies: one of the two is
kept, with twice the weight. No other symmetry is used: predicted matrices need not have the crystal's exactly.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from harmose.errors import ConfigError
from harmose.physics.kpath import check_crystal, reciprocal_vectors

SPACING = 0.15
"""Largest distance (1/angstrom, 2 pi included) between neighbours in a mesh whose size is chosen from the cell."""

MAX_POINTS = 1_000_000


@dataclass(frozen=True, eq=False)
class KMesh:
    """Fractional `kpoints` (n_k, 3) with `weights` (n_k,) that sum to 1.

    `of_full` (n_1 n_2 n_3,) is the index in `kpoints` of each point of the whole mesh, the last direction fastest.
    """

    size: tuple[int, int, int]
    shifted: bool
    kpoints: np.ndarray
    weights: np.ndarray
    of_full: np.ndarray

    @property
    def is_reduced(self) -> bool:
        """True if some points stand for their negative as well."""
        return len(self.kpoints) < len(self.of_full)

    def __str__(self) -> str:
        return "x".join(map(str, self.size)) + (" shifted" if self.shifted else "")


def kmesh(size: tuple[int, int, int], shifted: bool = False, time_reversal: bool = True) -> KMesh:
    """Return the mesh of `size` points along the reciprocal vectors, with one of k and -k for `time_reversal`.

    `shifted`: by half a step in every direction with more than one point. Raises `ConfigError` for a size
    that is not three positive whole numbers.
    """
    n = np.asarray(size)
    if n.shape != (3,) or n.dtype.kind not in "iu" or (n < 1).any() or np.prod(n, dtype=float) > MAX_POINTS:
        raise ConfigError(f"k-mesh: expected three positive whole numbers, at most {MAX_POINTS} points, got {size}")
    return _mesh(n, (n > 1).astype(np.int64) * bool(shifted), shifted, time_reversal)


def monkhorst_pack_mesh(size: tuple[int, int, int], time_reversal: bool = True) -> KMesh:
    """Return Monkhorst and Pack's own mesh, k = (2 i - n + 1) / 2n: with Gamma in directions of odd size, else shifted.

    CP2K's `MONKHORST-PACK`. Raises `ConfigError` as `kmesh` does.
    """
    n = np.array(kmesh(size).size)
    even = (n % 2 == 0).astype(np.int64)
    return _mesh(n, even, bool(even.any()), time_reversal)


def _mesh(n: np.ndarray, twice_shift: np.ndarray, shifted: bool, time_reversal: bool) -> KMesh:
    index = np.stack(np.unravel_index(np.arange(n.prod()), n), axis=1)
    # -(i + s) / n is the point i' = -i - 2s of the mesh
    partner = np.ravel_multi_index(((-index - twice_shift) % n).T, n)
    own = np.arange(len(index))
    first = np.minimum(own, partner) if time_reversal else own
    kept, of_full, count = np.unique(first, return_inverse=True, return_counts=True)
    k = (index[kept] + twice_shift / 2) / n
    k -= np.round(k - 1e-9)  # into (-1/2, 1/2]
    return KMesh((int(n[0]), int(n[1]), int(n[2])), shifted, k, count / len(index), of_full.ravel())


def mesh_size(structure: Atoms, spacing: float = SPACING) -> tuple[int, int, int]:
    """Return the size of a mesh whose neighbours are at most `spacing` (1/angstrom) apart; 1 where not periodic.

    Sizes above 2 are rounded up to a multiple of 3: with Gamma, such a mesh has the point K of hexagonal lattices, where
    graphene's bands meet; without it the Fermi level of graphene is some meV off.
    """
    check_crystal(structure, "k-mesh")
    if not 0 < spacing < np.inf:
        raise ConfigError(f"k-mesh: expected a positive spacing, got {spacing}")
    lengths = np.linalg.norm(reciprocal_vectors(structure), axis=1)
    least = np.maximum(1, np.ceil(lengths / spacing - 1e-9)).astype(int)
    a, b, c = np.where(least > 2, -(-least // 3) * 3, least).tolist()
    return a, b, c
