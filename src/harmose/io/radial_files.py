"""Files of radial functions: SIESTA's `.ion.nc` and `.ion.xml`, ABACUS's `.orb`, OpenMX's `.pao`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harmose.core.basis import BasisSet
from harmose.core.radial import Gaussians, RadialBasis, Tabulated
from harmose.core.sample import Sample
from harmose.core.species import atomic_number_of, species_of, symbol_of
from harmose.errors import BasisError, FormatError, HarmoseError
from harmose.io.abacus.orb import read_orb, read_orbs
from harmose.io.openmx.pao import read_paos_like
from harmose.io.siesta.ion_nc import read_ion, read_ions
from harmose.physics.integrals.overlap import two_centre_overlap

ENDINGS = {
    "siesta": (".ion.nc", ".ion.xml"),
    "abacus": (".orb",),
    "openmx": (".pao", ".pao.gz"),
}
"""Endings of the files by code; of two files of one name, such as Si.ion.nc and Si.ion.xml, the first is read."""

ALL = tuple(ending for endings in ENDINGS.values() for ending in endings)

TOLERANCE = 1e-4
"""Largest difference between S of a sample and S from its own radial functions. FHI-aims apart, codes agree to 1e-7."""


def read_files(source: str | Path | Sequence[str | Path]) -> RadialBasis | None:
    """Read one file for each element as one basis set.

    Args:
        source: path of a file, or a list of paths. A text with another ending may be the name of a basis set.

    Returns:
        The radial functions; None for a text with another ending.

    Raises:
        BasisError: there are two files of one element, or files of several codes or of none.
        FormatError: a file is missing, damaged or of another kind.
    """
    paths = [source] if isinstance(source, str | Path) else list(source)
    codes = {_code(path) for path in paths}
    if codes == {"siesta"}:
        return read_ions(paths)
    if codes == {"abacus"}:
        return read_orbs(paths)
    if codes == {"openmx"}:
        raise BasisError(
            f"basis: expected also the name of the basis set, since {paths[0]} holds the functions of many: "
            f"harmose.basis('C6.0-s2p2d1', {str(paths[0])!r})"
        )
    if isinstance(source, str) and codes == {None}:
        return None
    other = next(path for path in paths if _code(path) != _code(paths[0]) or _code(path) is None)
    raise BasisError(
        f"basis: expected the name of a basis set, or files of one code ({', '.join(ALL)}), got {str(other)!r}"
    )


def read_files_like(
    basis: BasisSet, files: Sequence[str | Path], names: Mapping[str, str] | None = None
) -> RadialBasis:
    """Read the radial functions of a basis set.

    Args:
        basis: basis set of samples or of a model.
        files: files of one code, or folders of such.
        names: for OpenMX, the name of each element's basis set.

    Returns:
        The radial functions, with the shells and radii of `basis`.

    Raises:
        BasisError: an element has no file, or its functions are those of other shells.
        FormatError: a file is missing, damaged or of another kind, or there are files of no or of several codes.
    """
    paths = [Path(file) for file in files]
    found = {path: _code(path) if not path.is_dir() else _code_of_folder(path, basis) for path in paths}
    codes = set(found.values())
    if None in codes:
        path = next(path for path, code in found.items() if code is None)
        what = "files" if not path.is_dir() else "a folder of files of one code"
        raise FormatError(f"{path}: expected radial functions, {what} ending in {', '.join(ALL)}, got others")
    if len(codes) > 1:
        raise FormatError(
            f"expected radial functions of one code, got those of {' and '.join(sorted(map(str, codes)))}"
        )
    code = codes.pop()
    if code == "openmx":
        return read_paos_like(basis, paths, names)
    inside = [file for path in paths for file in (_files_of_folder(path, str(code)) if path.is_dir() else [path])]
    element, read = (_element_of_ion, read_ions) if code == "siesta" else (_element_of_orb, read_orbs)
    if len({atomic_number_of(z) for z in basis.elements}) < len(basis.elements):
        return RadialBasis(
            basis, {z: _functions_of(z, basis, [read([file]) for file in inside]) for z in basis.elements}
        )
    chosen = [file for file in inside if element(file) in basis.elements]
    missing = set(basis.elements) - {element(file) for file in chosen}
    if missing:
        raise BasisError(f"basis {basis.name}: expected radial functions of {symbol_of(min(missing))}, got none in "
                         f"{', '.join(map(str, paths))}")  # fmt: skip
    return read(chosen).like(basis)


def _functions_of(
    z: int, basis: BasisSet, files: Sequence[RadialBasis]
) -> tuple[Gaussians, ...] | tuple[Tabulated, ...]:
    """Return the functions of one of several sets of orbitals of an element, from files of one set each."""
    element = atomic_number_of(z)
    found = [one for one in files if one.elements == (element,) and one.basis.degrees(element) == basis.degrees(z)]
    if len(found) != 1:
        shells = " ".join(map(str, basis.shells[z]))
        raise BasisError(f"basis {basis.name}: expected one file with the functions of {symbol_of(z)} ({shells}), got "
                         f"{len(found) or 'none'}")  # fmt: skip
    return found[0].of(element)


def pao_names(provenance: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the name of each element's basis set of OpenMX, such as {"C": "C6.0-s2p2d1"}, by a sample's provenance; {} without."""
    settings = provenance.get("settings")
    names = settings.get("pao") if isinstance(settings, Mapping) else None
    return names if isinstance(names, Mapping) else {}


def functions_beside(folder: str | Path, sample: Sample) -> RadialBasis | None:
    """Return the radial functions in the folder of a calculation, if they are those of its basis set.

    Args:
        folder: folder of the calculation.
        sample: the calculation.

    Returns:
        The radial functions; None without files, without S in the sample, and for files whose S is another one.
    """
    folder = Path(folder)
    folder = folder.parent if folder.is_file() or folder.name.startswith("OUT.") else folder  # ABACUS's output
    if sample.overlap is None or _code_of_folder(folder, sample.basis) is None:
        return None
    try:
        functions = read_files_like(
            sample.basis.restricted(species_of(sample.structure).tolist()), [folder], pao_names(sample.provenance)
        )
        check_functions(functions, sample)
    except HarmoseError:
        return None
    return functions


def check_functions(functions: RadialBasis, sample: Sample) -> None:
    """Check that radial functions are those with which a calculation was made.

    Args:
        functions: radial functions.
        sample: the calculation; one without S passes.

    Raises:
        BasisError: its S is another one.
    """
    if sample.overlap is None:
        return
    basis = sample.basis.restricted(species_of(sample.structure).tolist())
    own, s = two_centre_overlap(sample.structure, functions.like(basis)), sample.overlap
    same = np.array_equal(own.pairs, s.pairs) and own.values.shape == s.values.shape
    difference = float(np.abs(own.values - s.values).max(initial=0.0)) if same else np.inf
    if not difference < TOLERANCE:
        raise BasisError(f"basis {functions.name}: expected the radial functions of the labels, got others: S of sample "
                         f"{sample.name} differs by {difference:.2g}")  # fmt: skip


def _code(path: str | Path) -> str | None:
    """Return the code of a file by its ending."""
    return next((code for code, endings in ENDINGS.items() if str(path).endswith(endings)), None)


def _files_of_folder(folder: Path, code: str) -> list[Path]:
    """Return the files of a code in a folder, one of each name."""
    chosen: dict[str, Path] = {}
    for ending in ENDINGS[code]:
        for file in sorted(folder.glob(f"*{ending}")):
            chosen.setdefault(file.name.removesuffix(ending), file)
    return list(chosen.values())


def _code_of_folder(folder: Path, basis: BasisSet) -> str | None:
    """Return the only code of which there are files in a folder, or else the one after which the basis set is named."""
    codes = [code for code in ENDINGS if _files_of_folder(folder, code)]
    if not codes and (folder / "PAO").is_dir():  # OpenMX's DFT_DATA19
        return "openmx"
    return codes[0] if len(codes) == 1 else basis.name if basis.name in codes else None


def _element_of_ion(path: Path) -> int:
    return read_ion(path).number


def _element_of_orb(path: Path) -> int:
    return read_orb(path).number
