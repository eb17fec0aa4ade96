"""H0 of superposed spherical atoms: a Fock matrix without a density matrix, for a sixth of the cost of PySCF's.

    H0 = T + V_nuclei + J[rho] + V_xc[rho] - a/2 K[occupied]              rho(r) = sum over atoms of rho_Z(|r - R|)

The density of an atom is that of PySCF's initial guess `minao`: natural orbitals of the free atom, with the electrons of its
open shell spread over all orbitals of the shell. As sum of Gaussians

    rho_Z(r) = sum over p of c_p exp(-a_p r^2),    c_p >= 0

it makes the integrals of J those of one function for each atom, and the density on the grid a sum of tables. Exact exchange
takes the occupied functions of each atom from STO-3G, where three Gaussians stand for each. The matrix is symmetric, and smooth
in the positions but for what any grid does. A prior needs no more: it has to be the same in training and prediction.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from pyscf import df, dft, gto, lib
from pyscf.dft.numint import NumInt
from pyscf.gto import moleintor
from pyscf.scf import atom_hf, hf
from scipy.optimize import nnls

from harmose.errors import LabellingError

GRID_LEVEL = 1
"""Integration grid in PySCF: level 1 turns H0 by 1 to 2 micro-Hartree when the molecule turns, level 0 by 30, level 3 by 0.3."""
SMALLEST_EXPONENT, N_EXPONENTS = 0.04, 22
"""1 / Bohr^2. Gaussians that stand for the density of an atom: each exponent is twice the last, each Gaussian its square."""
RADII = np.geomspace(1e-3, 12.0, 800)
"""Bohr. Points at which the density of an atom is fitted."""
POINTS, NEGLIGIBLE = 1024, 1e-11
"""Points of the grid that are dealt with together, and a value there below which an orbital is left out."""


class AtomDensity(NamedTuple):
    """Spherical density of an atom, sum of c exp(-a r^2), in electrons / Bohr^3: `exponents` a and `factors` c (P,)."""

    exponents: np.ndarray
    factors: np.ndarray

    def __call__(self, r2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rho (n,) and d rho / d (r^2) (n,) at squared distances (n,)."""
        rho, slope, gaussian = np.zeros(len(r2)), np.zeros(len(r2)), np.exp(-SMALLEST_EXPONENT * r2)
        for exponent, factor in zip(self.exponents, self.factors):
            if factor:
                rho += factor * gaussian
                slope -= exponent * factor * gaussian
            gaussian *= gaussian
        return rho, slope


def fock_of_atoms(mol: gto.Mole, functional: str) -> np.ndarray:
    """Return H0 in Hartree, in PySCF's order (n, n).

    Raises `LabellingError` for a functional that needs more than the density, for core potentials, and for elements that STO-3G
    lacks, if there is exact exchange.
    """
    kind, (omega, long_range, exchange) = functional_kind(functional)
    if mol.has_ecp():
        raise LabellingError("prior spherical: expected a basis set without core potentials; use the prior exact")
    h = hf.get_hcore(mol) + coulomb(mol) + exchange_correlation(mol, functional, kind)
    if exchange:
        h -= exchange / 2 * exact_exchange(mol)
    if omega:
        with mol.with_range_coulomb(omega):
            h -= (long_range - exchange) / 2 * exact_exchange(mol)
    return h


def functional_kind(functional: str) -> tuple[str, tuple[float, float, float]]:
    """Return "HF", "LDA" or "GGA", and omega with the shares of exact exchange at long and at short range."""
    numint = NumInt()
    kind = numint._xc_type(functional)
    if kind not in ("HF", "LDA", "GGA") or numint.libxc.is_nlc(functional):
        raise LabellingError(
            f"prior spherical: expected a functional of density and gradient, or a hybrid of one, got {functional} "
            f"({kind}); use the prior exact"
        )
    return kind, numint.rsh_and_hybrid_coeff(functional)


def coulomb(mol: gto.Mole) -> np.ndarray:
    """Return J of the superposed densities (n, n)."""
    symbols = _symbols(mol)
    functions = {symbol: _function(symbol) for symbol in set(symbols)}
    atoms = _with_basis(mol, {symbol: [shell] for symbol, (shell, _) in functions.items()})
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
    for symbol, centre in zip(_symbols(mol), mol.atom_coords(), strict=True):
        apart = points - centre
        rho, slope = atom_density(symbol)((apart**2).sum(1))
        out[0] += rho
        out[1:] += 2 * slope * apart.T
    return out


def exact_exchange(mol: gto.Mole) -> np.ndarray:
    """Return K (n, n) of the occupied functions of all atoms in STO-3G, each atom with its own occupations."""
    symbols = _symbols(mol)
    occupied = {symbol: _occupied(symbol) for symbol in set(symbols)}
    minimal = _with_basis(mol, {symbol: [shell for shell, _ in found] for symbol, found in occupied.items()})
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
def atom_density(symbol: str) -> AtomDensity:
    """Return the density of a free atom."""
    shells, occupations = _natural_orbitals(symbol)
    atom = _molecule([symbol], np.zeros((1, 3)), {symbol: shells})
    orbitals = atom.eval_gto("GTOval", RADII[:, None] * [[0.0, 0.0, 1.0]])
    rho = orbitals**2 @ np.repeat(occupations, 2 * np.array([shell[0] for shell in shells]) + 1)
    exponents = SMALLEST_EXPONENT * 2.0 ** np.arange(N_EXPONENTS)
    # Errors count as in the charge within a shell, and relative to the density, which spans many orders of magnitude.
    weights = RADII**1.5 / np.sqrt(rho + 1e-6)
    factors = nnls(weights[:, None] * np.exp(-(RADII[:, None] ** 2) * exponents), weights * rho, maxiter=1000)[0]
    return AtomDensity(exponents, factors * gto.charge(symbol) / (factors * (np.pi / exponents) ** 1.5).sum())


@lru_cache(maxsize=512)
def _function(symbol: str) -> tuple[list, float]:
    """Return an atom's density as one s function in PySCF's form, and the factor by which the normalized one is too small."""
    density = atom_density(symbol)
    norms = gto.gto_norm(0, density.exponents) / np.sqrt(4 * np.pi)
    terms = np.stack([density.exponents, density.factors / norms], 1)
    shell = [0, *terms[density.factors > 0].tolist()]
    atom = _molecule([symbol], np.zeros((1, 3)), {symbol: [shell]})
    return shell, float(density.factors.sum() / atom.eval_gto("GTOval", np.zeros((1, 3)))[0, 0])


@lru_cache(maxsize=512)
def _occupied(symbol: str) -> list[tuple[list, float]]:
    """Return the occupied shells of an atom in STO-3G, and the occupation of their orbitals."""
    try:
        table = gto.basis.load("sto-3g", symbol)
    except (KeyError, RuntimeError, gto.basis.BasisNotFoundError):
        table = []
    found = []
    for l, occupations in _configuration(symbol):
        shells = [shell for shell in table if shell[0] == l][: len(occupations)]
        if len(shells) < len(occupations):
            raise LabellingError(f"prior spherical: expected an element of STO-3G, got {symbol}; use the prior exact")
        found += zip(shells, occupations, strict=True)
    return found


def _natural_orbitals(symbol: str) -> tuple[list, list[float]]:
    """Return the occupied natural orbitals of an atom as shells in PySCF's form, and the occupation of their orbitals."""
    table, shells, occupations = gto.basis.load("ano", symbol), [], []
    for l, occupied in _configuration(symbol):
        (primitives,) = (shell[1:] for shell in table if shell[0] == l)
        shells += [[l, *([row[0], row[1 + k]] for row in primitives)] for k in range(len(occupied))]
        occupations += occupied
    return shells, occupations


def _configuration(symbol: str) -> list[tuple[int, list[float]]]:
    """Return l and the occupation of the orbitals of each shell of an atom, electrons of the open shell spread over it."""
    out = []
    for l in range(4):
        n_full, open_shell = atom_hf.frac_occ(symbol, l)
        occupations = [2.0] * n_full + ([open_shell] if open_shell else [])
        if occupations:
            out.append((l, occupations))
    return out


def _symbols(mol: gto.Mole) -> list[str]:
    return [mol.atom_pure_symbol(k) for k in range(mol.natm)]


def _with_basis(mol: gto.Mole, basis: dict[str, list]) -> gto.Mole:
    """Return the molecule with shells in PySCF's form by symbol."""
    return _molecule(_symbols(mol), mol.atom_coords(), basis)


def _molecule(symbols: list[str], places: np.ndarray, basis: dict[str, list]) -> gto.Mole:
    geometry = list(zip(symbols, places.tolist(), strict=True))
    return gto.M(atom=geometry, unit="bohr", basis=basis, spin=None, cart=False, verbose=0)
