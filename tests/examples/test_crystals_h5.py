"""Import of published matrices of crystals: bands of an exact model, and files with wrong content."""

import importlib.util
from pathlib import Path

import h5py
import numpy as np
import pytest

from harmose.core.graph import build_graph
from harmose.data.checks import check
from harmose.data.store import Store
from harmose.physics.eigen import eigenvalues
from harmose.units import HARTREE

EXAMPLE = Path(__file__).parents[2] / "examples" / "results" / "crystals_h5.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("crystals_h5", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def h5(tmp_path) -> Path:
    """Two chains of carbon along x with one s orbital: 1 eV on site, -2 eV to the next cell; S = 1 and 0.1."""
    path = tmp_path / "chain.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update({"basis": "S", "orbital_order": "2s", "pair_cutoff_A": 3.0, "h_scale": 1e-6, "s_scale": 1e-8})
        for name, split in (("one", "train"), ("two", "test")):
            group = file.create_group(name)
            group["cell"], group["pos"], group["Z"] = np.diag([2.0, 9, 9]), np.zeros((1, 3)), np.array([6], np.int8)
            group["pairs"] = np.array([[-1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], np.int16)
            group["H"] = np.array([-2_000_000, 1_000_000], np.int32).reshape(2, 1, 1)
            group["S"] = np.array([10_000_000, 100_000_000], np.int32).reshape(2, 1, 1)
            group.attrs.update({"split": split, "efermi_eV": -1.5, "energy_Ha": -2.0, "kmesh": [3, 1]})
    return path


def run(example, h5: Path, *options: str) -> tuple[int, Path]:
    store = h5.parent / "store"
    return example.main([str(h5), str(store), *options]), store


def test_everything_arrives(example, h5):
    code, path = run(example, h5, "--functional", "lda")
    assert code == 0
    with Store.open(path) as store:
        assert store.splits == {"train": ["one"], "test": ["two"]}
        assert {key: store.metadata[key] for key in ("code", "functional", "basis", "valence")} == {
            "code": "cp2k", "functional": "lda", "basis": "S", "valence": {"C": 4}
        }  # fmt: skip
        sample = store["two"]
    assert sample.structure.pbc.tolist() == [True, False, False]
    assert (sample.n_electrons, sample.fermi_level, sample.energy) == (4, -1.5, -2 * HARTREE)
    assert sample.provenance["kmesh"] == [3, 1]
    assert sample.hamiltonian.block(0, 0, (1, 0, 0)).item() == sample.hamiltonian.block(0, 0, (-1, 0, 0)).item() == -2
    k = np.linspace(0, 0.5, 5)
    cosine = 2 * np.cos(2 * np.pi * k)
    energies = eigenvalues(sample.hamiltonian, sample.overlap, np.column_stack([k, 0 * k, 0 * k]))[:, 0]
    np.testing.assert_allclose(energies, (1 - 2 * cosine) / (1 + 0.1 * cosine), atol=1e-12)


def replaced(name: str, change):
    def apply(file: h5py.File) -> None:
        data = change(file[name][()])
        del file[name]
        file[name] = data

    return apply


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f.attrs.pop("h_scale"), "lacking h_scale"),
        (lambda f: f.attrs.update(orbital_order="2s 2p(x,y,z)"), "got '2p(x,y,z)'"),
        (lambda f: f.attrs.update(orbital_order="2s 3s"), "expected shape (2, 2, 2), got (2, 1, 1)"),
        (lambda f: f.attrs.update(pair_cutoff_A=1.0), "lies in block (i=0, j=0, R=[-1, 0, 0])"),
        (lambda f: f.attrs.update(pair_cutoff_A=5.0), "missing blocks: 1 of 3 within reach are not written"),
        (lambda f: f.attrs.update(pair_cutoff_A="far"), "expected an HDF5 file of crystals' matrices"),
        (lambda f: f.pop("one/S"), "in one, lacking S"),
        (replaced("one/Z", lambda z: z + 1), "expected structures of one element, got 2"),
        (replaced("one/Z", lambda z: 0 * z), "expected structures of one element, got 2"),
        (replaced("one/pos", lambda x: x * np.nan), "finite"),
        (replaced("one/pos", lambda x: x[:, :2]), "pos (N, 3)"),
        (replaced("one/pairs", lambda p: p[:, :4]), "pairs (P, 5)"),
        (replaced("one/pairs", lambda p: p * 0), "got one of block (i=0, j=0, R=[0, 0, 0]) twice"),
        (replaced("one/pairs", lambda p: p + 1), "expected blocks of 1 atoms"),
        (replaced("one/H", lambda h: np.where(h > 0, np.nan, h)), "finite values"),
        (replaced("one/S", lambda s: 0 * s), "diagonal of S"),
        (replaced("one/cell", lambda c: 0 * c), "lattice vector"),
    ],
)
def test_a_wrong_file_gives_one_line_and_no_store(example, h5, capsys, change, text):
    with h5py.File(h5, "r+") as file:
        change(file)
    code, path = run(example, h5)
    lines = capsys.readouterr().err.splitlines()
    assert (code, len(lines)) == (2, 1)
    assert text in lines[0]
    assert [p.name for p in path.parent.iterdir()] == ["chain.h5"]


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_a_truncated_file_gives_one_line_and_no_store(example, h5, capsys, size):
    h5.write_bytes(h5.read_bytes()[:size])
    code, path = run(example, h5)
    assert code == 2
    assert "chain.h5: expected" in capsys.readouterr().err
    assert not path.exists()


def test_a_missing_file_and_a_taken_store_are_refused(example, h5, capsys):
    assert example.main([str(h5.parent / "none.h5"), str(h5.parent / "store")]) == 2
    assert "none.h5: no such file" in capsys.readouterr().err
    run(example, h5)
    assert run(example, h5)[0] == 2
    assert "store: expected a new path" in capsys.readouterr().err


@pytest.fixture(scope="module")
def graphene(shared_data, tmp_path_factory) -> Path:
    """Some structures of the published file."""
    folder = tmp_path_factory.mktemp("graphene")
    with h5py.File(shared_data / "crystals" / "graphene.h5") as whole, h5py.File(folder / "graphene.h5", "w") as some:
        some.attrs.update(whole.attrs)
        for name in ("mg_000", "mg_018", "mg_019", "pristine_1x1"):
            whole.copy(name, some)
    return folder / "graphene.h5"


def test_the_published_matrices_fit_the_graph_and_pass_every_check(example, graphene):
    """The importer has compared every block with the graph: none outside, none missing."""
    code, path = run(example, graphene)
    assert code == 0
    with Store.open(path) as store, h5py.File(graphene) as file:
        assert store.splits == {"train": ["mg_000"], "val": ["mg_018"], "test": ["mg_019"], "extra": ["pristine_1x1"]}
        assert check(store) == []
        for sample in store:
            atoms = len(sample.structure)
            stored = len(file[sample.name]["pairs"])
            assert build_graph(sample.structure, store.basis).n_pairs + atoms == stored
            assert sample.n_electrons == 4 * atoms
            assert sample.structure.pbc.tolist() == [True, True, False]
