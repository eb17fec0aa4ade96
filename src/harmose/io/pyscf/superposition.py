"""H0 of superposed spherical atoms: a Fock matrix without a density matrix, for a sixth of the cost of PySCF's.

    H0 = T + V_nuclei + J[rho] + V_xc[rho] - a/2 K[occupied]              rho(r) = sum over atoms of rho_Z(|r - R|)

Densities and occupied functions are those of free atoms (`free_atoms`). The matrix is symmetric, and smooth in the positions
but for what any grid does. A prior needs no more: it has to be the same in training and prediction.
"""

from functools import lru_cache

import numpy as np
from pyscf import df, dft, gto, lib
from pyscf.dft.numint import NumInt
from pyscf.gto import moleintor
from pyscf.scf import hf

from harmose.io.pyscf.free_atoms import (
    atom_density,
    bare_molecule,
    check_all_electrons,
    exchange_shares,
    functional_kind,
    occupied_functions,
    symbols_of,
    with_basis,
)

GRID_LEVEL = 1
"""Integration grid in PySCF: level 1 turns H0 by 1 to 2 micro-Hartree when the molecule turns, level 0 by 30, level 3 by 0.3."""
POINTS, NEGLIGIBLE = 1024, 1e-11
"""Points of the grid that are dealt with together, and a value there below which an orbital is left out."""


def fock_of_atoms(mol: gto.Mole, functional: str) -> np.ndarray:
    """Return H0 in Hartree, in PySCF's order (n, n).

    Raises `LabellingError` for a functional that needs more than the density, for core potentials, and for elements that STO-3G
    lacks, if there is exact exchange.
    """
    kind, _ = functional_kind(functional)
    check_all_electrons(mol, "spherical")
    return fock_without_xc(mol, functional) + exchange_correlation(mol, functional, kind)


def fock_without_xc(mol: gto.Mole, functional: str) -> np.ndarray:
    """Return all of H0 but V_xc: T, the nuclei, J and exact exchange (n, n)."""
    omega, exchange, more = exchange_shares(functional)
    h = hf.get_hcore(mol) + coulomb(mol)
    if exchange:
        h -= exchange / 2 * exact_exchange(mol)
    if omega:
        with mol.with_range_coulomb(omega):
            h -= more / 2 * exact_exchange(mol)
    return h


def coulomb(mol: gto.Mole) -> np.ndarray:
    """Return J of the superposed densities (n, n)."""
    symbols = symbols_of(mol)
    functions = {symbol: _function(symbol) for symbol in set(symbols)}
    atoms = with_basis(mol, {symbol: [shell] for symbol, (shell, _) in functions.items()})
    triangle = df.incore.aux_e2(mol, atoms, "int3c2e", aosym="s2ij") @ [functions[symbol][1] for symbol in symbols]
    return lib.unpack_tril(triangle)


def exchange_correlation(mol: gto.Mole, functional: str, kind: str) -> np.ndarray:
    """Return V_xc of the superposed densities (n, n)."""
    out = np.zeros((mol.nao, mol.nao))
    if kind == "HF":
        return out
    grids = dft.gen_grid.Grids(mol)
    grids.level = GRID_LEVEL
    grids.build(sort_grids=False)  # sorting takes as long as the density
    evaluate, n = ("GTOval_sph_deriv1", 4) if kind == "GGA" else ("GTOval_sph", 1)
    rho = superposed_density(mol, grids.coords)[:n]
    potential = NumInt().eval_xc_eff(functional, rho if n > 1 else rho[0], deriv=1, xctype=kind)[1] * grids.weights
    potential[0] /= 2  # the transpose is added
    for start in range(0, len(grids.coords), POINTS):
        part = slice(start, start + POINTS)
        ao = mol.eval_gto(evaluate, grids.coords[part]).reshape(n, -1, mol.nao).swapaxes(1, 2)  # contiguous so
        near = np.flatnonzero(np.abs(ao[0]).max(axis=1) > NEGLIGIBLE)
        ao = ao if len(near) == mol.nao else ao[:, near]
        scaled = ao[0] * potential[0, part]
        for gradient, factor in zip(ao[1:], potential[1:, part]):
            scaled += gradient * factor
        out[np.ix_(near, near)] += ao[0] @ scaled.T
    return out + out.T


def superposed_density(mol: gto.Mole, points: np.ndarray) -> np.ndarray:
    """Return rho and its gradient (4, n) in atomic units at points (n, 3) in Bohr."""
    out = np.zeros((4, len(points)))
    for symbol, centre in zip(symbols_of(mol), mol.atom_coords(), strict=True):
        apart = points - centre
        rho, slope = atom_density(symbol)((apart**2).sum(1))
        out[0] += rho
        out[1:] += 2 * slope * apart.T
    return out


def exact_exchange(mol: gto.Mole) -> np.ndarray:
    """Return K (n, n) of the occupied functions of all atoms in STO-3G, each atom with its own occupations."""
    symbols = symbols_of(mol)
    occupied = {symbol: occupied_functions(symbol) for symbol in set(symbols)}
    minimal = with_basis(mol, {symbol: [shell for shell, _ in found] for symbol, found in occupied.items()})
    occupations = [occupation for symbol in symbols for _, occupation in occupied[symbol]]
    both, n, out = mol + minimal, mol.nbas, np.zeros((mol.nao, mol.nao))
    tables, first_orbital = (both._atm, both._bas, both._env), both.ao_loc_nr()
    optimizer = moleintor.make_cintopt(*tables, "int2e_sph")
    for shell, occupation in enumerate(occupations, n):
        for first, last, begin, end in mol.aoslice_by_atom():
            shells = (first, last, shell, shell + 1, 0, last, shell, shell + 1)
            integrals = moleintor.getints4c("int2e_sph", *tables, shells, ao_loc=first_orbital, cintopt=optimizer)
            out[begin:end, :end] += occupation * np.einsum("aibi->ab", integrals)
    return lib.hermi_triu(out)


@lru_cache(maxsize=512)
def _function(symbol: str) -> tuple[list, float]:
    """Return an atom's density as one s function in PySCF's form, and the factor by which the normalized one is too small."""
    density = atom_density(symbol)
    norms = gto.gto_norm(0, density.exponents) / np.sqrt(4 * np.pi)
    terms = np.stack([density.exponents, density.factors / norms], 1)
    shell = [0, *terms[density.factors > 0].tolist()]
    atom = bare_molecule([symbol], np.zeros((1, 3)), {symbol: [shell]})
    return shell, float(density.factors.sum() / atom.eval_gto("GTOval", np.zeros((1, 3)))[0, 0])
