"""QH9: the orders of its matrices, and databases in its schema, written here with PySCF's own Fock matrices."""

import pickle
import sqlite3

import lmdb
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from pyscf import dft

from harmose.core.blocks import block_values
from harmose.data.checks import check
from harmose.data.store import Store
from harmose.errors import FormatError, HarmoseError
from harmose.io.files import open_source, read, read_all
from harmose.io.pyscf import pyscf as io
from harmose.io.qh9 import QH9, QH9_LOADER, QH9Database
from harmose.physics.eigen import eigenvalues
from harmose.so3.conventions import Convention
from harmose.so3.wigner import random_rotation
from harmose.units import BOHR, HARTREE

# The tables of QH9's public code: `new[k] = old[map[k]]` within a shell, no signs.
TO_LOADER = {"s": [0], "p": [1, 2, 0], "d": [0, 1, 2, 3, 4]}
BACK_TO_PYSCF = {"s": [0], "p": [2, 0, 1], "d": [0, 1, 2, 3, 4]}
SHELLS = {1: "ssp", 6: "sssppd", 7: "sssppd", 8: "sssppd", 9: "sssppd"}


def qh9_transform(matrix: np.ndarray, numbers: np.ndarray, table: dict[str, list[int]]) -> np.ndarray:
    index, start = [], 0
    for shell in "".join(SHELLS[z] for z in numbers.tolist()):
        index += [start + k for k in table[shell]]
        start += len(table[shell])
    return matrix[np.ix_(index, index)]


def inside(atoms, stored: np.ndarray, convention: Convention):
    layout = io.zeros(atoms, io.basis_set("def2-svp", set(atoms.numbers.tolist())))
    degrees = [l for z in atoms.numbers.tolist() for l in layout.basis.degrees(z)]
    return block_values(convention.to_inside(stored, degrees), layout)


def kinetic_energy(atoms) -> np.ndarray:
    return io.molecule(atoms, "def2-svp").intor("int1e_kin")


def test_stored_and_loaded_matrices_are_equivariant():
    rotation = random_rotation(np.random.default_rng(3))
    atoms = molecule("HCN")
    turned = atoms.copy()
    turned.positions = atoms.positions @ rotation.T
    for convention, table in ((QH9, None), (QH9_LOADER, TO_LOADER)):
        before, after = (kinetic_energy(a) for a in (atoms, turned))
        if table:
            before, after = (qh9_transform(m, atoms.numbers, table) for m in (before, after))
        h, h_turned = inside(atoms, before, convention), inside(turned, after, convention)
        np.testing.assert_allclose(h.rotate(rotation).values, h_turned.values, atol=1e-10)


def test_order_agrees_with_their_table():
    atoms = molecule("H2O")
    stored = kinetic_energy(atoms)
    back = qh9_transform(inside(atoms, stored, QH9).dense(), atoms.numbers, BACK_TO_PYSCF)
    np.testing.assert_allclose(back, stored, atol=1e-14)


@pytest.fixture(scope="module")
def labelled() -> list[tuple[Atoms, np.ndarray, np.ndarray, float]]:
    """Molecules with PySCF's converged Fock matrix, orbital energies and total energy, in Hartree."""
    found = []
    for atoms in (molecule("H2O"), molecule("HCN"), Atoms("FH", [[0, 0, 0], [0.3, 0.2, 0.85]])):
        atoms.rattle(0.02, rng=np.random.default_rng(1))
        mf = dft.RKS(io.molecule(atoms, "def2-svp"), xc="b3lyp5")
        mf.grids.level, mf.chkfile = 0, None
        energy = mf.kernel()
        fock = mf.get_fock()
        found.append((Atoms(atoms.numbers, atoms.positions), fock, mf.eig(fock, mf.get_ovlp())[0], energy))
    return found


def stable(path, labelled):
    """As QH9's own script writes it (dataset_generation_examples/QH9_stable.py)."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE data (id INTEGER NOT NULL PRIMARY KEY, N INTEGER, Z BLOB, pos BLOB, Ham BLOB)")
        for k, (atoms, fock, _, _) in enumerate(labelled):
            row = (
                10 * k,
                len(atoms),
                atoms.numbers.astype(np.int32).tobytes(),
                atoms.positions.tobytes(),
                fock.tobytes(),
            )
            db.execute("INSERT INTO data VALUES (?, ?, ?, ?, ?)", row)
    db.close()
    return path


def dynamic(path, labelled):
    """As QH9_dynamic.py writes it: positions in Bohr, ids as the bytes of numpy integers."""
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE TABLE data (id INTEGER NOT NULL, geo_id INTEGER NOT NULL, N INTEGER, Z BLOB, pos BLOB, ekin FLOAT, "
            "epot FLOAT, etot FLOAT, time FLOAT, Ham BLOB, converged INT)"
        )
        for k, (atoms, fock, _, energy) in enumerate(labelled):
            z, pos = atoms.numbers.astype(np.int32).tobytes(), (atoms.positions / BOHR).tobytes()
            row = (
                np.int64(7).tobytes(),
                k,
                len(atoms),
                z,
                pos,
                0.1,
                energy,
                energy + 0.1,
                0.0,
                fock.tobytes(),
                int(k < 2),
            )
            db.execute("INSERT INTO data VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    db.close()
    return path


def processed(path, source):
    """As QH9's loader makes it (datasets.py): one pickled dictionary for each row of the SQLite database."""
    is_dynamic = "geo_id" in {row[1] for row in sqlite3.connect(source).execute("PRAGMA table_info(data)")}
    with lmdb.open(str(path), map_size=1 << 24) as env, env.begin(write=True) as transaction:
        for k, row in enumerate(sqlite3.connect(source).execute("SELECT * FROM data")):
            if is_dynamic:
                number = int(np.frombuffer(row[0], dtype=np.int64)[0])
                record = {
                    "id": number,
                    "geo_id": row[1],
                    "num_nodes": row[2],
                    "atoms": row[3],
                    "pos": row[4],
                    "Ham": row[9],
                }
            else:
                record = dict(zip(("id", "num_nodes", "atoms", "pos", "Ham"), row))
            key = k if is_dynamic else row[0]
            transaction.put(key.to_bytes(length=4, byteorder="big"), pickle.dumps(record))
    return path


def assert_read(samples, labelled):
    for sample, (atoms, _, energies, _) in zip(samples, labelled, strict=True):
        np.testing.assert_allclose(sample.structure.positions, atoms.positions, atol=1e-12)
        assert np.array_equal(sample.structure.numbers, atoms.numbers)
        np.testing.assert_allclose(eigenvalues(sample.hamiltonian, sample.overlap)[0], energies * HARTREE, atol=1e-8)
        assert sample.basis.elements == (1, 6, 7, 8, 9)
        assert sample.n_electrons == atoms.numbers.sum()
        assert sample.provenance["functional"] == "b3lyp5"


def test_stable(tmp_path, labelled):
    path = stable(tmp_path / "QH9Stable.db", labelled)
    samples = list(read_all(path))
    assert_read(samples, labelled)
    assert [s.name for s in samples] == ["0", "10", "20"]
    assert read(path, "10").structure.get_chemical_formula() == "CHN"
    with pytest.raises(FormatError, match="expected the name of one of its 3 samples"):
        read(path)
    with pytest.raises(FormatError, match="no molecule '11'"):
        read(path, "11")
    with pytest.raises(FormatError, match="expected no basis set to read it in"):
        read(path, "10", basis=samples[0].basis)


def test_dynamic(tmp_path, labelled):
    samples = list(read_all(dynamic(tmp_path / "QH9Dynamic_300k.db", labelled)))
    assert_read(samples, labelled)
    assert [s.name for s in samples] == ["7-0", "7-1", "7-2"]
    assert [s.provenance["group"] for s in samples] == ["7"] * 3
    assert [s.provenance["converged"] for s in samples] == [True, True, False]
    assert [s.energy for s in samples] == [energy * HARTREE for *_, energy in labelled]


@pytest.mark.parametrize("kind", [stable, dynamic])
def test_processed(tmp_path, labelled, kind):
    folder = processed(tmp_path / "QH9.lmdb", kind(tmp_path / "x.db", labelled))
    samples = list(read_all(folder))
    assert_read(samples, labelled)
    assert [s.name for s in samples] == (["0", "10", "20"] if kind is stable else ["0", "1", "2"])
    assert samples[0].provenance.get("group") == (None if kind is stable else "7")


def test_into_a_store(tmp_path, labelled):
    """All checks of a store are passed, that of the orbitals' order among them."""
    source = open_source(stable(tmp_path / "x.db", labelled))
    first = source[source.names()[0]]
    with Store.create(tmp_path / "store", first.basis) as store:
        for name in source.names():
            store.append(source[name])
        assert check(store) == []


def spoiled(column, change):
    def spoil(path):
        with sqlite3.connect(path) as db:
            value = db.execute(f"SELECT {column} FROM data WHERE id = 10").fetchone()[0]
            db.execute(f"UPDATE data SET {column} = ? WHERE id = 10", (change(value),))
        db.close()

    return spoil


def asymmetric(raw):
    matrix = np.frombuffer(raw).copy()
    matrix[1] += 1
    return matrix.tobytes()


BAD = {
    "short Z": (spoiled("Z", lambda raw: raw[:-1]), "molecule 10: Z: expected 3 numbers in 12 bytes, got 11 bytes"),
    "wide Z": (spoiled("Z", lambda raw: np.frombuffer(raw, np.int32).astype(np.int64).tobytes()), "got 24 bytes"),
    "no pos": (spoiled("pos", lambda raw: None), "pos: expected 9 numbers in 72 bytes, got NoneType"),
    "text": (spoiled("pos", lambda raw: "hello"), "got str"),
    "short Ham": (spoiled("Ham", lambda raw: raw[:-8]), "Ham: expected 1089 numbers"),
    "not Hermitian": (spoiled("Ham", asymmetric), "molecule 10: Ham: expected a Hermitian matrix"),
    "nan": (spoiled("Ham", lambda raw: np.full(len(raw) // 8, np.nan).tobytes()), "Ham: expected finite values"),
    "absurd N": (spoiled("N", lambda n: 10**9), "expected 1 to 1000 atoms, got 1000000000"),
    "N of text": (spoiled("N", lambda n: "many"), "expected 1 to 1000 atoms, got 'many'"),
    "other element": (spoiled("Z", lambda raw: np.array([1, 16, 7], np.int32).tobytes()), r"expected H, C, N, O and F"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_molecules(tmp_path, labelled, case):
    path = stable(tmp_path / "x.db", labelled)
    spoil, words = BAD[case]
    spoil(path)
    source = open_source(path)
    source["0"]
    with pytest.raises(HarmoseError, match=words) as caught:
        source["10"]
    assert "x.db: molecule 10" in str(caught.value)


def test_bad_files(tmp_path, labelled):
    path = stable(tmp_path / "x.db", labelled)
    data = path.read_bytes()
    (tmp_path / "short.db").write_bytes(data[:3000])
    with pytest.raises(FormatError, match=r"short\.db: expected an SQLite database, got a damaged"):
        read(tmp_path / "short.db")
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE data (id INTEGER, x BLOB)")
    db.close()
    with pytest.raises(FormatError, match=r"other\.db: not recognised"):
        read(tmp_path / "other.db")
    with pytest.raises(FormatError, match=r"expected a database of QH9 .*, got other columns"):
        QH9Database(tmp_path / "other.db")
    with sqlite3.connect(tmp_path / "view.db") as db:
        db.execute("CREATE VIEW data AS SELECT 1 AS id, 2 AS N, 3 AS Z, 4 AS pos, 5 AS Ham")
    db.close()
    with pytest.raises(FormatError, match="not recognised"):
        read(tmp_path / "view.db")


def test_pickles_that_could_run_code_are_refused(tmp_path, labelled):
    folder = processed(tmp_path / "QH9.lmdb", stable(tmp_path / "x.db", labelled))
    with lmdb.open(str(folder)) as env, env.begin(write=True) as transaction:
        transaction.put((10).to_bytes(4, "big"), pickle.dumps({"num_nodes": 3, "atoms": np.arange(3)}))
        transaction.put((20).to_bytes(4, "big"), pickle.dumps({"id": 20}))
    source = open_source(folder)
    source["0"]
    with pytest.raises(FormatError, match=r"record 10: .* it is not read, since such pickles can run code"):
        source["10"]
    with pytest.raises(FormatError, match="record 20: expected num_nodes, atoms, pos and Ham, got id"):
        source["20"]
    with pytest.raises(FormatError, match="no record '30'"):
        source["30"]
