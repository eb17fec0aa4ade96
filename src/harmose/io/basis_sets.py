"""`harmose.basis` reads a basis set with its radial functions; `harmose.overlap` computes S from them."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ase import Atoms
from ase.data import atomic_numbers

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.radial import RadialBasis
from harmose.errors import BasisError
from harmose.io import pyscf
from harmose.io.siesta.ion_nc import read_ions
from harmose.physics.integrals.overlap import two_centre_overlap

ENDINGS = (".ion.nc", ".ion.xml")


def basis(source: str | Path | Sequence[str | Path], elements: Iterable[str | int] | None = None) -> RadialBasis:
    """Read a basis set with its radial functions, by name or from files.

    Args:
        source: name of a basis set in PySCF, or the path of a SIESTA `.ion.nc` or `.ion.xml` file, or a list of such paths.
        elements: symbols or atomic numbers. Required for a name; for files, the default is all their elements.

    Returns:
        The radial functions, for `overlap`. Their shells and radii (angstrom) are in `.basis`.

    Raises:
        BasisError: the basis set or an element is unknown.
        FormatError: a file is missing, damaged or of another kind.

    Examples:
        >>> import harmose
        >>> sto3g = harmose.basis("sto-3g", ["H", "O"])
        >>> [str(shell) for shell in sto3g.basis.shells[8]]
        ['1s', '2s', '2p']
    """
    wanted = None if elements is None else [_atomic_number(e) for e in _as_list(elements)]
    paths = _as_list(source)
    if not paths:
        raise BasisError("basis: expected the name of a basis set or files, got none")
    if all(str(path).endswith(ENDINGS) for path in paths):
        functions = read_ions(paths)
        return functions if wanted is None else functions.like(functions.basis.restricted(wanted))
    if not isinstance(source, str):
        other = next(path for path in paths if not str(path).endswith(ENDINGS))
        raise BasisError(
            f"basis: expected the name of a basis set, or {' or '.join(ENDINGS)} files, got {str(other)!r}"
        )
    if not wanted:
        raise BasisError(f"basis {source}: expected elements, as in harmose.basis({source!r}, ['C', 'H']), got none")
    return pyscf.radial.radial_basis(source, wanted)


def overlap(atoms: Atoms, basis: RadialBasis | BasisSet) -> BlockMatrix:
    """Compute the overlap matrix S of a structure, exact to 1e-10.

    Args:
        atoms: molecule or crystal.
        basis: result of `harmose.basis`, or the basis set of a sample or model (`sample.basis`, `model.card.basis`) made with
            PySCF, or with CP2K from a basis set that PySCF has. For other codes use
            `harmose.basis(files).like(sample.basis)`, which has the same radii as H and therefore the same blocks.

    Returns:
        S, without unit, with the blocks (i, j, R) of all pairs of atoms within reach of `basis`.

    Raises:
        BasisError: there are no radial functions for an element or for the basis set.
        StructureError: the structure is not valid, for example atoms at the same place.

    Examples:
        >>> import ase.build, harmose
        >>> s = harmose.overlap(ase.build.molecule("H2O"), harmose.basis("sto-3g", ["H", "O"]))
        >>> s.dense().shape
        (7, 7)
    """
    if isinstance(basis, RadialBasis):
        return two_centre_overlap(atoms, basis)
    if not isinstance(basis, BasisSet):
        raise BasisError(f"expected a basis set (harmose.basis(...), sample.basis), got {type(basis).__name__}")
    basis.reach(atoms.numbers.tolist())
    return two_centre_overlap(atoms, radial_functions(basis))


def is_known(basis: BasisSet) -> bool:
    """True if `overlap` can find the radial functions of this basis set by its name."""
    try:
        pyscf.radial.radial_basis(_pyscf_name(basis.name), basis.elements)
    except BasisError:
        return False
    return True


def radial_functions(basis: BasisSet) -> RadialBasis:
    """Return the radial functions that PySCF has under this name; `BasisError` if it has none."""
    try:
        functions = pyscf.radial.radial_basis(_pyscf_name(basis.name), basis.elements)
    except BasisError:
        raise BasisError(
            f"basis {basis.name}: expected one whose radial functions PySCF has; for others give the files: "
            "harmose.basis(files).like(sample.basis)"
        ) from None
    return functions.like(basis)


def _pyscf_name(name: str) -> str:
    """Return PySCF's name of a basis set: gth-dzvp-molopt-sr for CP2K's DZVP-MOLOPT-SR-GTH-q4."""
    kinds = {re.sub(r"^(.+)-gth(-q\d+)?$", r"gth-\1", kind) for kind in name.strip().lower().split("+")}
    return kinds.pop() if len(kinds) == 1 else name


def _as_list(source) -> list:
    return [source] if isinstance(source, str | int | Path) else list(source)


def _atomic_number(element: str | int) -> int:
    number = atomic_numbers.get(element, 0) if isinstance(element, str) else int(element)
    if not 0 < number < len(atomic_numbers):
        raise BasisError(f"basis: expected elements such as 'C' or 6, got {element!r}")
    return number
