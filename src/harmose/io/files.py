"""Read and write samples: `read`, `read_all`, `read_overlap` and `write`. The formats are in `harmose.io.formats`."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.data.checks import fingerprint
from harmose.errors import FormatError, HarmoseError
from harmose.io.folders import find_runs
from harmose.io.formats import Format as Format
from harmose.io.formats import format_named, formats
from harmose.io.formats import register as register
from harmose.io.overlaps import Overlap, overlap_on_graph
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


def read_overlap(path: str | Path, atoms: Atoms, basis: BasisSet, name: str | None = None) -> BlockMatrix:
    """Read the overlap S of a structure, also from a calculation without H.

    Args:
        path: anything that `read` opens, or a calculation of S alone: DeepH's folder without hamiltonian.h5, ABACUS with
            `calculation get_s`; or a folder of such.
        atoms: the structure. It may be translated.
        basis: basis set of S, with the radii for the blocks.
        name: name of the sample that is tried first.

    Returns:
        S in the blocks of the graph of `atoms` and `basis`, one matrix for all spins.

    Raises:
        FormatError: nothing is recognised at `path`, or no sample has this structure or has S.
        BasisError: S is in another basis set.
        MatrixError: S has values outside the reach of `basis`.

    Examples:
        >>> import ase.build, harmose
        >>> water = ase.build.molecule("H2O")
        >>> h = harmose.load("water-pbe-def2svp").predict(water)
        >>> s = harmose.overlap(water, h.basis)
        >>> harmose.write("water.npz", harmose.Sample("water", water, h.basis, h, overlap=s))
        >>> harmose.read_overlap("water.npz", water, h.basis).n_orbitals
        24
    """
    return Overlaps(path).find(atoms, basis, name)


class Overlaps:
    """S of many structures at one place, as `read_overlap` finds it; each calculation is searched once."""

    def __init__(self, path: str | Path):
        self._path = Path(path)
        self._runs = _overlaps(self._path)
        self._damaged = ""
        self._searched: dict[str, str] = {}  # names by fingerprint of the structure
        self._left = iter(self._runs)

    def find(self, atoms: Atoms, basis: BasisSet, name: str | None = None) -> BlockMatrix:
        """Return S of a structure; arguments and errors as in `read_overlap`."""
        wanted = fingerprint(atoms)
        found = self._load(name) if name in self._runs else None
        if found is None or fingerprint(found.structure) != wanted:
            name, found = self._search(wanted, name)
        where = str(self._path) if len(self._runs) == 1 else f"{self._path}: {name}"
        return overlap_on_graph(found, atoms, basis, where)

    def _search(self, wanted: str, name: str | None) -> tuple[str, Overlap]:
        known = self._searched.get(wanted)
        if known is not None and (overlap := self._load(known)) is not None:
            return known, overlap
        for key in self._left:
            overlap = self._load(key)
            if overlap is None:
                continue
            own = fingerprint(overlap.structure)
            self._searched.setdefault(own, key)
            if own == wanted:
                return key, overlap
        raise FormatError(
            f"{self._path}: none of its {len(self._runs)} samples has the structure of {name or 'the prediction'!r}"
            f"{self._damaged}"
        )

    def _load(self, key: str) -> Overlap | None:
        try:
            return self._runs[key]()
        except HarmoseError as error:
            if len(self._runs) == 1:
                raise
            self._damaged = self._damaged or f"; {key} cannot be read: {error}"
            return None


def has_only_overlap(path: str | Path) -> bool:
    """True for a calculation, or a folder of calculations, with S and without H."""
    candidates = [format for format in formats() if format.read_overlap]
    with_s = find_runs(Path(path), candidates, lambda format, place: format.has_overlap(place))
    return bool(with_s.runs) and not find_runs(Path(path), candidates).runs


def _overlaps(path: Path) -> dict[str, Callable[[], Overlap]]:
    """Return a function that reads S for each sample at `path`, by its name."""
    if not path.exists():
        raise FormatError(f"{path}: no such file or folder")
    candidates = [format for format in formats() if format.read_overlap]
    found = find_runs(path, candidates, lambda format, place: format.has_overlap(place))
    if found.runs:
        return {name: partial(_read_overlap, format, place) for name, (format, place) in found.runs.items()}
    source = open_source(path)
    return {name: partial(_overlap_of, source, name, path) for name in source.names()}


def _read_overlap(format: Format, place: Path) -> Overlap:
    assert format.read_overlap is not None
    return format.read_overlap(place, None)


def _overlap_of(source: Source, name: str, path: Path) -> Overlap:
    sample = source[name]
    if sample.overlap is None:
        raise FormatError(f"{path}: expected S, got the sample {name!r} without S")
    return Overlap(name, sample.structure, sample.overlap)


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
    opened = next((candidate for candidate in candidates if candidate.open and candidate.recognises(path)), None)
    # A format of files with many samples is asked after those that stand before it in the table.
    earlier = candidates if opened is None else candidates[: candidates.index(opened)]
    if opened is not None and not any(other.recognises(path) for other in earlier):
        return _opened(opened, path, basis)
    found = find_runs(path, [candidate for candidate in candidates if candidate.read])
    if found.runs:
        if format is not None:
            found.left_out |= _of_other_formats(path, found.runs, format)
        return found.source(path, basis)
    if format is not None:
        if candidates[0].read is not None:  # the reader's error says what is missing
            return Runs({path.resolve().name: path}, candidates[0].read, basis)
        raise FormatError(f"{path}: expected {format} ({candidates[0].description}), got {_contents(path)}")
    if found.left_out:
        raise FormatError(found.reason(path))
    readable = "; ".join(f"{candidate.name} ({candidate.description})" for candidate in candidates)
    raise FormatError(f"{path}: not recognised, it is {_contents(path)}; known are: {readable}")


def _of_other_formats(path: Path, runs: Mapping[str, object], name: str) -> dict[str, str]:
    """Return the calculations at `path` that are not of the format that was asked for, each with its own."""
    every = find_runs(path, [format for format in formats() if format.read])
    others = {run: format.name for run, (format, _) in every.runs.items() if run not in runs}
    return {run: f"a calculation of the format {other}, not of {name}" for run, other in others.items()}


def _opened(format: Format, path: Path, basis: BasisSet | None) -> Source:
    assert format.open is not None
    if basis is not None:
        raise FormatError(f"{path}: expected no basis set to read it in, it has its own ({format.description})")
    return format.open(path)


def _contents(path: Path) -> str:
    """A file or folder in a few words, for errors."""
    if path.is_dir():
        names = sorted(f.name for f in path.iterdir() if not f.name.startswith("."))
        some = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        return f"a folder with {some}" if names else "an empty folder"
    return f"a file of {path.stat().st_size} bytes"
