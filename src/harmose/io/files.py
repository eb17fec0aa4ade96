"""Reading and writing samples: `read`, `read_all` and `write`, and one table of what a path may be.

A kind of file or folder is a line of `FORMATS`. To add one: a function `read(folder, basis=None) -> Sample` in a file of
`harmose.io`, and its line; the module is imported when such a path is read.
"""

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harmose.core.basis import BasisSet
from harmose.core.sample import Sample
from harmose.data.database import open_database
from harmose.data.store import Store, new_store
from harmose.errors import FormatError
from harmose.io.npz import read_npz, write_npz
from harmose.io.sources import Runs, Source
from harmose.io.sqlite import columns, is_sqlite

Open = Callable[[Path], Source]


@dataclass(frozen=True)
class Format:
    """A kind of path: its name for `format=` and `--format`, in words, how to recognise it, and how to open it.

    `run` ("module:function") reads one calculation as `io.sources.ReadRun`; a folder of such calculations is then a source,
    too. `open` gives a source of another sort.
    """

    name: str
    kind: str
    recognises: Callable[[Path], bool]
    run: str | None = None
    open: Open | None = None


def read(path: str | Path, name: str | None = None, format: str | None = None, basis: BasisSet | None = None) -> Sample:
    """The sample at `path`: the only one, or, of many, the one called `name`.

    `path` may be a harmose store or `.npz`, the folder of a DFT calculation, a folder of such folders, or a database of a
    published data set (`FORMATS`). `format` names its kind where it is not recognised, or is taken for another. `basis` is
    the basis set to read calculations in, where their files do not fix the radii (default: what covers their blocks).
    Raises `FormatError` when there is nothing at `path`, when its kind is not known, or when it is damaged.
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
    """All samples at `path`, one after the other and in one basis set; arguments and errors as of `read`."""
    source = open_source(path, format, basis)
    for name in source.names():
        yield source[name]


def open_source(path: str | Path, format: str | None = None, basis: BasisSet | None = None) -> Source:
    """What is at `path`, with names and samples; arguments and errors as of `read`."""
    path = Path(path)
    if not path.exists():
        raise FormatError(f"{path}: no such file or folder")
    chosen = [_named(format)] if format is not None else list(FORMATS)
    for kind in chosen:
        if kind.recognises(path):
            return _open(kind, {path.resolve().name: path}, path, basis)
    runs = _runs_below(path, chosen)
    if runs:
        kind, folders = runs
        return _open(kind, folders, path, basis)
    if format is not None:
        if chosen[0].run is not None:  # its reader knows best what is missing
            return _open(chosen[0], {path.resolve().name: path}, path, basis)
        raise FormatError(f"{path}: expected {chosen[0].name} ({chosen[0].kind}), got {_found(path)}")
    known = "; ".join(f"{kind.name} ({kind.kind})" for kind in FORMATS)
    raise FormatError(f"{path}: not recognised, it is {_found(path)}; known are: {known}")


def _named(name: str) -> Format:
    for kind in FORMATS:
        if kind.name == name:
            return kind
    raise FormatError(f"format: expected one of {', '.join(kind.name for kind in FORMATS)}, got {name!r}")


def _open(kind: Format, folders: Mapping[str, Path], path: Path, basis: BasisSet | None) -> Source:
    if kind.open is not None:
        if basis is not None:
            raise FormatError(f"{path}: expected no basis set to read it in, it has its own ({kind.kind})")
        return kind.open(path)
    assert kind.run is not None
    return Runs(folders, _function(kind.run), basis)


def _function(where: str):
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


def _runs_below(path: Path, kinds: list[Format]) -> tuple[Format, dict[str, Path]] | None:
    """Run folders below `path`, by their path from there; not those inside a run. `FormatError` for two kinds of runs."""
    found: dict[str, dict[str, Path]] = {}
    if path.is_dir():
        kinds = [kind for kind in kinds if kind.run is not None]
        folders = sorted((f for f in path.iterdir() if _is_open_folder(f)), key=_natural, reverse=True)
        while folders:
            folder = folders.pop()
            kind = next((kind for kind in kinds if kind.recognises(folder)), None)
            if kind is not None:
                found.setdefault(kind.name, {})[folder.relative_to(path).as_posix()] = folder
            else:
                folders += sorted((f for f in folder.iterdir() if _is_open_folder(f)), key=_natural, reverse=True)
    if len(found) > 1:
        some = ", ".join(f"{len(folders)} of {name}" for name, folders in found.items())
        raise FormatError(f"{path}: expected calculations of one format, got {some}; choose one with --format")
    return next(((_named(name), folders) for name, folders in found.items()), None)


def _is_open_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not path.name.startswith(".")


def _natural(path: Path) -> tuple[int, str]:
    """9 before 10."""
    return (len(path.name), path.name) if path.name.isdecimal() else (1000, path.name)


def _found(path: Path) -> str:
    if path.is_dir():
        names = sorted(f.name for f in path.iterdir() if not f.name.startswith("."))
        some = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        return f"a folder with {some}" if names else "an empty folder"
    return f"a file of {path.stat().st_size} bytes"


def write(path: str | Path, sample: Sample, format: str | None = None) -> None:
    """Write a sample to a new path, never over what exists; what is written appears complete or not at all.

    `format`: "npz", "store", "deeph", "deeph-legacy" or "wannier90" (default: `.npz` by its suffix, else a store). Raises
    `FormatError` for a sample that the format cannot hold.
    """
    path = Path(path)
    if format is None:
        format = "npz" if path.suffix == ".npz" else "store"
    if format not in WRITERS:
        raise FormatError(f"format: expected one of {', '.join(WRITERS)}, got {format!r}")
    writer = WRITERS[format]
    (_function(writer) if isinstance(writer, str) else writer)(path, sample)


def _write_store(path: Path, sample: Sample) -> None:
    with new_store(path, sample.basis, sample.spin) as store:
        store.append(sample, check=False)


def write_petsc(path: str | Path, sample: Sample, kpoint: Sequence[float] = (0.0, 0.0, 0.0)) -> None:
    """H(k) and, where it is known, S(k) at one k-point (fractional) as a new folder of PETSc's files (`io.petsc`)."""
    from harmose.io.petsc import write_petsc as write_matrices
    from harmose.physics.sparse.bloch import sparse_at
    from harmose.spin import Spin

    h, s = sample.hamiltonian, sample.overlap
    names = ("H.up", "H.dn") if h.spin is Spin.COLLINEAR else ("H",)
    matrices: dict[str, Any] = dict(zip(names, sparse_at(h, kpoint), strict=True))
    if s is not None:
        matrices["S"] = sparse_at(s, kpoint, h.spin)[0]
    write_matrices(path, matrices)


class _NpzFile:
    """The only sample of a `.npz` of harmose."""

    metadata: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, path: Path):
        self._sample = read_npz(path)

    def names(self) -> list[str]:
        return [self._sample.name]

    def __getitem__(self, name: str) -> Sample:
        return self._sample


def _has(*patterns: str) -> Callable[[Path], bool]:
    """Recognises folders that hold a file of each pattern."""

    def recognises(path: Path) -> bool:
        return path.is_dir() and all(any(path.glob(pattern)) for pattern in patterns)

    return recognises


def _has_one_of(*patterns: str) -> Callable[[Path], bool]:
    """Recognises folders that hold a file of one of the patterns."""
    return lambda path: path.is_dir() and any(any(path.glob(pattern)) for pattern in patterns)


def _is_siesta(path: Path) -> bool:
    """A folder with HSX or TSHS files, or such a file, or an input of SIESTA."""
    return _has_one_of("*.HSX", "*.TSHS")(path) or (path.suffix in (".HSX", ".TSHS", ".fdf") and path.is_file())


def _has_table(table: str, *names: str) -> Callable[[Path], bool]:
    """Recognises SQLite databases by the columns of a table."""
    return lambda path: is_sqlite(path) and set(columns(path, table)) >= set(names)


def _is_qh9_lmdb(path: Path) -> bool:
    """An LMDB with four bytes as keys, and without what a store of harmose says of itself."""
    if not path.is_dir() or not (path / "data.mdb").is_file():
        return False
    try:
        with open_database(path, writable=False).read() as transaction:
            cursor = transaction.cursor()
            return transaction.get(b"m") is None and cursor.first() and len(cursor.key()) == 4
    except FormatError:
        return False


def _open_qh9_lmdb(path: Path) -> Source:
    database = open_database(path, writable=False)

    def fetch(key: bytes) -> bytes:
        with database.read() as transaction:
            return bytes(transaction.get(key) or b"")

    with database.read() as transaction:
        keys = [bytes(key) for key in transaction.cursor().iternext(values=False)]
    return _function("harmose.io.qh9:QH9Records")(path, keys, fetch)


def _is_md17_npz(path: Path) -> bool:
    if path.suffix != ".npz" or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as file:
            names = {name.removesuffix(".npy") for name in file.namelist()}
    except (zipfile.BadZipFile, OSError):
        return False
    return "format" not in names and bool(names & {"hamiltonian", "H", "Ham", "fock"})


FORMATS = (
    Format("qh9-lmdb", "QH9 as its loader keeps it", _is_qh9_lmdb, open=_open_qh9_lmdb),
    Format(
        "md17-npz",
        "MD17 Hamiltonians as arrays",
        _is_md17_npz,
        open=lambda path: _function("harmose.io.md17:MD17Arrays")(path),
    ),
    Format(
        "store",
        "harmose's own",
        lambda path: path.is_dir() and (path / "data.mdb").is_file(),
        open=Store.open,
    ),
    Format(
        "npz",
        "harmose's own",
        lambda path: path.suffix == ".npz" and path.is_file(),
        open=_NpzFile,
    ),
    Format("deeph", "DeepH folder", _has("info.json", "POSCAR", "hamiltonian.h5"), "harmose.io.deeph.deeph:read_deeph"),
    Format(
        "deeph-legacy",
        "DeepH folder with orbital_types.dat",
        _has("info.json", "orbital_types.dat", "site_positions.dat"),
        "harmose.io.deeph.legacy:read_deeph_legacy",
    ),
    Format(
        "aims",
        "FHI-aims run with output_rs_matrices",
        _has("geometry.in", "basis-indices.out", "rs_indices.out"),
        "harmose.io.aims:read_aims",
    ),
    Format(
        "cp2k",
        "CP2K run with KS_CSR_WRITE and S_CSR_WRITE",
        lambda path: _function("harmose.io.cp2k.cp2k:is_cp2k")(path),
        "harmose.io.cp2k.cp2k:read_cp2k",
    ),
    Format("siesta", "SIESTA run, or its .fdf, .HSX or .TSHS file", _is_siesta, "harmose.io.siesta.siesta:read_siesta"),
    Format(
        "abacus",
        "ABACUS run with out_mat_hs2",
        _has_one_of(
            *(folder + name for folder in ("", "OUT.*/") for name in ("hrs1_nao.csr", "data-HR-sparse_SPIN0.csr"))
        ),
        "harmose.io.abacus.abacus:read_abacus",
    ),
    Format(
        "qh9",
        "QH9 database",
        _has_table("data", "id", "N", "Z", "pos", "Ham"),
        open=lambda path: _function("harmose.io.qh9:QH9Database")(path),
    ),
    Format(
        "md17",
        "MD17 Hamiltonians as ASE database",
        _has_table("systems", "id", "numbers", "positions", "data"),
        open=lambda path: _function("harmose.io.md17:MD17Database")(path),
    ),
)
"""The first that recognises a path opens it."""

WRITERS: dict[str, str | Callable[[Path, Sample], None]] = {
    "store": _write_store,
    "npz": write_npz,
    "deeph": "harmose.io.deeph.deeph:write_deeph",
    "deeph-legacy": "harmose.io.deeph.legacy:write_deeph_legacy",
    "wannier90": "harmose.io.wannier90:write_wannier90",
    "petsc": write_petsc,
}
