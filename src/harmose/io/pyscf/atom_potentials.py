"""A Hamiltonian of effective atoms: an operator made of fast integrals, roughly that of superposed spherical atoms.

    H = T + sum over atoms c (V_c - K_c)
    V_c(r) = -Z erfc(sqrt(a) r) / r + sum over p of v_p exp(-a_p r^2)     nucleus, electrons, and v_xc
    K_c = sum over a, b of |chi_a> k_ab <chi_b|,    k = s^-1 K s^-1 / 2   exact exchange with the atom's occupied functions

where chi are single Gaussians about c with overlaps s and exchange integrals K. The atom is neutral, so that the potential ends
where its density ends. v_xc[rho_c + b] - v_xc[b] stands for what the atom adds to v_xc, where b is the density that other atoms
have about it, a constant (`BACKGROUND`). All of this is one overlap of three functions for each atom, and products of overlaps
of two. As a true operator it has no ghost states; what it lacks for two atoms is in tables (`pair_tables`).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy
from pyscf import gto, lib
from pyscf.dft.numint import NumInt
from pyscf.gto import moleintor

from harmose.io.pyscf.free_atoms import (
    RADII,
    atom_density,
    bare_molecule,
    exchange_shares,
    functional_kind,
    occupied_functions,
    symbols_of,
)

EXPONENTS = 0.05 * 3.0 ** np.arange(9)
"""a_p in 1 / Bohr^2."""
NARROWNESS = 1.5
"""a in 1 / Bohr^2, of the Gaussian charge that screens a nucleus."""
BACKGROUND = 0.04
"""Electrons / Bohr^3 about an atom; best of 0.01 to 0.4 for V_xc between three atoms of organic molecules (B3LYP)."""
PROJECTORS_H = ((0, 0.12, 5), (1, 0.2, 3))
PROJECTORS = ((0, 0.12, 7), (1, 0.12, 5), (2, 0.25, 3))
"""chi of hydrogen and helium, and of other elements: l, smallest exponent in 1 / Bohr^2, number; each is three times the last."""
Y00 = 0.28209479177387814
"""The spherical harmonic of l = 0, which integrals multiply s functions by."""


class Projectors(NamedTuple):
    """Gaussians of an atom: l and exponent of each shell, and k (n, n) of their orbitals, times the share of exchange."""

    shells: tuple[tuple[int, float], ...]
    exchange: np.ndarray


def fock_of_potentials(mol: gto.Mole, functional: str) -> np.ndarray:
    """Return H of effective atoms in Hartree (n, n), in PySCF's order."""
    symbols = symbols_of(mol)
    h = mol.intor_symmetric("int1e_kin") + _nuclei(mol) + _gaussians(mol, [potential(s, functional) for s in symbols])
    if any(exchange_shares(functional)[1:]):
        h -= _exchange(mol, symbols, functional)
    return h


def _nuclei(mol: gto.Mole) -> np.ndarray:
    """Return the integrals of nuclei that are screened by Gaussian charges (n, n)."""
    smeared = mol.copy(deep=False)
    smeared._atm, smeared._env = mol._atm.copy(), np.append(mol._env, NARROWNESS)
    smeared._atm[:, gto.NUC_MOD_OF], smeared._atm[:, gto.PTR_ZETA] = gto.NUC_GAUSS, len(mol._env)
    return mol.intor_symmetric("int1e_nuc") - smeared.intor_symmetric("int1e_nuc")


def _gaussians(mol: gto.Mole, heights: list[np.ndarray]) -> np.ndarray:
    """Return the integrals of the Gaussians of all potentials (n, n)."""
    tables, first = _with_shells(mol, [[(0, EXPONENTS, v / Y00)] for v in heights])
    n, name = mol.nbas, "int3c1e_sph"
    shells, optimizer = (0, n, 0, n, n, len(tables[1])), moleintor.make_cintopt(*tables, name)
    triangle = moleintor.getints3c(name, *tables, shells, 1, "s2ij", first, optimizer)
    return lib.unpack_tril(np.asarray(triangle).reshape(-1, len(heights)).sum(1))


def _exchange(mol: gto.Mole, symbols: list[str], functional: str) -> np.ndarray:
    """Return half of the exchange with all atoms, times its share (n, n)."""
    own = {symbol: projectors(symbol, functional) for symbol in set(symbols)}
    shells = [[(l, np.array([a]), np.array([gto.gto_norm(l, a)])) for l, a in own[s].shells] for s in symbols]
    tables, first = _with_shells(mol, shells)
    n = mol.nbas
    overlaps = moleintor.getints2c("int1e_ovlp_sph", *tables, (0, n, n, len(tables[1])), 1, 0, first)
    ends = np.cumsum([0, *(len(own[symbol].exchange) for symbol in symbols)])
    left = [overlaps[:, i:j] @ own[s].exchange for s, i, j in zip(symbols, ends[:-1], ends[1:], strict=True)]
    return np.concatenate(left, 1) @ overlaps.T


def _with_shells(
    mol: gto.Mole, shells: list[list[tuple[int, np.ndarray, np.ndarray]]]
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Return PySCF's tables with more shells (l, exponents, coefficients) for each atom, and the first orbital of each shell."""
    env, known, rows = [mol._env], {}, []
    end = len(mol._env)
    for atom, own in enumerate(shells):
        for l, exponents, coefficients in own:
            key = (exponents.tobytes(), coefficients.tobytes())
            if key not in known:
                known[key] = end
                env += [exponents, coefficients]
                end += 2 * len(exponents)
            rows.append([atom, l, len(exponents), 1, 0, known[key], known[key] + len(exponents), 0])
    bas = np.concatenate([mol._bas, np.array(rows, dtype=np.int32)])
    return (mol._atm, bas, np.concatenate(env)), moleintor.make_loc(bas, "int1e_ovlp_sph")


@lru_cache(maxsize=512)
def potential(symbol: str, functional: str) -> np.ndarray:
    """Return v_p of an atom's potential in Hartree (P,), least squares over space."""
    density, r, charge = atom_density(symbol), RADII, gto.charge(symbol)
    electrons = density.factors * (np.pi / density.exponents) ** 1.5
    target = charge * scipy.special.erfc(np.sqrt(NARROWNESS) * r) / r
    target -= (electrons * scipy.special.erfc(np.sqrt(density.exponents) * r[:, None])).sum(1) / r
    target += _change_of_xc(density(r**2)[0], functional)
    weights = r * np.sqrt(np.gradient(r))
    gaussians = np.exp(-EXPONENTS * r[:, None] ** 2)
    return np.linalg.lstsq(weights[:, None] * gaussians, weights * target, rcond=1e-10)[0]


def _change_of_xc(rho: np.ndarray, functional: str) -> np.ndarray:
    """Return v_xc[rho + b] - v_xc[b] without gradients, in Hartree, at densities (n,)."""
    kind, _ = functional_kind(functional)
    if kind == "HF":
        return np.zeros_like(rho)
    densities = np.zeros((4, len(rho) + 1))
    densities[0] = BACKGROUND
    densities[0, :-1] += rho
    own = densities if kind == "GGA" else densities[0]
    v = NumInt().eval_xc_eff(functional, own, deriv=1, xctype=kind)[1][0]
    return v[:-1] - v[-1]


@lru_cache(maxsize=512)
def projectors(symbol: str, functional: str) -> Projectors:
    """Return the projectors of an atom."""
    omega, exchange, more = exchange_shares(functional)
    sets = PROJECTORS_H if symbol in ("H", "He") else PROJECTORS
    shells = tuple((l, a * 3.0**k) for l, a, n in sets for k in range(n))
    occupied = occupied_functions(symbol)
    place = np.zeros((1, 3))
    atom = bare_molecule([symbol], place, {symbol: [[l, [a, 1.0]] for l, a in shells]})
    both = atom + bare_molecule([symbol], place, {symbol: [shell for shell, _ in occupied]})
    integrals = exchange * _atom_exchange(both, atom.nbas, occupied)
    if omega:
        with both.with_range_coulomb(omega):
            integrals = integrals + more * _atom_exchange(both, atom.nbas, occupied)
    inverse = np.linalg.inv(atom.intor("int1e_ovlp"))
    return Projectors(shells, inverse @ integrals @ inverse / 2)


def _atom_exchange(both: gto.Mole, n: int, occupied: list[tuple[list, float]]) -> np.ndarray:
    """Return the exchange integrals of the first n shells with the occupied functions that follow."""
    parts = [
        occupation * np.einsum("aibi->ab", both.intor("int2e_sph", shls_slice=(0, n, k, k + 1, 0, n, k, k + 1)))
        for k, (_, occupation) in enumerate(occupied, n)
    ]
    return np.sum(parts, axis=0)
