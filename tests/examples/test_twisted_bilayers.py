"""The commensurate cells of twisted bilayers, and the small ones to label."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from ase.neighborlist import neighbor_list

from harmose.core.structure import check_structure
from harmose.data.store import Store

PATH = Path(__file__).parents[2] / "examples" / "results" / "twisted_bilayers.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("twisted_bilayers", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("m", "atoms", "degrees"), [(1, 28, 21.787), (2, 76, 13.174), (9, 1084, 3.481), (30, 11164, 1.085)]
)
def test_angles_and_sizes_of_the_literature(example, m, atoms, degrees):
    """Lopes dos Santos, Peres and Castro Neto, Phys. Rev. B 86, 155449 (2012): r = 1."""
    cell = example.twisted(m)
    assert len(cell) == atoms
    assert example.angle(m) == pytest.approx(degrees, abs=5e-4)
    first, length = neighbor_list("id", cell, 1.6)
    assert np.array_equal(np.bincount(first), np.full(atoms, 3)), (
        "an atom without three bonds, in a cell that does not fit"
    )
    assert length == pytest.approx(2.46 / np.sqrt(3), abs=1e-9)
    assert np.unique(cell.positions[:, 2].round(6)).tolist() == [2.0, 5.35]


def test_small_ones_are_what_they_are_for(example, tmp_path):
    assert example.main(["small", str(tmp_path)]) == 0
    for split, n in {"train": 32, "val": 3, "test": 6}.items():
        structures = read(tmp_path / f"{split}.xyz", ":")
        assert len(structures) == n
        for atoms in structures:
            check_structure(atoms)
            assert len(atoms) == 28


def test_stores_become_splits(example, tmp_path, water_basis, water_sample, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split, seeds in {"train": (0, 1, 2), "val": (3,), "test": (4, 5)}.items():
        with Store.create(tmp_path / f"{split}.store", water_basis) as store:
            store.append_all([water_sample(seed) for seed in seeds])
    assert example.main(["merge", "all", "--train", "2"]) == 0
    with Store.open(tmp_path / "all") as store:
        assert {split: len(names) for split, names in store.splits.items()} == {"train": 2, "val": 1, "test": 2}
    assert example.main(["merge", "all"]) == 2
