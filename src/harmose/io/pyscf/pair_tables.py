"""H0 from tables of pairs of atoms: no grid, no four-index integrals, and exactly covariant.

To a fast operator of effective atoms (`atom_potentials`) comes what it lacks of the H0 of spherical atoms (`superposition`),
where there are only two atoms:

    H0 = h + W[C]        C[a, b] = (F_ab - h_ab)[a, b]
                         C[a, a] = (F_a - h_a)[a, a] + sum over b of (F_ab - h_ab - F_a + h_a)[a, a]

F_ab and h_ab are the Fock matrix and the operator of atoms a and b alone: functions of their distance, in tables. C is no
operator, since each block has a potential of its own, and would make ghost states: its parts among nearly dependent orbitals
are taken off by the filter W (`physics.overlap_filter`). What is missed is V_xc of three atoms at a time, a tenth of H - H0,
which a regression of H - H0 learns as well. A model keeps the tables that its H0 needs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations_with_replacement, product

import numpy as np
import scipy
from ase.data import chemical_symbols
from pyscf import gto

from harmose.errors import ModelError
from harmose.io.pyscf.atom_potentials import fock_of_potentials
from harmose.io.pyscf.diatomics import exchange_correlation_on_axis
from harmose.io.pyscf.free_atoms import bare_molecule, degrees_of, degrees_of_atom, functional_kind
from harmose.io.pyscf.superposition import fock_without_xc
from harmose.physics.integrals.overlap import slater_koster_blocks
from harmose.physics.overlap_filter import filtered
from harmose.so3.conventions import PYSCF

NEAREST, N_DISTANCES = 0.6, 72
"""Bohr. Least distance of tables, which stands for all below it; number of distances, whose logarithms are equally spaced."""
FILTER = 0.08
"""Threshold t of the filter, that of predicted corrections of organic molecules."""
LEAST_OVERLAP = 1e-7
"""Tables end where the most diffuse orbitals of two atoms overlap by this, and fall to zero over their last tenth."""


@dataclass(frozen=True, eq=False)
class PairTables:
    """Integrals of pairs of elements over their distance, in one basis set with one functional.

    Attributes:
        atoms: by element z, F_a - h_a of an atom alone in Hartree (n, n).
        bonds: by elements (z1, z2), z1 <= z2, C between them: integrals on the axis (D, rows).
        sites: by elements (z1, z2), what an atom z2 adds to C of an atom z1 (D, rows).
        ends: by elements (z1, z2), z1 <= z2, the distance at which the tables end, in Bohr.

    All are rounded to single precision, in which models keep them.
    """

    atoms: Mapping[int, np.ndarray]
    bonds: Mapping[tuple[int, int], np.ndarray]
    sites: Mapping[tuple[int, int], np.ndarray]
    ends: Mapping[tuple[int, int], float]

    @cached_property
    def _splines(self) -> dict[tuple[int, int], scipy.interpolate.CubicSpline]:
        """By z1 <= z2, all integrals over the logarithm of the distance: bonds, sites of z1, sites of z2."""
        out = {}
        for (z1, z2), bond in self.bonds.items():
            parts = [bond, self.sites[z1, z2], *([self.sites[z2, z1]] if z1 != z2 else [])]
            x = np.log(distances(self.ends[z1, z2]))
            out[z1, z2] = scipy.interpolate.CubicSpline(x, np.concatenate(parts, 1))
        return out

    def fock(self, mol: gto.Mole, functional: str) -> np.ndarray:
        """Return H0 of a molecule in Hartree, in PySCF's order (n, n).

        Raises `ModelError` for elements without tables, `LabellingError` as `superposition.fock_of_atoms` does.
        """
        numbers = np.array([gto.charge(mol.atom_pure_symbol(k)) for k in range(mol.natm)])
        if unknown := sorted(set(numbers.tolist()) - set(self.atoms)):
            known = ", ".join(chemical_symbols[z] for z in sorted(self.atoms))
            raise ModelError(
                f"prior tabulated: expected elements with tables ({known}), got {chemical_symbols[unknown[0]]}"
            )
        degrees = [degrees_of_atom(mol, k) for k in range(mol.natm)]
        self._check_shells(dict(zip(numbers.tolist(), degrees)))
        inside = self._pairs(
            numbers, mol.atom_coords(), dict(zip(numbers.tolist(), degrees)), mol.aoslice_by_atom()[:, 2]
        )
        correction = PYSCF.from_inside(inside, [l for own in degrees for l in own])
        return fock_of_potentials(mol, functional) + filtered(correction, mol.intor_symmetric("int1e_ovlp"), FILTER)

    def _check_shells(self, degrees: Mapping[int, list[int]]) -> None:
        """Raise `ModelError` for tables of other shells than those of the elements."""

        def rows(l1: list[int], l2: list[int]) -> int:
            return int((np.minimum.outer(l1, l2) + 1).sum())

        for z1, l1 in degrees.items():
            n = sum(2 * l + 1 for l in l1)
            fits = self.atoms[z1].shape == (n, n)
            for z2, l2 in degrees.items():
                fits &= self.sites[z1, z2].shape[1] == rows(l1, l1)
                fits &= z1 > z2 or self.bonds[z1, z2].shape[1] == rows(l1, l2)
            if not fits:
                raise ModelError(
                    f"the tables of H0 are damaged: expected those of the shells of {chemical_symbols[z1]}"
                )

    def _pairs(
        self, numbers: np.ndarray, places: np.ndarray, degrees: Mapping[int, list[int]], starts: np.ndarray
    ) -> np.ndarray:
        """Return what is tabulated of a molecule (n, n), m = -l..l; places in Bohr, `starts`: first orbital of each atom."""
        size = {z: sum(2 * l + 1 for l in own) for z, own in degrees.items()}
        onsite = {z: np.repeat(self.atoms[z].reshape(1, -1), (numbers == z).sum(), axis=0) for z in degrees}
        row = np.zeros(len(numbers), dtype=np.int64)
        for z in degrees:
            row[numbers == z] = np.arange((numbers == z).sum())
        n_orbitals = sum(size[z] for z in numbers.tolist())
        out = np.zeros((n_orbitals, n_orbitals))
        first, second = np.triu_indices(len(numbers), 1)
        first, second = np.where(numbers[first] > numbers[second], (second, first), (first, second))
        vectors = places[second] - places[first]
        r = np.linalg.norm(vectors, axis=1)
        for z1, z2 in combinations_with_replacement(sorted(degrees), 2):
            own = np.flatnonzero((numbers[first] == z1) & (numbers[second] == z2) & (r < self.ends[z1, z2]))
            if not len(own):
                continue
            i, j, u = first[own], second[own], vectors[own] / r[own, None]
            integrals = self._splines[z1, z2](np.log(np.maximum(r[own], NEAREST))).T
            n, n1 = self.bonds[z1, z2].shape[1], self.sites[z1, z2].shape[1]
            block = slater_koster_blocks(degrees[z1], degrees[z2], integrals[:n], u)
            rows, columns = starts[i, None] + np.arange(size[z1]), starts[j, None] + np.arange(size[z2])
            block = np.moveaxis(block.reshape(size[z1], size[z2], -1), 2, 0)
            out[rows[:, :, None], columns[:, None]] = block
            out[columns[:, :, None], rows[:, None]] = block.swapaxes(1, 2)
            site = slater_koster_blocks(degrees[z1], degrees[z1], integrals[n : n + n1], u)
            np.add.at(onsite[z1], row[i], site.T)
            other = integrals[n : n + n1] if z1 == z2 else integrals[n + n1 :]
            site = slater_koster_blocks(degrees[z2], degrees[z2], other, -u)
            np.add.at(onsite[z2], row[j], site.T)
        for z, blocks in onsite.items():
            rows = starts[numbers == z, None] + np.arange(size[z])
            out[rows[:, :, None], rows[:, None]] = blocks.reshape(-1, size[z], size[z])
        return out

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the tables as arrays by name."""
        out = {f"atom.{z}": block.astype(np.float32) for z, block in self.atoms.items()}
        for name, tables in (("bond", self.bonds), ("site", self.sites)):
            out |= {f"{name}.{z1}.{z2}": values.astype(np.float32) for (z1, z2), values in tables.items()}
        return out | {f"end.{z1}.{z2}": np.array([end]) for (z1, z2), end in self.ends.items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> "PairTables":
        """Return the tables of `to_arrays`; `ModelError` for tables that are missing, too short, or of no distance."""
        parts = [(name.split("."), np.asarray(values, dtype=np.float64)) for name, values in arrays.items()]

        def pairs(kind: str) -> dict[tuple[int, int], np.ndarray]:
            return {(int(name[1]), int(name[2])): values for name, values in parts if name[0] == kind}

        atoms = {int(name[1]): values for name, values in parts if name[0] == "atom"}
        bonds, sites, ends = pairs("bond"), pairs("site"), {k: float(end[0]) for k, end in pairs("end").items()}
        elements = sorted(atoms)
        wanted = set(combinations_with_replacement(elements, 2))
        complete = wanted == set(bonds) == set(ends) and set(product(elements, repeat=2)) == set(sites)
        if not complete or any(end <= NEAREST for end in ends.values()):
            raise ModelError("the tables of H0 are damaged: expected those of all pairs of elements, got others")
        if any(x.ndim != 2 or len(x) != N_DISTANCES for x in (*bonds.values(), *sites.values())):
            raise ModelError(f"the tables of H0 are damaged: expected {N_DISTANCES} distances in each")
        return PairTables(atoms, bonds, sites, ends)


def pair_tables(functional: str, basis: str, elements: Iterable[int]) -> PairTables:
    """Compute the tables of all pairs of some elements: 2 s for each pair, once in a process.

    `basis`: name in PySCF. Raises `LabellingError` as `superposition.fock_of_atoms` does.
    """
    elements = sorted(set(elements))
    pairs = {pair: _tables_of_pair(functional, basis, *pair) for pair in combinations_with_replacement(elements, 2)}
    sites = {(z1, z2): pairs[min(z1, z2), max(z1, z2)].sites[z1, z2] for z1, z2 in product(elements, repeat=2)}
    atoms = {z: _block_of_atom(functional, basis, z) for z in elements}
    return PairTables(atoms, {k: t.bonds[k] for k, t in pairs.items()}, sites, {k: t.ends[k] for k, t in pairs.items()})


def distances(end: float) -> np.ndarray:
    """Return the distances of a table in Bohr (D,)."""
    return np.geomspace(NEAREST, end, N_DISTANCES)


@lru_cache(maxsize=1024)
def _tables_of_pair(functional: str, basis: str, z1: int, z2: int) -> PairTables:
    """Return the tables of one pair of elements."""
    ends, bond, sites = _end(basis, z1, z2), [], {z: [] for z in (z1, z2)}
    for r in distances(ends):
        f, n = _fock_of_two(functional, basis, z1, z2, float(r)), len(_block_of_atom(functional, basis, z1))
        l1, l2 = (degrees_of(_atom(basis, z)) for z in (z1, z2))
        fade = np.cos(np.pi / 2 * np.clip(10 * (r / ends - 0.9), 0, 1)) ** 2
        bond.append(fade * _on_axis(f[:n, n:], l1, l2))
        sites[z1].append(fade * _on_axis(f[:n, :n] - _block_of_atom(functional, basis, z1), l1, l1))
        if z1 != z2:  # seen from z2, z1 is in the direction -z: odd l change sign
            added = f[n:, n:] - _block_of_atom(functional, basis, z2)
            sites[z2].append(fade * _on_axis(added, l2, l2) * _signs(l2, l2))
    tables = {(z1, z2): _rounded(np.array(sites[z1])), (z2, z1): _rounded(np.array(sites[z2]))}
    return PairTables({}, {(z1, z2): _rounded(np.array(bond))}, tables, {(z1, z2): ends})


def _fock_of_two(functional: str, basis: str, z1: int, z2: int, r: float) -> np.ndarray:
    """Return F of two atoms on the z axis less their h, in Hartree, m = -l..l."""
    kind, _ = functional_kind(functional, "tabulated")
    mol = _pair(basis, z1, z2, r)
    f = fock_without_xc(mol, functional) - fock_of_potentials(mol, functional)
    f += exchange_correlation_on_axis(mol, functional, kind, mol)
    return PYSCF.to_inside(f, degrees_of(mol))


@lru_cache(maxsize=512)
def _block_of_atom(functional: str, basis: str, z: int) -> np.ndarray:
    """Return the block of an atom alone less its h, in Hartree, m = -l..l (n, n): a number for two shells."""
    kind, _ = functional_kind(functional, "tabulated")
    atom, pair = _atom(basis, z), _pair(basis, z, z, 2.0)
    n = atom.nao
    f = fock_without_xc(atom, functional) - fock_of_potentials(atom, functional)
    f += exchange_correlation_on_axis(pair, functional, kind, atom)[:n, :n]
    degrees = degrees_of(atom)
    f, out = PYSCF.to_inside(f, degrees), np.zeros((n, n))
    starts = np.cumsum([0, *(2 * l + 1 for l in degrees)])
    for i, l in zip(starts, degrees):
        for j, other in zip(starts, degrees):
            if other == l:
                m = np.arange(2 * l + 1)
                out[i + m, j + m] = f[i + m, j + m].mean()
    return _rounded(out)


def _on_axis(block: np.ndarray, l1: list[int], l2: list[int]) -> np.ndarray:
    """Return the integrals of a block between atoms on the z axis (rows,): shells of both, then |m|, means of m and -m."""
    out, i = [], 0
    for a in l1:
        j = 0
        for b in l2:
            k = np.arange(min(a, b) + 1)
            out.append((block[i + a + k, j + b + k] + block[i + a - k, j + b - k]) / 2)
            j += 2 * b + 1
        i += 2 * a + 1
    return np.concatenate(out)


def _signs(l1: list[int], l2: list[int]) -> np.ndarray:
    """Return the sign of each row of `_on_axis` when the axis is reversed."""
    return np.concatenate([np.full(min(a, b) + 1, (-1.0) ** (a + b)) for a in l1 for b in l2])


def _rounded(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.float64)


def _end(basis: str, z1: int, z2: int) -> float:
    """Return the distance in Bohr at which s functions of the smallest exponents overlap by `LEAST_OVERLAP`."""
    a, b = (min(float(_atom(basis, z).bas_exp(k).min()) for k in range(_atom(basis, z).nbas)) for z in (z1, z2))
    return float(np.sqrt(-np.log(LEAST_OVERLAP) * (a + b) / (a * b)))


def _pair(basis: str, z1: int, z2: int, r: float) -> gto.Mole:
    symbols = [chemical_symbols[z] for z in (z1, z2)]
    tables = {s: _atom(basis, z)._basis[s] for s, z in zip(symbols, (z1, z2))}
    return bare_molecule(symbols, np.array([[0, 0, 0], [0, 0, r]]), tables)


@lru_cache(maxsize=512)
def _atom(basis: str, z: int) -> gto.Mole:
    return bare_molecule(
        [chemical_symbols[z]], np.zeros((1, 3)), {chemical_symbols[z]: gto.basis.load(basis, chemical_symbols[z])}
    )
