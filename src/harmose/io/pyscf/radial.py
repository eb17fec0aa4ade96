"""Radial functions of PySCF's basis sets: contracted Gaussians, normalised as in PySCF's integrals."""

from collections.abc import Iterable

import numpy as np
from pyscf import gto, lib

from harmose.core.radial import Gaussians, RadialBasis
from harmose.io.pyscf.pyscf import MIN_RADIUS, basis_set, free_atom


def radial_basis(name: str, elements: Iterable[int], min_radius: float = MIN_RADIUS) -> RadialBasis:
    """Return PySCF's basis `name` for these atomic numbers with its Gaussians.

    `BasisError` for an unknown name or an element that the basis set does not have.
    """
    basis = basis_set(name, elements, min_radius)
    return RadialBasis(basis, {z: _gaussians(basis.name, z) for z in basis.elements})


def _gaussians(name: str, z: int) -> tuple[Gaussians, ...]:
    atom = free_atom(name, z)
    functions = []
    for k in range(atom.nbas):
        l = int(atom.bas_angular(k))
        exponents = atom.bas_exp(k) / lib.param.BOHR**2  # PySCF's value of the Bohr radius
        # As in PySCF's integrals: normalised primitives and a normalised sum, for r in Bohr.
        coefficients = gto.gto_norm(l, atom.bas_exp(k))[:, None] * atom.bas_ctr_coeff(k) / lib.param.BOHR ** (l + 1.5)
        functions += [Gaussians(l, exponents, np.ascontiguousarray(column)) for column in coefficients.T]
    return tuple(functions)
