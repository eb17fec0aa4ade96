"""Reference orbitals of each training sample, for losses on orbitals and their energies.

Every sample is solved once, before training, `H c = e S c`: molecules as they are, crystals at `POINTS` k-points. Basis
functions are atom by atom in the order of a `GraphBatch` (shell type after shell type); at k-points coefficients are in the
atomic Bloch gauge, `c_a -> exp(-i k . r_a) c_a`, in which the phase of a pair is that of its vector.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harmose.core.electrons import moment_signs
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import MatrixError
from harmose.physics.bands import MIN_GAP
from harmose.physics.eigen import solve
from harmose.representation.block_irreps import BlockIrreps
from harmose.representation.concatenation import TargetSettings
from harmose.spin import Spin

POINTS = 4
"""Number of k-points of a crystal: Gamma, and three on no symmetry line."""

SPREAD = (0.8191725134, 0.6710436067, 0.5497004779)
"""Powers of 1/g with g^4 = g + 1: multiples of them, less whole numbers, fill the cube evenly (Roberts)."""

DEGENERATE = 1e-4
"""eV: orbital energies closer together count as degenerate."""

ABOVE = 5.0
"""eV: energies up to this far above the lowest empty one count."""

FAR = 1e6
"""eV: energy of the padding for smaller samples of a batch."""


@dataclass(frozen=True)
class ReferenceOrbitals:
    """Orbitals of B samples, each at O operators (k-points times collinear spins); n basis functions, m orbitals of the largest.

    coefficients (B, O, s n, m), s = 2 for spinors, zero in the padding; energies (B, O, m) in eV, ascending,
    degenerate ones at their mean; occupied, counted, exists (B, O, m): 1 or 0; kpoints (B, K, 3) in 1/angstrom with 2 pi,
    None for molecules. `counted` are those whose energies matter: occupied, and up to `ABOVE` the lowest empty one.
    """

    coefficients: Tensor
    energies: Tensor
    occupied: Tensor
    counted: Tensor
    exists: Tensor
    kpoints: Tensor | None

    def to(self, device: torch.device | str) -> "ReferenceOrbitals":
        tensors = (x.to(device) for x in (self.coefficients, self.energies, self.occupied, self.counted, self.exists))
        return ReferenceOrbitals(*tensors, kpoints=None if self.kpoints is None else self.kpoints.to(device))


Advance = Callable[[int], None]


class ReferenceOrbitalTable:
    """Reference orbitals of samples by name: `table(names)`, padded to the largest of them."""

    def __init__(
        self, store: Store, names: Sequence[str], space: BlockIrreps, target: TargetSettings, advance: Advance
    ):
        """Solve all samples; `MatrixError` or `FormatError` names one without S or without a number of electrons."""
        self.spin, self.orbitals = space.spin, {}
        for name in names:
            self.orbitals[name] = sample_orbitals(store[name], space, target)
            advance(1)

    def __call__(self, names: Sequence[str]) -> ReferenceOrbitals:
        return stacked([self.orbitals[name] for name in names], self.spin)


def sample_orbitals(
    sample: Sample, space: BlockIrreps, target: TargetSettings, dtype: torch.dtype = torch.float32
) -> ReferenceOrbitals:
    """Return the orbitals of one sample (B = 1) in `dtype`, or in the complex type of the same precision."""
    s = target.operator(sample, "overlap")
    moved = target.sample(sample)
    points = kpoints(sample.structure.pbc)
    energies, c = solve(moved.hamiltonian, s, points)
    if space.spin is Spin.COLLINEAR:
        energies, c = energies.swapaxes(0, 1), c.swapaxes(0, 1)
    energies, c = energies.reshape(-1, energies.shape[-1]), c.reshape(-1, *c.shape[-2:])
    occupied = _occupied(moved, energies)
    energies = merged(energies)
    lowest_empty = np.where(occupied, np.inf, energies).min()
    counted = energies <= max(lowest_empty + ABOVE, energies[occupied].max(initial=-np.inf))
    c, cartesian = _between_atoms(sample, space, points, c)
    dtype_c = dtype.to_complex() if np.iscomplexobj(c) else dtype
    masks = (torch.as_tensor(x, dtype=dtype)[None] for x in (occupied, counted, np.ones_like(energies)))
    points = None if cartesian is None else torch.as_tensor(cartesian)[None]
    return ReferenceOrbitals(
        torch.as_tensor(c).to(dtype_c)[None], torch.as_tensor(energies)[None], *masks, kpoints=points
    )


def kpoints(pbc: np.ndarray) -> np.ndarray:
    """Return Gamma for a molecule, `POINTS` k-points for a crystal (n, 3), with zeros in directions without periodicity."""
    if not np.any(pbc):
        return np.zeros((1, 3))
    return np.arange(POINTS)[:, None] * np.array(SPREAD) % 1.0 * np.asarray(pbc)


def merged(energies: np.ndarray) -> np.ndarray:
    """Replace degenerate energies in (O, m), ascending, by their mean."""
    begins = np.diff(energies, axis=1, prepend=-np.inf) > DEGENERATE
    cluster = np.cumsum(begins.ravel()) - 1
    means = np.bincount(cluster, weights=energies.ravel()) / np.bincount(cluster)
    return means[cluster].reshape(energies.shape)


def _occupied(sample: Sample, energies: np.ndarray) -> np.ndarray:
    """Return a mask (O, m) of occupied orbitals: the lowest of a molecule, those up to the Fermi level of a crystal."""
    if sample.structure.pbc.any():
        if sample.fermi_level is None:
            raise MatrixError(f"sample {sample.name}: expected a Fermi level, which losses on orbitals need, got none")
        return energies <= sample.fermi_level + MIN_GAP  # files write the edge of a band with few digits
    if sample.n_electrons is None:
        raise MatrixError(
            f"sample {sample.name}: expected a number of electrons, which losses on orbitals need, got none"
        )
    n = round(sample.n_electrons / (2 if sample.spin is Spin.NONE else 1))
    order = np.argsort(energies.ravel(), kind="stable")
    occupied = np.zeros(energies.size, dtype=bool)
    occupied[order[:n]] = True
    return occupied.reshape(energies.shape)


def _between_atoms(
    sample: Sample, space: BlockIrreps, points: np.ndarray, c: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return coefficients (O, s n, m) in the atomic Bloch gauge, atoms shell type after shell type, and k-points in 1/angstrom."""
    h, atoms = sample.hamiltonian, sample.structure
    order = np.argsort(space.shell_type[space.species(h.numbers, moment_signs(atoms))], kind="stable")
    counts = h.orbital_counts[order]
    rows = np.repeat(h.orbital_starts[order] - (np.cumsum(counts) - counts), counts) + np.arange(h.n_orbitals)
    halves = 2 if sample.spin is Spin.SPINOR else 1
    c = c.reshape(len(c), halves, h.n_orbitals, -1)[:, :, rows]
    if not atoms.pbc.any():
        return c.reshape(len(c), halves * h.n_orbitals, -1), None
    cartesian = 2 * np.pi * points @ np.linalg.inv(atoms.cell.complete().array).T
    phases = np.exp(-1j * cartesian @ np.repeat(atoms.positions[order], counts, axis=0).T)
    phases = np.repeat(phases, len(c) // len(points), axis=0)
    return (c * phases[:, None, :, None]).reshape(len(c), halves * h.n_orbitals, -1), cartesian


def stacked(parts: Sequence[ReferenceOrbitals], spin: Spin = Spin.NONE) -> ReferenceOrbitals:
    """Stack the orbitals of several samples, padded to the largest."""
    halves = 2 if spin is Spin.SPINOR else 1
    n = max(p.coefficients.shape[2] for p in parts) // halves
    m = max(p.energies.shape[2] for p in parts)
    like = parts[0].coefficients
    c = like.new_zeros(len(parts), like.shape[1], halves, n, m)
    energies = parts[0].energies.new_full((len(parts), like.shape[1], m), FAR)
    masks = [parts[0].exists.new_zeros(energies.shape) for _ in range(3)]
    for k, p in enumerate(parts):
        own = p.coefficients.unflatten(2, (halves, -1))
        c[k, :, :, : own.shape[3], : own.shape[4]] = own[0]
        energies[k, :, : own.shape[4]] = p.energies[0]
        for mask, values in zip(masks, (p.occupied, p.counted, p.exists), strict=True):
            mask[k, :, : own.shape[4]] = values[0]
    points = [p.kpoints for p in parts if p.kpoints is not None]
    return ReferenceOrbitals(c.flatten(2, 3), energies, *masks, kpoints=torch.cat(points) if points else None)
