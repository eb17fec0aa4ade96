"""Convert basis sets, molecules and matrices of PySCF.

PySCF's matrices have the atoms in order, the shells of an atom sorted by l, p as (x, y, z), higher l as m = -l..l, and
energies in Hartree. harmose has m = -l..l for every l, and eV (`so3.conventions.PYSCF`).
"""

import re
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, get_args

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from pyscf import dft, gto, scf

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix, block_values
from harmose.core.electrons import total_charge, unpaired_electrons
from harmose.core.sample import PriorKind
from harmose.errors import BasisError, LabellingError
from harmose.io.assembly import zeros
from harmose.io.pyscf.free_atoms import check_all_electrons, functional_kind
from harmose.io.pyscf.pair_tables import PairTables, pair_tables
from harmose.io.pyscf.superposition import fock_of_atoms
from harmose.so3.conventions import PYSCF, Convention
from harmose.spin import Spin
from harmose.units import BOHR, HARTREE

FLAVOURS = {
    "b3lypg": "B3LYP with VWN3 correlation, as in Gaussian and as `b3lyp` of PySCF since 2.3",
    "b3lyp5": "B3LYP with VWN5 correlation, as in ORCA and Turbomole and as `b3lyp` of PySCF before 2.3",
}
"""Two functionals that are both called B3LYP."""

TAIL = 1e-8
"""An orbital ends where r^l exp(-a r^2) of its most diffuse primitive (r in Bohr) falls below this value."""

MIN_RADIUS = 6.0
"""Smallest orbital radius (angstrom). Exact exchange couples atoms whose orbitals do not overlap.

In the polyene C12H14 with B3LYP, blocks of atoms 13 angstrom apart still have elements of 6 meV. Molecules of QM9 are smaller.
"""


@dataclass(frozen=True)
class PySCFSettings:
    """Settings of a Kohn-Sham calculation: everything that its numbers depend on.

    Raises `LabellingError` for a functional that PySCF does not have and for invalid values.

    Attributes:
        functional: name in PySCF. B3LYP is `b3lypg` or `b3lyp5` (`FLAVOURS`); `b3lyp` is read as `b3lypg`.
        basis: name of the basis set in PySCF.
        grid_level: integration grid, 0 to 9.
        small_rho_cutoff: grid points with a smaller density are dropped.
        convergence: change of the energy (Hartree).
        convergence_gradient: norm of the orbital gradient. None: PySCF's default, the square root of `convergence`.
            1e-6 costs one more cycle and lowers the error of H from 0.16 to 0.02 micro-Hartree.
        max_cycle: maximum number of SCF cycles.
        density_fit: True for density fitting.
        min_radius: smallest orbital radius (angstrom). Long molecules with exact exchange need more.
        spin: none is restricted, collinear unrestricted, spinor generalized with the spin-orbit part of the basis set's
            effective core potentials.
        prior: H0, the Fock matrix of superposed atoms. exact: PySCF's, of the density matrix of its guess `minao`; spherical:
            of spherical atoms and their occupied orbitals, a sixth of the cost (`superposition`); tabulated: nearly the same
            from tables of pairs of atoms, a tenth of that (`pair_tables`).
    """

    functional: str = "pbe"
    basis: str = "def2-svp"
    grid_level: int = 3
    small_rho_cutoff: float = 0.0
    convergence: float = 1e-9
    convergence_gradient: float | None = 1e-6
    max_cycle: int = 100
    density_fit: bool = False
    min_radius: float = MIN_RADIUS
    spin: Spin = Spin.NONE
    prior: PriorKind = "exact"

    def __post_init__(self) -> None:
        object.__setattr__(self, "functional", functional_name(self.functional))
        object.__setattr__(self, "basis", self.basis.strip().lower())
        if self.spin not in tuple(Spin):
            raise LabellingError(f"spin: expected one of {', '.join(Spin)}, got {self.spin!r}")
        object.__setattr__(self, "spin", Spin(self.spin))
        if self.grid_level not in range(10):
            raise LabellingError(f"grid_level: expected 0 to 9, got {self.grid_level}")
        if self.prior not in get_args(PriorKind):
            raise LabellingError(f"prior: expected one of {', '.join(get_args(PriorKind))}, got {self.prior!r}")
        if self.prior != "exact":
            functional_kind(self.functional, self.prior)
            if self.spin is Spin.SPINOR:
                raise LabellingError(
                    f"prior {self.prior}: expected spin none or collinear, got spinor; use the prior exact"
                )
        for name in ("convergence", "convergence_gradient", "max_cycle", "min_radius"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise LabellingError(f"{name}: expected a positive number, got {value}")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values, with the name of the code; spin none and prior exact are left out."""
        content = {"code": "pyscf", **asdict(self), "spin": self.spin.value}
        usual = {"spin": "none", "prior": "exact"}
        return {k: v for k, v in content.items() if k not in usual or v != usual[k]}


def functional_name(name: str) -> str:
    """Return the functional's name in lower case, `b3lypg` for `b3lyp`; `LabellingError` if PySCF does not have it."""
    plain = name.strip().lower()
    plain = "b3lypg" if plain == "b3lyp" else plain
    # Dispersion does not change H, and PySCF needs more packages for it.
    if re.search(r"-d[34]", plain):
        raise LabellingError(f"functional: expected one without dispersion (it does not change H), got {name!r}")
    try:
        exists = bool(plain) and dft.libxc.parse_xc(plain) is not None
    except (KeyError, ValueError, RuntimeError, IndexError, AttributeError):
        exists = False
    if not exists:
        raise LabellingError(f"functional: expected one that PySCF knows (pbe, b3lypg, b3lyp5, ...), got {name!r}")
    return plain


def basis_set(name: str, elements: Iterable[int], min_radius: float = MIN_RADIUS) -> BasisSet:
    """Return the shells of PySCF's basis `name` (e.g. "def2-svp") for these atomic numbers, in PySCF's order.

    For each l, n counts from l + 1 upward. A radius is where the most diffuse primitive falls below `TAIL`, at least
    `min_radius` (angstrom). `BasisError` for an unknown name or an element that the basis set does not have.
    """
    name = name.strip().lower()
    entries = {int(z): _element_shells(name, int(z)) for z in elements}
    return BasisSet(name, {z: e[0] for z, e in entries.items()}, {z: max(e[1], min_radius) for z, e in entries.items()})


@lru_cache(maxsize=512)
def _element_shells(name: str, z: int) -> tuple[tuple[Shell, ...], float]:
    return orbitals_of_atom(free_atom(name, z), 0)


def orbitals_of_atom(mol: gto.Mole, atom: int) -> tuple[tuple[Shell, ...], float]:
    """Return the shells of an atom in PySCF's order, n from l + 1 upward, and the radius (angstrom) at which they end."""
    shells: list[Shell] = []
    radius = 0.0
    for k in mol.atom_shell_ids(atom):
        l = int(mol.bas_angular(k))
        for _ in range(int(mol.bas_nctr(k))):
            shells.append(Shell(l + 1 + sum(s.l == l for s in shells), l))
        radius = max(radius, _tail_radius(l, float(mol.bas_exp(k).min())))
    return tuple(shells), round(radius, 4)


def free_atom(name: str, z: int) -> gto.Mole:
    """Return an atom at the origin in PySCF's basis `name`; `BasisError` as in `basis_set`."""
    return _build(name, [(_symbol(z), (0.0, 0.0, 0.0))], spin=None)


def _tail_radius(l: int, exponent: float) -> float:
    """Return r (angstrom) with r^l exp(-a r^2) = TAIL beyond the maximum. Iterates a r^2 = l ln r - ln TAIL."""
    r = np.sqrt(-np.log(TAIL) / exponent)
    for _ in range(50):
        r = np.sqrt(max(l * np.log(r) - np.log(TAIL), 1e-12) / exponent)
    return float(r * BOHR)


def check_molecule(atoms: Atoms, basis: str, spin: Spin = Spin.NONE) -> None:
    """Raise the errors of `molecule` without building it."""
    formula = atoms.get_chemical_formula()
    if atoms.pbc.any():
        raise LabellingError(f"{formula}: expected a molecule, got a structure with pbc {atoms.pbc.tolist()}")
    basis_set(basis, set(atoms.numbers.tolist()))
    n_electrons = int(atoms.numbers.sum()) - charge(atoms)
    n_unpaired = unpaired(atoms)
    if spin is not Spin.COLLINEAR and (n_electrons % 2 or n_electrons <= 0):
        kind = "restricted" if spin is Spin.NONE else "time-reversal symmetric"
        raise LabellingError(f"{formula}: {kind} Kohn-Sham wants an even number of electrons, got {n_electrons}")
    if not 0 <= n_unpaired <= n_electrons or (n_electrons - n_unpaired) % 2:
        raise LabellingError(f"{formula}: {n_electrons} electrons cannot have {n_unpaired} of them unpaired (spin)")
    if spin is not Spin.COLLINEAR and n_unpaired:
        raise LabellingError(
            f"{formula}: expected 0 unpaired electrons for labels of spin {spin}, got {n_unpaired} (spin)"
        )
    if spin is Spin.SPINOR and not any(_has_spin_orbit(basis, int(z)) for z in set(atoms.numbers.tolist())):
        raise LabellingError(
            f"{formula}: basis {basis} has no spin-orbit potential for any of its elements (crenbl has)"
        )


def charge(atoms: Atoms) -> int:
    """Return the `total_charge` of a structure; `LabellingError` if it is not whole, `StructureError` if it is no number."""
    return _whole(total_charge(atoms, atoms.get_chemical_formula()), atoms, "charge")


def unpaired(atoms: Atoms) -> int:
    """Return the number of unpaired electrons that a structure states, by default 0 or 1; errors as in `charge`."""
    stated = unpaired_electrons(atoms, atoms.get_chemical_formula())
    return (int(atoms.numbers.sum()) - charge(atoms)) % 2 if stated is None else _whole(stated, atoms, "spin")


def _whole(value: float, atoms: Atoms, key: str) -> int:
    if value != round(value):
        raise LabellingError(f"{atoms.get_chemical_formula()}: expected a whole number as {key}, got {value!r}")
    return round(value)


@lru_cache(maxsize=512)
def _has_spin_orbit(name: str, z: int) -> bool:
    potential = _load(gto.basis.load_ecp, name.strip().lower(), _symbol(z))
    # For each l and power of r: terms (exponent, coefficient), with a third number if there is spin-orbit coupling.
    return bool(potential) and any(len(term) > 2 for _, powers in potential[1] for terms in powers for term in terms)


def molecule(atoms: Atoms, basis: str, spin: Spin = Spin.NONE) -> gto.Mole:
    """Return PySCF's molecule: spherical orbitals, no symmetry, the charge `charge(atoms)`, closed shell unless collinear.

    Effective core potentials are those of the basis set. `BasisError` for an unknown basis set or element, `LabellingError`
    for a periodic structure or a number of electrons that `spin` does not allow.
    """
    check_molecule(atoms, basis, spin)
    geometry = [(_symbol(int(z)), tuple(x)) for z, x in zip(atoms.numbers, atoms.positions.tolist(), strict=True)]
    n_unpaired = unpaired(atoms) if spin is Spin.COLLINEAR else 0
    return _build(basis.strip().lower(), geometry, spin=n_unpaired, charge=charge(atoms))


def has_basis(mol: gto.Mole, name: str) -> bool:
    """True if the molecule has the shells, exponents and contractions of the basis set `name`."""
    geometry = [(mol.atom_pure_symbol(k), x) for k, x in enumerate(mol.atom_coords(unit="angstrom").tolist())]
    expected = _build(name, geometry, spin=None)
    if mol.cart or mol.nbas != expected.nbas or not np.array_equal(mol.ao_loc, expected.ao_loc):
        return False
    tables = ("bas_atom", "bas_angular", "bas_exp", "bas_ctr_coeff")
    return all(_alike(getattr(mol, f)(k), getattr(expected, f)(k)) for f in tables for k in range(mol.nbas))


def _alike(a: Any, b: Any) -> bool:
    return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-8, atol=0)


def _build(name: str, geometry: list, **options: Any) -> gto.Mole:
    symbols = {symbol for symbol, _ in geometry}
    tables = {symbol: _load(gto.basis.load, name, symbol) for symbol in symbols}
    if not all(tables.values()):
        raise BasisError(_unknown_basis(name, next(s for s in symbols if not tables[s])))
    potentials = {symbol: ecp for symbol in symbols if (ecp := _load(gto.basis.load_ecp, name, symbol))}
    mol = gto.Mole(atom=geometry, unit="angstrom", cart=False, symmetry=False, verbose=0, **options)
    return mol.build(False, False, basis=tables, ecp=potentials)


def _load(loader: Any, name: str, symbol: str) -> Any:
    """Load a table of PySCF's library, or return None. `BasisError` for paths, because PySCF would open such a file."""
    if not re.fullmatch(r"[a-z0-9+*(),_\- @]+", name):
        raise BasisError(f"basis: expected a name such as def2-svp, got {name!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice to install basis-set-exchange
        try:
            return loader(name, symbol)
        except (RuntimeError, KeyError, ValueError, IndexError, OSError):
            return None


def _unknown_basis(name: str, symbol: str) -> str:
    if _load(gto.basis.load, name, "H"):
        return f"basis {name}: PySCF has no {name} for {symbol}"
    return f"basis {name}: expected a basis set that PySCF knows (def2-svp, sto-3g, ...), got {name!r}"


def _symbol(z: int) -> str:
    if not 0 < z < len(chemical_symbols):
        raise BasisError(f"expected a chemical element, got atomic number {z}")
    return chemical_symbols[z]


EXCHANGE_TAIL = 1e-3
"""eV. Exact exchange reaches further than the orbitals of two atoms: in molecules longer than their reach this is dropped."""


def to_blocks(
    matrix: np.ndarray,
    layout: BlockMatrix,
    energy: bool = True,
    name: str = "matrix",
    convention: Convention = PYSCF,
    dropped: float | None = None,
) -> BlockMatrix:
    """Convert a dense matrix of a molecule, Hartree -> eV if `energy`, to the blocks of `layout`.

    `matrix`: (n, n), for UKS (2, n, n), for GKS (2n, 2n), with orbitals in the order of `convention`. `MatrixError`, with
    `name`, for another size, a matrix that is not Hermitian, or a value above `dropped` (default 1e-6) in a block outside the
    graph; smaller values are dropped.
    """
    inside = convention.to_inside(np.asarray(matrix), _degrees(layout)) if _fits(matrix, layout) else np.asarray(matrix)
    return block_values(inside * (HARTREE if energy else 1.0), layout, name=name, dropped=dropped)


def from_blocks(operator: BlockMatrix, energy: bool = True) -> np.ndarray:
    """Return PySCF's matrix: (n, n), collinear (2, n, n), spinor (2n, 2n); eV -> Hartree if `energy`. Inverse of `to_blocks`."""
    return PYSCF.from_inside(operator.dense(), _degrees(operator)) / (HARTREE if energy else 1.0)


def _fits(matrix: np.ndarray, layout: BlockMatrix) -> bool:
    n = layout.n_orbitals * (2 if layout.spin is Spin.SPINOR else 1)
    return np.shape(matrix)[-2:] == (n, n)


def _degrees(layout: BlockMatrix) -> list[int]:
    """Return the l of all shells along one axis of the matrix; in a spinor matrix all up orbitals come first."""
    atoms = [l for z in np.asarray(layout.numbers).tolist() for l in layout.basis.degrees(z)]
    return atoms * (2 if layout.spin is Spin.SPINOR else 1)


def mean_field(mol: gto.Mole, settings: PySCFSettings) -> scf.hf.SCF:
    """Return PySCF's Kohn-Sham object (RKS, UKS or GKS) with these settings. It has not been run and writes no files."""
    kinds = {Spin.NONE: dft.RKS, Spin.COLLINEAR: dft.UKS, Spin.SPINOR: dft.GKS}
    mf = kinds[settings.spin](mol, xc=settings.functional)
    if settings.spin is Spin.SPINOR:
        mf.with_soc = True
    if settings.density_fit:
        mf = mf.density_fit()
    mf.chkfile = None
    mf.grids.level = settings.grid_level
    mf.small_rho_cutoff = settings.small_rho_cutoff
    mf.conv_tol, mf.conv_tol_grad = settings.convergence, settings.convergence_gradient
    mf.max_cycle = settings.max_cycle
    return mf


def prior(
    atoms: Atoms, settings: PySCFSettings, basis: BasisSet | None = None, tables: PairTables | None = None
) -> BlockMatrix:
    """Compute H0 (eV), the Fock matrix of superposed atomic densities, with these settings.

    `basis` determines the blocks; default: `settings.basis` for the elements of the structure. `tables` as in `prior_fock`.
    """
    basis = basis or basis_set(settings.basis, set(atoms.numbers.tolist()), settings.min_radius)
    h0 = prior_fock(molecule(atoms, settings.basis, settings.spin), settings, tables)
    return to_blocks(h0, zeros(atoms, basis, settings.spin), name="H0", dropped=EXCHANGE_TAIL)


def prior_fock(mol: gto.Mole, settings: PySCFSettings, tables: PairTables | None = None) -> np.ndarray:
    """Compute H0 in PySCF's order (Hartree). `tables`: those of a tabulated H0; default: computed."""
    if settings.prior == "exact":
        mf = mean_field(mol, settings)
        return np.asarray(mf.get_fock(dm=mf.init_guess_by_minao(mol)))
    if settings.prior == "spherical":
        h0 = fock_of_atoms(mol, settings.functional)
    else:
        check_all_electrons(mol, "tabulated")
        if tables is None:
            elements = [gto.charge(mol.atom_pure_symbol(k)) for k in range(mol.natm)]
            tables = pair_tables(settings.functional, settings.basis, elements)
        h0 = tables.fock(mol, settings.functional)
    return np.stack([h0, h0]) if settings.spin is Spin.COLLINEAR else h0


def overlap(atoms: Atoms, name: str, basis: BasisSet | None = None, spin: Spin = Spin.NONE) -> BlockMatrix:
    """Compute S in PySCF's basis set `name`. `spin` determines which numbers of electrons are allowed."""
    basis = basis or basis_set(name, set(atoms.numbers.tolist()))
    mol = molecule(atoms, name, spin)
    return to_blocks(mol.intor_symmetric("int1e_ovlp"), zeros(atoms, basis), energy=False, name="S")
