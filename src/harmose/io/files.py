"""Read and write samples: `read`, `read_all` and `write`. The formats are in `harmose.io.formats`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from harmose.core.basis import BasisSet
from harmose.core.sample import Sample
from harmose.errors import FormatError
from harmose.io.formats import Format as Format
from harmose.io.formats import format_named, formats
from harmose.io.formats import register as register
from harmose.io.sources import Runs, Source


def read(path: str | Path, name: str | None = None, format: str | None = None, basis: BasisSet | None = None) -> Sample:
    """Read one sample.

    Args:
        path: a store or `.npz` of harmose, the folder of a DFT calculation, a folder of such folders, or the file of a
            published data set.
        name: name of the sample. Required if there are several.
        format: name of the format (`docs/formats.md`). Default: detected.
        basis: basis set to read DFT calculations in, where their files do not fix the radii. Default: the smallest radii
            that cover all blocks that are not zero.

    Returns:
        The sample: structure (angstrom), H (eV), and what the file holds besides (S, energies in eV, ...).

    Raises:
        FormatError: there is nothing at `path`, its format is not recognised, it is damaged, or `name` is not there.
        BasisError: the calculation has other shells than `basis`.
        MatrixError: a matrix is not Hermitian, or has values outside the reach of `basis`.
        StructureError: the structure is not valid, for example atoms at the same place.

    Examples:
        >>> import ase.build, harmose
        >>> water = ase.build.molecule("H2O")
        >>> h = harmose.load("water-pbe-def2svp").predict(water)
        >>> harmose.write("water.npz", harmose.Sample("water", water, h.basis, h))
        >>> harmose.read("water.npz").hamiltonian.n_orbitals
        24
    """
    source = open_source(path, format, basis)
    names = source.names()
    if name is None:
        if len(names) != 1:
            some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise FormatError(f"{path}: expected the name of one of its {len(names)} samples ({some}), got none")
        name = names[0]
    elif name not in names and len(names) == 1:
        raise FormatError(f"{path}: expected the sample {name!r}, got {names[0]!r}")
    return source[name]


def read_all(path: str | Path, format: str | None = None, basis: BasisSet | None = None) -> Iterator[Sample]:
    """Read all samples, one after the other.

    Several calculations are read in one basis set: for each element the largest of their radii, unless `basis` is given.

    Args:
        path: as in `read`.
        format: name of the format. Default: detected.
        basis: basis set to read DFT calculations in.

    Yields:
        The samples, in the order of their names or of the file.

    Raises:
        FormatError: and the other errors of `read`, when the sample concerned is read.

    Examples:
        >>> import ase.build, harmose
        >>> model = harmose.load("water-pbe-def2svp")
        >>> with harmose.Store.create("waters", model.card.basis) as store:
        ...     for k in range(2):
        ...         water = ase.build.molecule("H2O")
        ...         water.rattle(0.05, seed=k)
        ...         h = model.predict(water)
        ...         store.append(harmose.Sample(f"water-{k}", water, h.basis, h))
        >>> [sample.name for sample in harmose.read_all("waters")]
        ['water-0', 'water-1']
    """
    source = open_source(path, format, basis)
    for name in source.names():
        yield source[name]


def write(path: str | Path, sample: Sample, format: str | None = None) -> None:
    """Write one sample. The file or folder appears complete or not at all.

    Args:
        path: new file or folder.
        sample: sample to write.
        format: "npz", "store", "deeph", "deeph-legacy", "wannier90" or "petsc". Default: "npz" for the suffix `.npz`, else
            "store".

    Raises:
        FormatError: `path` exists, the format is unknown, or it cannot hold this sample.

    Examples:
        >>> import ase.build, harmose
        >>> water = ase.build.molecule("H2O")
        >>> h = harmose.load("water-pbe-def2svp").predict(water)
        >>> harmose.write("water", harmose.Sample("water", water, h.basis, h), "wannier90")
    """
    path = Path(path)
    if format is None:
        format = "npz" if path.suffix == ".npz" else "store"
    if format not in writable_formats():
        raise FormatError(f"format: expected one of {', '.join(writable_formats())}, got {format!r}")
    save = format_named(format).write
    assert save is not None
    save(path, sample)


def writable_formats() -> list[str]:
    """Names of the formats that `write` accepts."""
    return [format.name for format in formats() if format.write is not None]


def open_source(path: str | Path, format: str | None = None, basis: BasisSet | None = None) -> Source:
    """Open all samples at `path` by their names; arguments and errors as in `read`."""
    path = Path(path)
    if not path.exists():
        raise FormatError(f"{path}: no such file or folder")
    candidates = [candidate for candidate in formats() if candidate.read or candidate.open]
    if format is not None:
        candidates = [candidate for candidate in candidates if candidate is format_named(format)]
        if not candidates:
            raise FormatError(f"{path}: harmose writes the format {format}, but does not read it")
    for candidate in candidates:
        if candidate.recognises(path):
            return _open(candidate, {path.resolve().name: path}, path, basis)
    runs = _runs_below(path, candidates)
    if runs:
        kind, folders = runs
        return _open(kind, folders, path, basis)
    if format is not None:
        if candidates[0].read is not None:  # the reader's error says what is missing
            return _open(candidates[0], {path.resolve().name: path}, path, basis)
        raise FormatError(f"{path}: expected {format} ({candidates[0].description}), got {_contents(path)}")
    readable = "; ".join(f"{candidate.name} ({candidate.description})" for candidate in candidates)
    raise FormatError(f"{path}: not recognised, it is {_contents(path)}; known are: {readable}")


def _open(format: Format, folders: Mapping[str, Path], path: Path, basis: BasisSet | None) -> Source:
    if format.open is not None:
        if basis is not None:
            raise FormatError(f"{path}: expected no basis set to read it in, it has its own ({format.description})")
        return format.open(path)
    assert format.read is not None
    return Runs(folders, format.read, basis)


def _runs_below(path: Path, candidates: list[Format]) -> tuple[Format, dict[str, Path]] | None:
    """The folders of calculations below `path`, by their relative paths. Folders inside such a folder are not searched.

    `FormatError` for calculations of two formats.
    """
    runs: dict[Format, dict[str, Path]] = {}
    candidates = [candidate for candidate in candidates if candidate.read is not None]
    folders = _subfolders(path)
    while folders:
        folder = folders.pop()
        format = next((candidate for candidate in candidates if candidate.recognises(folder)), None)
        if format is not None:
            runs.setdefault(format, {})[folder.relative_to(path).as_posix()] = folder
        else:
            folders += _subfolders(folder)
    if len(runs) > 1:
        some = ", ".join(f"{len(folders)} of {format.name}" for format, folders in runs.items())
        raise FormatError(f"{path}: expected calculations of one format, got {some}; choose one with --format")
    return next(iter(runs.items()), None)


def _subfolders(path: Path) -> list[Path]:
    """Folders that are neither hidden nor links, last one first; 9 comes before 10."""
    if not path.is_dir():
        return []
    folders = [f for f in path.iterdir() if f.is_dir() and not f.is_symlink() and not f.name.startswith(".")]
    return sorted(folders, key=lambda f: (len(f.name) if f.name.isdecimal() else 1000, f.name), reverse=True)


def _contents(path: Path) -> str:
    """A file or folder in a few words, for errors."""
    if path.is_dir():
        names = sorted(f.name for f in path.iterdir() if not f.name.startswith("."))
        some = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        return f"a folder with {some}" if names else "an empty folder"
    return f"a file of {path.stat().st_size} bytes"
