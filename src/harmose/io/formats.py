"""The table of formats: one `Format` for each kind of file or folder that harmose reads or writes.

To add a format of your own, see `register`.
"""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harmose.core.basis import BasisSet
from harmose.core.sample import Sample
from harmose.data.database import open_database
from harmose.data.store import Store, new_store
from harmose.errors import FormatError
from harmose.io.abacus.abacus import read_abacus, read_abacus_overlap
from harmose.io.abacus.files import is_abacus, is_abacus_overlap, missing_matrices
from harmose.io.aims import read_aims
from harmose.io.aims_input import is_aims, missing_in_aims
from harmose.io.cp2k.cp2k import is_cp2k, read_cp2k
from harmose.io.deeph.deeph import read_deeph, read_deeph_overlap, write_deeph
from harmose.io.deeph.files import (
    is_deeph,
    is_deeph_legacy,
    is_deeph_legacy_overlap,
    is_deeph_overlap,
    missing_in_deeph,
    missing_in_deeph_legacy,
)
from harmose.io.deeph.legacy import read_deeph_legacy, read_deeph_legacy_overlap, write_deeph_legacy
from harmose.io.deeptb import frames, is_deeptb, missing_in_deeptb, read_deeptb
from harmose.io.npz import read_npz, write_npz
from harmose.io.openmx.files import is_openmx, missing_scfout, scfout_files
from harmose.io.openmx.openmx import read_openmx, read_openmx_overlap
from harmose.io.overlaps import Overlap
from harmose.io.petsc import write_petsc
from harmose.io.siesta.run import is_siesta, missing_in_siesta, runs_in
from harmose.io.siesta.siesta import read_siesta
from harmose.io.sources import ReadRun, SingleSample, Source
from harmose.io.sqlite import columns
from harmose.io.wannier90 import write_wannier90


@dataclass(frozen=True)
class Format:
    """One kind of file or folder. A format has `read` or `open`, or only `write`.

    Attributes:
        name: value of `format=` and of the option `--format`.
        description: a few words for messages.
        recognises: function of the path that is True for this format. Default: the format must be named.
        read: function `read(path, basis)` that returns the sample of one calculation. `basis` is the basis set to read it
            in, or None for its own. A folder that holds such calculations, at any depth, is then a source of samples too.
        open: function of the path that returns a `Source`, for files that hold many samples.
        write: function `write(path, sample)`. `path` does not exist yet; write it with `harmose.core.files.atomic_path`.
        missing: function of the path of a folder that is nearly such a calculation. It says in one line, which begins with
            the path, what is missing and what to switch on in the code; None for other folders.
        has_overlap: function of the path that is True where `read_overlap` can read it, with or without H.
        read_overlap: function `read_overlap(path, basis)` that returns the overlap of one calculation.
        parts: function of the path of a folder that holds several calculations. It returns the path of each, as `read`
            takes it, by the end of its name ("" for a single one).
    """

    name: str
    description: str
    recognises: Callable[[Path], bool] = lambda path: False
    read: ReadRun | None = None
    open: Callable[[Path], Source] | None = None
    write: Callable[[Path, Sample], None] | None = None
    missing: Callable[[Path], str | None] = lambda path: None
    has_overlap: Callable[[Path], bool] = lambda path: False
    read_overlap: Callable[[Path, BasisSet | None], Overlap] | None = None
    parts: Callable[[Path], Mapping[str, Path]] = lambda path: {"": path}


def register(format: Format) -> None:
    """Add a format. It is tried before those that are already there, and replaces one of the same name.

    Examples:
        >>> from harmose.io.files import Format, register
        >>> def read_mycode(path, basis=None):
        ...     '''Return a `harmose.Sample`; `harmose.io.assembly` makes blocks of matrix elements.'''
        >>> register(Format("mycode", "MyCode run", lambda path: (path / "mycode.out").is_file(), read_mycode))
    """
    others = [other for other in _FORMATS if other.name != format.name]
    _FORMATS[:] = [format, *others]


def formats() -> list[Format]:
    """All formats, in the order in which they are tried."""
    return list(_FORMATS)


def format_named(name: str) -> Format:
    """The format called `name`; `FormatError` if there is none."""
    for format in _FORMATS:
        if format.name == name:
            return format
    raise FormatError(f"format: expected one of {', '.join(format.name for format in _FORMATS)}, got {name!r}")


def _has_table(table: str, *names: str) -> Callable[[Path], bool]:
    """Recognise SQLite databases by the columns of a table."""
    return lambda path: set(columns(path, table)) >= set(names)


def is_store(path: Path) -> bool:
    return path.is_dir() and (path / "data.mdb").is_file()


def write_store(path: Path, sample: Sample) -> None:
    """Write a store of one sample."""
    with new_store(path, sample.basis, sample.spin) as store:
        store.append(sample, check=False)


def is_npz(path: Path) -> bool:
    return path.suffix == ".npz" and path.is_file()


def open_npz(path: Path) -> Source:
    return SingleSample(read_npz(path))


def is_qh9_lmdb(path: Path) -> bool:
    """True for an LMDB whose keys have four bytes and that is not a store of harmose."""
    if not is_store(path):
        return False
    try:
        with open_database(path, writable=False).read() as transaction:
            cursor = transaction.cursor()
            return transaction.get(b"m") is None and cursor.first() and len(cursor.key()) == 4
    except FormatError:
        return False


def is_md17_npz(path: Path) -> bool:
    """True for a `.npz` with a Hamiltonian that harmose did not write."""
    if path.suffix != ".npz" or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as file:
            names = {name.removesuffix(".npy") for name in file.namelist()}
    except (zipfile.BadZipFile, OSError):
        return False
    return "format" not in names and bool(names & {"hamiltonian", "H", "Ham", "fock"})


# The modules of the data sets import PySCF, so they are imported only when such a file is opened.


def open_qh9(path: Path) -> Source:
    from harmose.io.qh9 import QH9Database

    return QH9Database(path)


def open_qh9_lmdb(path: Path) -> Source:
    from harmose.io.qh9 import QH9Records

    return QH9Records(path)


def open_md17(path: Path) -> Source:
    from harmose.io.md17 import MD17Database

    return MD17Database(path)


def open_md17_npz(path: Path) -> Source:
    from harmose.io.md17 import MD17Arrays

    return MD17Arrays(path)


_FORMATS = [
    # The first format that recognises a path opens it.
    Format("qh9-lmdb", "QH9 as processed by its data loader", is_qh9_lmdb, open=open_qh9_lmdb),
    Format("md17-npz", "MD17 Hamiltonians as arrays", is_md17_npz, open=open_md17_npz),
    Format("store", "sample store of harmose", is_store, open=Store.open, write=write_store),
    Format("npz", "one sample of harmose", is_npz, open=open_npz, write=write_npz),
    Format(
        "deeph",
        "DeepH folder",
        is_deeph,
        read_deeph,
        write=write_deeph,
        missing=missing_in_deeph,
        has_overlap=is_deeph_overlap,
        read_overlap=read_deeph_overlap,
    ),
    Format(
        "deeph-legacy",
        "DeepH folder with orbital_types.dat",
        is_deeph_legacy,
        read_deeph_legacy,
        write=write_deeph_legacy,
        missing=missing_in_deeph_legacy,
        has_overlap=is_deeph_legacy_overlap,
        read_overlap=read_deeph_legacy_overlap,
    ),
    Format("deeptb", "DeePTB data folder", is_deeptb, read_deeptb, missing=missing_in_deeptb, parts=frames),
    Format(
        "aims",
        "FHI-aims run with output_rs_matrices",
        is_aims,
        read_aims,
        missing=missing_in_aims,
    ),
    Format("cp2k", "CP2K run with KS_CSR_WRITE and S_CSR_WRITE", is_cp2k, read_cp2k),
    Format(
        "openmx",
        "OpenMX run with HS.fileout on, or its .scfout file",
        is_openmx,
        read_openmx,
        missing=missing_scfout,
        has_overlap=is_openmx,
        read_overlap=read_openmx_overlap,
        parts=scfout_files,
    ),
    Format(
        "siesta",
        "SIESTA run, or its .fdf, .HSX, .TSHS or .nc file",
        is_siesta,
        read_siesta,
        missing=missing_in_siesta,
        parts=runs_in,
    ),
    Format(
        "abacus",
        "ABACUS run with out_mat_hs2",
        is_abacus,
        read_abacus,
        missing=missing_matrices,
        has_overlap=is_abacus_overlap,
        read_overlap=read_abacus_overlap,
    ),
    Format("qh9", "QH9 database", _has_table("data", "id", "N", "Z", "pos", "Ham"), open=open_qh9),
    Format(
        "md17",
        "MD17 Hamiltonians as ASE database",
        _has_table("systems", "id", "numbers", "positions", "data"),
        open=open_md17,
    ),
    Format("wannier90", "Wannier90's _hr.dat", write=write_wannier90),
    Format("petsc", "PETSc's binary matrices", write=write_petsc),
]
