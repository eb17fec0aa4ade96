"""The structures of graphene and the comparison of perfect cells with the primitive one."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase.io import read

import harmose

EXAMPLES = Path(__file__).parents[2] / "examples" / "results"
BOND = 2.46 / np.sqrt(3)


def example(name: str, monkeypatch):
    """The module of an example, which finds its neighbours as when it is run."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def structures(monkeypatch):
    return example("graphene_structures", monkeypatch)


@pytest.fixture
def table(structures, monkeypatch):
    return example("graphene_table", monkeypatch)


def test_what_is_written_is_what_is_named(structures, tmp_path, capsys):
    assert structures.main([str(tmp_path)]) == 0
    found = {path.stem: read(path) for path in tmp_path.iterdir()}
    assert found.keys() == structures.structures().keys()
    assert f"{tmp_path / 'vacancy'}.xyz: 49 atoms" in capsys.readouterr().out
    for name, atoms in found.items():
        assert atoms.pbc.tolist() == ([False, False, True] if "ribbon" in name else [True, True, False]), name
    distances = found["pristine-5x5"].get_all_distances(mic=True)
    np.testing.assert_allclose(np.sort(distances, 1)[:, 1:4], BOND, atol=1e-6)
    stretched = found["strained-2"].get_all_distances(mic=True)
    np.testing.assert_allclose(np.sort(stretched, 1)[:, 1], 1.02 * BOND, atol=1e-6)
    assert np.ptp(found["bilayer"].positions[:, 2]) == pytest.approx(3.35)


def test_a_bernal_bilayer_has_atoms_over_atoms_and_over_hexagons(structures):
    atoms = structures.bilayer()
    flat = atoms.copy()
    flat.positions[:, 2] = 3
    nearest = np.sort(flat.get_all_distances(mic=True)[2:, :2], 1)[:, 0]
    np.testing.assert_allclose(np.sort(nearest), [0, BOND], atol=1e-6)


@pytest.mark.parametrize("edge", ["zigzag", "armchair"])
def test_ribbons_have_bare_edges(structures, edge):
    atoms = structures.ribbon(edge)
    neighbours = (atoms.repeat((1, 1, 3)).get_all_distances(mic=True) < 1.1 * BOND).sum(1) - 1
    assert set(atoms.numbers) == {6}
    assert sorted(set(neighbours.tolist())) == [2, 3]


def test_blocks_of_a_perfect_cell_are_found_in_the_primitive_one(structures, table):
    basis = harmose.basis("gth-dzvp-molopt-sr", ["C"])
    small, large = (harmose.overlap(structures.primitive().repeat((n, n, 1)), basis) for n in (1, 3))
    label = SimpleNamespace(hamiltonian=small)
    assert max(table.perfect_errors(large, label)) < 1e-9
    assert max(table.perfect_errors(small, label)) == 0
    shifted = large.values.copy()
    shifted[:, ~large.is_onsite] += 0.5
    every, onsite, offsite = table.perfect_errors(replace(large, values=shifted), label)
    assert (onsite, offsite) == (pytest.approx(0, abs=1e-9), pytest.approx(0.5))
    blocks = np.count_nonzero(~large.is_onsite) / np.count_nonzero(large.is_onsite)
    assert every == pytest.approx(0.5 * 2 * blocks / (1 + 2 * blocks))


def test_a_store_that_is_not_there(table, tmp_path, capsys):
    assert table.main(["graphene-pbe-dzvp", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_row_has_the_score_of_the_training_domain(structures, table):
    row = table.predicted("graphene-pbe-dzvp", "pristine-1x1", structures.primitive())
    assert 0 < row.ood_score < 2
    assert row.hamiltonian.n_orbitals == 26
