"""V_xc of two spherical atoms, by quadrature in the half plane of their axis: exact to 1e-6 Hartree, without a grid's noise.

Points are those of prolate spheroidal coordinates about both nuclei, at half a distance a,

    x = a sinh(u) sin(v),    z = a (1 + cosh(u) cos(v)),    dV = a^3 (sinh(u)^2 + sin(v)^2) sinh(u) sin(v) du dv dphi

whose points lie dense at both nuclei. The first atom is at the origin, the second at 2a on the z axis. Orbitals of the same m
are products of functions of (x, z) with the same function of phi, so that the integral over phi is 2 pi at m = 0, else pi.
"""

import numpy as np
from pyscf import gto
from pyscf.dft.numint import NumInt

from harmose.io.pyscf.free_atoms import degrees_of
from harmose.io.pyscf.superposition import superposed_density

N_POINTS = 72
"""Points of Gauss and Legendre in u, and in v."""
REACH = 18.0
"""Bohr. Points end this far from the atoms."""


def exchange_correlation_on_axis(mol: gto.Mole, functional: str, kind: str, source: gto.Mole) -> np.ndarray:
    """Return V_xc of the density of the atoms `source` in the orbitals of a molecule, in Hartree, m and -m alike (n, n).

    `mol`: two atoms on the z axis, the first one at the origin.
    """
    if kind == "HF":
        return np.zeros((mol.nao, mol.nao))
    points, weights = _half_plane(float(mol.atom_coords()[1, 2]))
    evaluate, n = ("GTOval_sph_deriv1", 4) if kind == "GGA" else ("GTOval_sph", 1)
    ao = mol.eval_gto(evaluate, points).reshape(n, -1, mol.nao)
    rho = superposed_density(source, points)[:n]
    potential = NumInt().eval_xc_eff(functional, rho if n > 1 else rho[0], deriv=1, xctype=kind)[1] * weights
    potential[0] /= 2  # the transpose is added
    half = ao[0].T @ np.einsum("kg,kgi->gi", potential, ao)
    m, opposite = _orders(degrees_of(mol))
    same_order = (m[:, None] == m) & (m >= 0)
    plane = (half + half.T) * same_order * np.where(m == 0, 2 * np.pi, np.pi)
    return plane + (plane * (m > 0))[np.ix_(opposite, opposite)]


def _orders(degrees: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return m of the orbitals of shells in PySCF's order, and for each the orbital of its shell with -m."""
    m, opposite = [], []
    for l in degrees:
        own = [1, -1, 0] if l == 1 else list(range(-l, l + 1))
        opposite += [len(m) + own.index(-k) for k in own]
        m += own
    return np.array(m), np.array(opposite)


def _half_plane(distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return points (n, 3) and weights (n,) without the angle, in Bohr."""
    a = distance / 2
    nodes, weights = np.polynomial.legendre.leggauss(N_POINTS)
    end = np.arccosh(1 + REACH / a)
    u, v = (nodes + 1) * end / 2, (nodes + 1) * np.pi / 2
    u, v = (x.ravel() for x in np.meshgrid(u, v, indexing="ij"))
    points = np.stack([a * np.sinh(u) * np.sin(v), np.zeros(len(u)), a * (1 + np.cosh(u) * np.cos(v))], 1)
    volume = a**3 * (np.sinh(u) ** 2 + np.sin(v) ** 2) * np.sinh(u) * np.sin(v)
    return points, volume * np.outer(weights * end / 2, weights * np.pi / 2).ravel()
