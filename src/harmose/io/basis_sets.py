"""`harmose.basis` reads a basis set with its radial functions; `harmose.overlap` computes S from them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ase import Atoms
from ase.data import atomic_numbers

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.radial import RadialBasis
from harmose.core.species import species_of
from harmose.errors import BasisError
from harmose.io import pyscf
from harmose.io.openmx.pao import read_paos
from harmose.io.radial_files import read_files, read_files_like
from harmose.physics.integrals.overlap import two_centre_overlap

OPENMX_NAME = re.compile(r"[A-Z][A-Za-z]*\d+\.\d\w*-([spdfg]\d(>?\d)?)+")
"""Name of a basis set of OpenMX, such as `C6.0-s2p2d1` or `Fe6.0H-s3p2d1`."""


def basis(
    source: str | Path | Sequence[str | Path],
    elements: Iterable[str | int] | str | Path | None = None,
    files: str | Path | Sequence[str | Path] | None = None,
) -> RadialBasis:
    """Read a basis set with its radial functions, by name or from files.

    Args:
        source: name of a basis set in PySCF; or the path of a SIESTA `.ion.nc` or `.ion.xml` file or an ABACUS `.orb` file,
            or a list of such paths; or the name of a basis set of OpenMX such as "C6.0-s2p2d1", or a list of such names.
        elements: symbols or atomic numbers. Required for a name in PySCF; for files, the default is all their elements.
            For names of OpenMX, `files` may stand here, in second place.
        files: for names of OpenMX: the `.pao` files, or the folder that holds them (`DFT_DATA19/PAO`).

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
    sources = _as_list(source)
    if not sources:
        raise BasisError("basis: expected the name of a basis set or files, got none")
    if all(OPENMX_NAME.fullmatch(str(name)) for name in sources):
        return _openmx([str(name) for name in sources], elements, files)
    if files is not None:
        raise BasisError(f"basis: expected names of OpenMX such as 'C6.0-s2p2d1' beside files, got {sources[0]!r}")
    wanted = None if elements is None else [_atomic_number(e) for e in _as_list(elements)]
    functions = read_files(source if isinstance(source, str) else sources)
    if functions is not None:
        return functions if wanted is None else functions.like(functions.basis.restricted(wanted))
    assert isinstance(source, str)
    if not wanted:
        raise BasisError(f"basis {source}: expected elements, as in harmose.basis({source!r}, ['C', 'H']), got none")
    return pyscf.radial.radial_basis(source, wanted)


def _openmx(names: list[str], elements: object, files: object) -> RadialBasis:
    """Read basis sets of OpenMX; `elements` are files where `files` is None."""
    if files is None:
        elements, files = None, elements
    if files is None:
        raise BasisError(f"basis {names[0]}: expected its .pao file or a folder that holds it, as in "
                         f"harmose.basis({names[0]!r}, 'DFT_DATA19/PAO'), got none")  # fmt: skip
    functions = read_paos(names, _as_list(files))
    if elements is None:
        return functions
    return functions.like(functions.basis.restricted([_atomic_number(e) for e in _as_list(elements)]))


def overlap(atoms: Atoms, basis: RadialBasis | BasisSet) -> BlockMatrix:
    """Compute the overlap matrix S of a structure, exact to 1e-10.

    Args:
        atoms: molecule or crystal.
        basis: result of `harmose.basis`, or the basis set of a sample or model (`sample.basis`, `model.card.basis`) made with
            PySCF, or with CP2K from a basis set that PySCF has. For other codes use
            `harmose.basis(files).like(sample.basis)`, which has the same radii as H and therefore the same blocks, or
            `model.radial` of a model that keeps its radial functions.

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
    basis.reach(species_of(atoms))
    return two_centre_overlap(atoms, radial_functions(basis))


def is_known(basis: BasisSet) -> bool:
    """True if `overlap` can find the radial functions of this basis set by its name."""
    try:
        pyscf.radial.radial_basis(_pyscf_name(basis.name), basis.elements)
    except BasisError:
        return False
    return True


def radial_functions(
    basis: BasisSet, files: Sequence[str | Path] = (), names: Mapping[str, str] | None = None
) -> RadialBasis:
    """Return the radial functions of a basis set of samples or of a model.

    Args:
        basis: the basis set.
        files: files of SIESTA, ABACUS or OpenMX that hold them, or folders of such. Default: PySCF's library.
        names: for OpenMX: name of each element's basis set, such as {"C": "C6.0-s2p2d1"}; default: in a folder, the file whose
            cutoff is the radius of `basis`.

    Returns:
        The radial functions of all elements of `basis`.

    Raises:
        BasisError: there are none, or they are those of other shells.
        FormatError: a file is missing, damaged or of another kind.
    """
    if files:
        return read_files_like(basis, files, names)
    try:
        functions = pyscf.radial.radial_basis(_pyscf_name(basis.name), basis.elements)
    except BasisError:
        raise BasisError(
            f"basis {basis.name}: expected one whose radial functions PySCF has; for others give the files: "
            "harmose.basis(files).like(sample.basis), or --basis FILE on the command line"
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
