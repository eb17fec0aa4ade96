"""Free atoms, whose densities and occupied functions H0 is made of, in PySCF's form.

The density of an atom is that of PySCF's initial guess `minao`: natural orbitals of the free atom, with the electrons of its
open shell spread over all orbitals of the shell. As sum of Gaussians

    rho_Z(r) = sum over p of c_p exp(-a_p r^2),    c_p >= 0

it makes the integrals of J those of one function for each atom, and the density on a grid a sum of tables. Exact exchange
takes the occupied functions of each atom from STO-3G, where three Gaussians stand for each.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from pyscf import gto
from pyscf.dft.numint import NumInt
from pyscf.scf import atom_hf
from scipy.optimize import nnls

from harmose.errors import LabellingError

SMALLEST_EXPONENT, N_EXPONENTS = 0.04, 22
"""1 / Bohr^2. Gaussians that stand for the density of an atom: each exponent is twice the last, each Gaussian its square."""
RADII = np.geomspace(1e-3, 12.0, 800)
"""Bohr. Points at which the density of an atom is fitted."""


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


def functional_kind(functional: str, prior: str = "spherical") -> tuple[str, tuple[float, float, float]]:
    """Return "HF", "LDA" or "GGA", and omega with the shares of exact exchange at long and at short range."""
    numint = NumInt()
    kind = numint._xc_type(functional)
    if kind not in ("HF", "LDA", "GGA") or numint.libxc.is_nlc(functional):
        raise LabellingError(
            f"prior {prior}: expected a functional of density and gradient, or a hybrid of one, got {functional} "
            f"({kind}); use the prior exact"
        )
    return kind, numint.rsh_and_hybrid_coeff(functional)


def exchange_shares(functional: str) -> tuple[float, float, float]:
    """Return omega, the share of exchange with 1/r, and what the share with erf(omega r)/r has besides."""
    _, (omega, long_range, exchange) = functional_kind(functional)
    return omega, exchange, long_range - exchange if omega else 0.0


def check_all_electrons(mol: gto.Mole, prior: str) -> None:
    """Raise `LabellingError` for core potentials, which have no density of all electrons."""
    if mol.has_ecp():
        raise LabellingError(f"prior {prior}: expected a basis set without core potentials; use the prior exact")


@lru_cache(maxsize=512)
def atom_density(symbol: str) -> AtomDensity:
    """Return the density of a free atom."""
    shells, occupations = natural_orbitals(symbol)
    atom = bare_molecule([symbol], np.zeros((1, 3)), {symbol: shells})
    orbitals = atom.eval_gto("GTOval", RADII[:, None] * [[0.0, 0.0, 1.0]])
    rho = orbitals**2 @ np.repeat(occupations, 2 * np.array([shell[0] for shell in shells]) + 1)
    exponents = SMALLEST_EXPONENT * 2.0 ** np.arange(N_EXPONENTS)
    # Errors count as in the charge within a shell, and relative to the density, which spans many orders of magnitude.
    weights = RADII**1.5 / np.sqrt(rho + 1e-6)
    factors = nnls(weights[:, None] * np.exp(-(RADII[:, None] ** 2) * exponents), weights * rho, maxiter=1000)[0]
    return AtomDensity(exponents, factors * gto.charge(symbol) / (factors * (np.pi / exponents) ** 1.5).sum())


@lru_cache(maxsize=512)
def occupied_functions(symbol: str) -> list[tuple[list, float]]:
    """Return the occupied shells of an atom in STO-3G, and the occupation of their orbitals."""
    try:
        table = gto.basis.load("sto-3g", symbol)
    except (KeyError, RuntimeError, gto.basis.BasisNotFoundError):
        table = []
    found = []
    for l, occupations in _configuration(symbol):
        shells = [shell for shell in table if shell[0] == l][: len(occupations)]
        if len(shells) < len(occupations):
            raise LabellingError(
                f"prior of superposed atoms: expected an element of STO-3G, got {symbol}; use the prior exact"
            )
        found += zip(shells, occupations, strict=True)
    return found


def natural_orbitals(symbol: str) -> tuple[list, list[float]]:
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


def degrees_of_atom(mol: gto.Mole, atom: int) -> list[int]:
    """Return l of the shells of an atom, in PySCF's order."""
    return [int(mol.bas_angular(k)) for k in mol.atom_shell_ids(atom) for _ in range(int(mol.bas_nctr(k)))]


def degrees_of(mol: gto.Mole) -> list[int]:
    """Return l of the shells of all atoms, in PySCF's order."""
    return [l for atom in range(mol.natm) for l in degrees_of_atom(mol, atom)]


def symbols_of(mol: gto.Mole) -> list[str]:
    """Return the chemical symbol of each atom."""
    return [mol.atom_pure_symbol(k) for k in range(mol.natm)]


def with_basis(mol: gto.Mole, basis: dict[str, list]) -> gto.Mole:
    """Return the molecule with shells in PySCF's form by symbol."""
    return bare_molecule(symbols_of(mol), mol.atom_coords(), basis)


def bare_molecule(symbols: list[str], places: np.ndarray, basis: dict[str, list]) -> gto.Mole:
    """Return PySCF's molecule of atoms at places in Bohr (n, 3), with shells in PySCF's form by symbol."""
    geometry = list(zip(symbols, places.tolist(), strict=True))
    return gto.M(atom=geometry, unit="bohr", basis=basis, spin=None, cart=False, verbose=0)
