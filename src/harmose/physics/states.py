"""Energies and orbitals at many k-points, in chunks, so that memory does not grow with their number."""

from collections.abc import Iterator

import numpy as np

from harmose.core.blocks import BlockMatrix
from harmose.errors import ConfigError, MatrixError
from harmose.physics.eigen import at_kpoints, eigenvalues, solve
from harmose.physics.ghosts import CHECKED_KPOINTS, on_site_of, overlap_ratios
from harmose.physics.kmesh import KMesh, kmesh
from harmose.physics.occupations import ROOM_TEMPERATURE, Smearing, fermi_level
from harmose.spin import Spin

CHUNK = 2**22
"""Number of elements of the matrices of one chunk of k-points (64 MB each)."""

Mesh = KMesh | tuple[int, int, int]
"""A mesh, or the size of a mesh with Gamma."""


def energies_at(h: BlockMatrix, s: BlockMatrix | None, kpoints: np.ndarray) -> np.ndarray:
    """Return `eigenvalues` at many k-points: (n_k, n_bands), collinear (2, n_k, n_bands), in eV."""
    return np.concatenate([eigenvalues(h, s, kpoints[part]) for part in _chunks(h, len(kpoints))], axis=-2)


def states_at(
    h: BlockMatrix, s: BlockMatrix, kpoints: np.ndarray
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield for each chunk: the slice of its k-points, their energies and coefficients from `solve`, and S(k) in H's shape."""
    for part in _chunks(h, len(kpoints)):
        energies, coefficients = solve(h, s, kpoints[part])
        yield part, energies, coefficients, at_kpoints(s, kpoints[part], h.spin)


def energies_and_ratios(
    h: BlockMatrix, s: BlockMatrix, kpoints: np.ndarray, predicted: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return `energies_at`, and the `ghosts.overlap_ratios` of all levels at some of the k-points, NaN at the others.

    Coefficients take as long again as the energies, or longer: only those k-points have them, and none if H is not `predicted`.
    """
    spins = (2,) if h.spin is Spin.COLLINEAR else ()
    energies = np.empty((*spins, len(kpoints), _size(h)))
    ratios = np.full_like(energies, np.nan)
    checked = np.zeros(len(kpoints), dtype=bool)
    if predicted:
        checked[np.linspace(0, len(kpoints) - 1, min(len(kpoints), CHECKED_KPOINTS)).round().astype(int)] = True
    atoms = on_site_of(s, h.spin)
    for part, e, c, overlap in states_at(h, s, kpoints[checked]):
        at = np.flatnonzero(checked)[part]
        energies[..., at, :], ratios[..., at, :] = e, overlap_ratios(c, overlap, atoms)
    if not checked.all():
        energies[..., ~checked, :] = energies_at(h, s, kpoints[~checked])
    return energies, ratios


def mesh_for(h: BlockMatrix, mesh: Mesh) -> KMesh:
    """Return the mesh itself, or the mesh of this size with Gamma; k and -k are one point where H(R) is real."""
    return mesh if isinstance(mesh, KMesh) else kmesh(mesh, time_reversal=h.spin is not Spin.SPINOR)


def mesh_fermi_level(
    h: BlockMatrix, s: BlockMatrix | None, mesh: Mesh, n_electrons: float, smearing: Smearing = ROOM_TEMPERATURE
) -> float:
    """Return the Fermi level in eV, on the scale of H, of `n_electrons` per cell; raises as `eigenvalues` and `fermi_level`."""
    mesh = mesh_for(h, mesh)
    return fermi_level(energies_at(h, s, mesh.kpoints), mesh.weights, n_electrons, h.spin, smearing)


def parse_mesh(text: str) -> tuple[int, int, int]:
    """Return the size of a mesh from `15x15x1`, `15,15,1` or `15` (three times); raises `ConfigError` for other text."""
    parts = text.lower().replace(",", "x").split("x")
    if len(parts) not in (1, 3) or not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(f"k-mesh: expected a size such as 15x15x1, got {text!r}")
    a, b, c = (int(part) for part in (parts * 3 if len(parts) == 1 else parts))
    return a, b, c


def check_overlap(s: BlockMatrix | None, what: str) -> BlockMatrix:
    """Return S; raises `MatrixError` where there is none."""
    if s is None:
        raise MatrixError(f"{what}: the basis is not orthogonal, so the overlap S is needed beside H; got no S")
    return s


def _chunks(h: BlockMatrix, n_k: int) -> Iterator[slice]:
    step = max(1, CHUNK // max(1, _size(h) ** 2))
    return (slice(start, min(start + step, n_k)) for start in range(0, n_k, step))


def _size(h: BlockMatrix) -> int:
    """Return the number of rows of H(k)."""
    return h.n_orbitals * (2 if h.spin is Spin.SPINOR else 1)
