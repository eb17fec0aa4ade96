"""Splitting and merging stores."""

from dataclasses import replace

import pytest

import harmose
from harmose.data.curation import merge, split
from harmose.data.store import Store
from harmose.errors import BasisError, ConfigError, FormatError
from harmose.io.pyscf.pyscf import basis_set

SHARES = {"train": 0.5, "val": 0.25, "test": 0.25}


def test_split(water_store):
    with Store.open(water_store) as store:
        chosen = split(store, SHARES, seed=1)
        assert {k: len(v) for k, v in chosen.items()} == {"train": 4, "val": 2, "test": 2}
        assert sorted(name for names in chosen.values() for name in names) == store.names()
        assert chosen == split(store, SHARES, seed=1)
        assert len({str(split(store, SHARES, seed=k)) for k in range(10)}) > 5
        partial = split(store, {"train": 0.5}, seed=0)
        assert {k: len(v) for k, v in partial.items()} == {"train": 4}


def test_split_by_group(water_store):
    with Store.open(water_store) as store:
        for seed in range(5):
            chosen = split(store, SHARES, seed, by="group")
            owner = {name: k for k, names in chosen.items() for name in names}
            assert {k: len(v) for k, v in chosen.items()} == {"train": 4, "val": 2, "test": 2}
            for k in range(0, 8, 2):
                assert owner[f"water-{k}"] == owner[f"water-{k + 1}"]
        with pytest.raises(FormatError, match="sample 'water-0' has no 'molecule' in its provenance"):
            split(store, SHARES, 0, by="molecule")


def test_split_by_group_uses_the_formula_without_group(tmp_path, water_store):
    with Store.open(water_store) as store, Store.create(tmp_path / "converted", store.basis) as converted:
        for sample in store:
            converted.append(replace(sample, provenance={}))
        assert {k: len(v) for k, v in split(converted, SHARES, 0, by="group").items()} == {
            "train": len(store), "val": 0, "test": 0
        }  # fmt: skip


@pytest.mark.parametrize("shares", [{}, {"train": 1.5}, {"train": -0.1}, {"train": 0.8, "val": 0.4}])
def test_split_errors(water_store, shares):
    with Store.open(water_store) as store, pytest.raises(ConfigError, match="shares between 0 and 1"):
        split(store, shares, 0)


def test_merge(tmp_path, water_store, water_sample):
    with Store.create(
        tmp_path / "b", basis_set("sto-3g", [1, 6, 8]), metadata={"basis": "sto-3g", "functional": "hf"}
    ) as b:
        b.append(water_sample(8))
        b.append(water_sample(9))
        b.set_splits({"val": ["water-9"], "test": ["water-8"]})
        b.remember_failure("bad", "not converged")
        b.remember_failure("water-0", "failed here, finished in the other")
    with Store.open(water_store) as a, Store.open(tmp_path / "b") as b:
        merge([a, b], tmp_path / "out")
        with Store.open(tmp_path / "out") as out:
            assert out.names() == [f"water-{k}" for k in range(10)]
            assert out.basis.elements == (1, 6, 8)
            assert out.metadata == a.metadata
            assert out.splits == {
                "train": a.splits["train"], "val": ["water-6", "water-7", "water-9"], "test": ["water-8"],
            }  # fmt: skip
            assert out.failures == {"bad": "not converged"}
            assert {out.record(name) for name in a.names()} == {a.record(name) for name in a.names()}


def test_merge_keeps_radial_functions(tmp_path, water_store, water_basis):
    """Those of all elements, of any of the stores; none where one element has none."""
    with (
        Store.open(water_store, writable=True) as a,
        Store.create(tmp_path / "b", water_basis, metadata=a.metadata) as b,
    ):
        a.set_radial(harmose.basis("sto-3g", ["H", "O"]))
        merge([b, a], tmp_path / "out")
        b.extend_basis(basis_set("sto-3g", [6]))
        merge([b, a], tmp_path / "wider")
    with Store.open(tmp_path / "out") as out, Store.open(tmp_path / "wider") as wider:
        assert out.radial.basis == out.basis
        assert wider.radial is None


def test_merge_errors(tmp_path, water_store, water_basis):
    with Store.open(water_store) as a:
        with pytest.raises(FormatError, match=r"8 of its names are also in .*'water-0', 'water-1', 'water-2', \.\.\."):
            merge([a, a], tmp_path / "out")
        b = Store.create(tmp_path / "b", water_basis, metadata={"functional": "pbe", "basis": "sto-3g"})
        with pytest.raises(FormatError, match=r"same settings, got functional = 'hf' in .*water and 'pbe' in .*b"):
            merge([a, b], tmp_path / "out")
        c = Store.create(tmp_path / "c", basis_set("def2-svp", [1, 8]), metadata=a.metadata)
        with pytest.raises(BasisError, match="expected one basis set"):
            merge([a, c], tmp_path / "out")
        with pytest.raises(FormatError, match="at least one store"):
            merge([], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
