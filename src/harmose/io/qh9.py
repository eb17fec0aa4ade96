"""Read the databases of QH9 (Yu et al., arXiv 2306.09549), and the form into which its data loader processes them.

Both databases are SQLite, with one table `data`; arrays are raw bytes (Z int32, pos and Ham float64):

    QH9Stable.db                          id, N, Z, pos (angstrom), Ham
    QH9Dynamic_100k.db, _300k.db          id, geo_id, N, Z, pos (Bohr), ekin, epot, etot, time, Ham, converged

QH9's loader copies them into an LMDB of pickled dictionaries (id, geo_id, num_nodes, atoms, pos, Ham). Ham is PySCF's Fock
matrix in Hartree and def2-SVP: H s s p and C N O F s s s p p d, p as (x, y, z), d as m = -2..2. When it reads a record, the
loader reorders p to (y, z, x) (`convention_dict["pyscf_def2svp"]`, inverse `"back2pyscf"`), the order of harmose. QH9 was
made with PySCF 2.2.1, whose B3LYP has VWN5 correlation (`b3lyp5`). S is not stored; it is computed here with PySCF.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.sample import Sample
from harmose.data.database import open_database
from harmose.errors import FormatError
from harmose.io.assembly import zeros
from harmose.io.plain_pickle import plain_dictionary
from harmose.io.pyscf.pyscf import PySCFSettings, basis_set, overlap, to_blocks
from harmose.io.sqlite import columns, open_sqlite
from harmose.so3.conventions import Convention
from harmose.units import BOHR, HARTREE

QH9 = Convention("qh9", {1: (1, 2, 0)})
"""Order of the matrices in the databases."""

QH9_LOADER = Convention("qh9-loader", {})
"""Order of the matrices that QH9's data loader and QHNet return: that of harmose."""

ELEMENTS = (1, 6, 7, 8, 9)
SETTINGS = PySCFSettings("b3lyp5", "def2-svp", small_rho_cutoff=1e-7, convergence_gradient=None).to_dict()
"""Settings of the data set's scripts: PySCF's defaults."""

COLUMNS = {"id", "N", "Z", "pos", "Ham"}
MAX_ATOMS = 1000
"""Largest plausible number of atoms, far above that of any molecule of QM9."""


def qh9_basis() -> BasisSet:
    """Return def2-SVP for all elements of QH9."""
    return basis_set("def2-svp", ELEMENTS)


class QH9Database:
    """The molecules of an SQLite file as a source of samples, named by their ids, in QH9Dynamic `id-geo_id`."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        present = set(columns(self.path, "data"))
        if not present >= COLUMNS:
            raise FormatError(f"{self.path}: expected a database of QH9 (table data with {', '.join(sorted(COLUMNS))}), "
                              f"got {'other columns' if present else 'another file'}")  # fmt: skip
        self._dynamic = "geo_id" in present
        self._basis = qh9_basis()
        self._wanted = ["N", "Z", "pos", "Ham", *(name for name in ("epot", "converged") if name in present)]
        self._rows = self._find_rows()

    def _find_rows(self) -> dict[str, int]:
        geometry = "geo_id" if self._dynamic else "NULL"
        with open_sqlite(self.path) as connection:
            rows = connection.execute(f"SELECT rowid, id, {geometry} FROM data ORDER BY rowid").fetchall()
        names = [_name(molecule, geo_id) for _, molecule, geo_id in rows]
        table = {name: row[0] for name, row in zip(names, rows)}
        if len(table) != len(rows):
            raise FormatError(f"{self.path}: expected every molecule once, got {len(rows) - len(table)} names twice")
        return table

    metadata = SETTINGS

    def names(self) -> list[str]:
        return list(self._rows)

    def __getitem__(self, name: str) -> Sample:
        if name not in self._rows:
            raise FormatError(f"{self.path}: no molecule {name!r}")
        with open_sqlite(self.path) as connection:
            row = connection.execute(
                f"SELECT {', '.join(self._wanted)} FROM data WHERE rowid = ?", (self._rows[name],)
            ).fetchone()
        record = dict(zip(self._wanted, row))
        where = f"{self.path}: molecule {name}"
        fields = [record[key] for key in ("N", "Z", "pos", "Ham")]
        sample = _sample(where, name, self._basis, fields, self._dynamic)
        more: dict[str, Any] = {"group": name.split("-")[0]} if self._dynamic else {}
        if record.get("converged") is not None:
            more["converged"] = bool(record["converged"])
        energy = record.get("epot")
        return replace(
            sample,
            energy=energy * HARTREE if isinstance(energy, float) else None,
            provenance={**sample.provenance, **more},
        )


def _name(molecule: object, geo_id: object) -> str:
    """Return the name of a molecule. An id may be eight bytes, because SQLite stores NumPy integers as blobs."""
    if isinstance(molecule, bytes):
        if len(molecule) != 8:
            raise FormatError(f"expected ids of QH9 (whole numbers), got {molecule[:20]!r}")
        molecule = int(np.frombuffer(molecule, dtype="<i8")[0])
    if not isinstance(molecule, int) or not isinstance(geo_id, int | None):
        raise FormatError(f"expected ids of QH9 (whole numbers), got {molecule!r} and {geo_id!r}")
    return str(molecule) if geo_id is None else f"{molecule}-{geo_id}"


class QH9Records:
    """The records of QH9's processed LMDB as a source of samples, named by the numbers of the records.

    A pickle that holds more than numbers and bytes is refused (`io.plain_pickle`).
    """

    def __init__(self, path: Path):
        self.path = path
        self._database = open_database(path, writable=False)
        with self._database.read() as transaction:
            keys = [bytes(key) for key in transaction.cursor().iternext(values=False)]
        self._keys = {str(int.from_bytes(key, "big")): key for key in keys}
        self._basis = qh9_basis()

    metadata = SETTINGS

    def names(self) -> list[str]:
        return list(self._keys)

    def __getitem__(self, name: str) -> Sample:
        if name not in self._keys:
            raise FormatError(f"{self.path}: no record {name!r}")
        where = f"{self.path}: record {name}"
        with self._database.read() as transaction:
            raw = bytes(transaction.get(self._keys[name]) or b"")
        try:
            record = plain_dictionary(raw)
        except FormatError as error:
            raise FormatError(f"{where}: {error}") from None
        missing = {"num_nodes", "atoms", "pos", "Ham"} - set(record)
        if missing:
            raise FormatError(f"{where}: expected num_nodes, atoms, pos and Ham, got {', '.join(record) or 'nothing'}")
        dynamic = "geo_id" in record
        fields = [record[key] for key in ("num_nodes", "atoms", "pos", "Ham")]
        sample = _sample(where, name, self._basis, fields, dynamic)
        group = {"group": str(record.get("id"))} if dynamic else {}
        return replace(sample, provenance={**sample.provenance, **group})


def _sample(where: str, name: str, basis: BasisSet, fields: Sequence[object], dynamic: bool) -> Sample:
    """Return a sample. `fields` are the number of atoms and the bytes of Z, pos and Ham."""
    n, numbers, pos, ham = fields
    if type(n) is not int or not 0 < n < MAX_ATOMS:
        raise FormatError(f"{where}: expected 1 to {MAX_ATOMS} atoms, got {n!r}")
    z = _array(where, "Z", numbers, "<i4", n)
    if not np.isin(z, ELEMENTS).all():
        raise FormatError(f"{where}: expected H, C, N, O and F, got atomic numbers {np.unique(z).tolist()[:5]}")
    structure = Atoms(z, _array(where, "pos", pos, "<f8", 3 * n).reshape(n, 3) * (BOHR if dynamic else 1.0))
    size = int(basis.counts(z).sum())
    matrix = _array(where, "Ham", ham, "<f8", size**2).reshape(size, size)
    h = to_blocks(matrix, zeros(structure, basis), name=f"{where}: Ham", convention=QH9)
    return Sample(
        name,
        structure,
        basis,
        h,
        overlap=overlap(structure, "def2-svp", basis),
        n_electrons=float(z.sum()),
        provenance={
            "code": "pyscf",
            "version": "2.2.1",
            "functional": "b3lyp5",
            "basis": "def2-svp",
            "overlap": "computed",
        },
    )


def _array(where: str, name: str, raw: object, dtype: str, size: int) -> np.ndarray:
    expected = size * np.dtype(dtype).itemsize
    if not isinstance(raw, bytes) or len(raw) != expected:
        got = f"{len(raw)} bytes" if isinstance(raw, bytes) else type(raw).__name__
        raise FormatError(f"{where}: {name}: expected {size} numbers in {expected} bytes, got {got}")
    return np.frombuffer(raw, dtype=dtype)
