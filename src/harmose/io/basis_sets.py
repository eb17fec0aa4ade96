"""`harmose.basis` and `harmose.overlap`: a basis set with its radial functions, by name or from files, and S in it."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ase import Atoms
from ase.data import atomic_numbers

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.radial import RadialBasis
from harmose.errors import BasisError
from harmose.io.pyscf.radial import radial_basis
from harmose.io.siesta.ion_nc import read_ions
from harmose.physics.integrals.overlap import two_centre_overlap

ENDINGS = (".ion.nc", ".ion.xml")


def basis(source: str | Path | Sequence[str | Path], elements: Iterable[str | int] | None = None) -> RadialBasis:
    """The basis set `source` with its radial functions: what `overlap` needs; its shells and radii are `.basis`.

    `source` is the name of a basis set of PySCF, with `elements` as symbols or atomic numbers, or the path of a SIESTA
    `.ion.nc` or `.ion.xml` file or a list of them (of their elements `elements` alone, if given). Raises `BasisError` for
    an unknown basis or element, `FormatError` for a file that is missing, damaged or of another kind.
    """
    wanted = None if elements is None else [_atomic_number(e) for e in _as_list(elements)]
    paths = _as_list(source)
    if not paths:
        raise BasisError("basis: expected the name of a basis set or files, got none")
    if all(str(path).endswith(ENDINGS) for path in paths):
        found = read_ions(paths)
        return found if wanted is None else found.like(found.basis.restricted(wanted))
    if not isinstance(source, str):
        other = next(path for path in paths if not str(path).endswith(ENDINGS))
        raise BasisError(
            f"basis: expected the name of a basis set, or {' or '.join(ENDINGS)} files, got {str(other)!r}"
        )
    if not wanted:
        raise BasisError(f"basis {source}: expected elements, as in harmose.basis({source!r}, ['C', 'H']), got none")
    return radial_basis(source, wanted)


def overlap(atoms: Atoms, basis: RadialBasis | BasisSet) -> BlockMatrix:
    """S of a structure, exact to 1e-10: blocks (i, j, R) on the graph of `atoms` and the basis set.

    `basis` is what `harmose.basis` returns, or the basis set of a sample or model (`sample.basis`, `model.card.basis`)
    that was made with PySCF, or with CP2K from a basis set that PySCF has: their blocks are then those of H. For other
    codes `harmose.basis(files).like(sample.basis)` gives the blocks of H. Raises `BasisError` for an element or basis set
    without radial functions, `StructureError` for a structure without meaning.
    """
    if isinstance(basis, RadialBasis):
        return two_centre_overlap(atoms, basis)
    if not isinstance(basis, BasisSet):
        raise BasisError(f"expected a basis set (harmose.basis(...), sample.basis), got {type(basis).__name__}")
    basis.reach(atoms.numbers.tolist())
    return two_centre_overlap(atoms, radial_functions(basis))


def is_known(basis: BasisSet) -> bool:
    """Whether `overlap` has the radial functions of a sample's or model's basis set by its name."""
    try:
        radial_basis(_pyscf_name(basis.name), basis.elements)
    except BasisError:
        return False
    return True


def radial_functions(basis: BasisSet) -> RadialBasis:
    """The functions of a basis set that PySCF has under its name; `BasisError` where it has none."""
    try:
        found = radial_basis(_pyscf_name(basis.name), basis.elements)
    except BasisError:
        raise BasisError(
            f"basis {basis.name}: expected one whose radial functions PySCF has; for others give the files: "
            "harmose.basis(files).like(sample.basis)"
        ) from None
    return found.like(basis)


def _pyscf_name(name: str) -> str:
    """CP2K puts GTH, and the number of electrons of a kind, at the end (DZVP-MOLOPT-SR-GTH-q4), PySCF GTH in front."""
    kinds = {re.sub(r"^(.+)-gth(-q\d+)?$", r"gth-\1", kind) for kind in name.strip().lower().split("+")}
    return kinds.pop() if len(kinds) == 1 else name


def _as_list(source) -> list:
    return [source] if isinstance(source, str | int | Path) else list(source)


def _atomic_number(element: str | int) -> int:
    number = atomic_numbers.get(element, 0) if isinstance(element, str) else int(element)
    if not 0 < number < len(atomic_numbers):
        raise BasisError(f"basis: expected elements such as 'C' or 6, got {element!r}")
    return number
