"""Batches against samples handled one by one; errors against dense matrices."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from ase.build import molecule
from torch import Tensor

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import FormatError, MatrixError
from harmose.io.pyscf.pyscf import layout, overlap, to_blocks
from harmose.io.pyscf.pyscf import molecule as pyscf_molecule
from harmose.representation.batch import collate, graph_batch
from harmose.representation.block_irreps import map_coefficients, to_coefficients, to_matrix
from harmose.representation.concatenation import Target, join, measure, restore, sample_graph, target_space
from harmose.train.dataset import Reference, chunks, fit, fitted_baseline, load_dataset, measured_samples, prepare
from harmose.train.state import read_baseline, write_baseline


@pytest.fixture
def mixed_store(tmp_path, water_basis, water_sample, water_atoms) -> Store:
    """Hydrogen, hydrogen peroxide and water in turn: samples with different numbers of pairs in each group."""
    path = tmp_path / "mixed"
    generator = np.random.default_rng(1)
    with Store.create(path, water_basis) as store:
        for k in range(9):
            atoms = [molecule("H2"), molecule("H2O2"), water_atoms(k)][k % 3]
            atoms.positions += 0.02 * generator.normal(size=atoms.positions.shape)
            mol = pyscf_molecule(atoms, "sto-3g")
            h = to_blocks(mol.intor("int1e_kin") + mol.intor("int1e_nuc"), layout(atoms, water_basis))
            s = overlap(atoms, "sto-3g", water_basis)
            store.append(Sample(f"m{k}", atoms, water_basis, h, s, h.with_values(h.values / 2)))
    return Store.open(path)


def assert_equal(a: Tensor, b: Tensor, name: str = "") -> None:
    if a.is_floating_point():
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=lambda text: f"{name}: {text}")
    else:
        assert torch.equal(a, b), name


def test_a_batch_is_its_samples_one_by_one(mixed_store):
    names = mixed_store.names()
    baseline, _ = fitted_baseline(mixed_store, names, Target())
    space = baseline.space
    dataset = load_dataset(mixed_store, names, baseline, Target())
    chosen = [7, 1, 3, 8]
    batch = dataset.batch(chosen)
    assert batch.names == tuple(names[k] for k in chosen)
    samples = [mixed_store[names[k]] for k in chosen]
    assert batch.n_elements == sum(s.hamiltonian.n_orbitals**2 for s in samples)
    graphs = [build_graph(s.structure, space.basis) for s in samples]
    oriented = [space.orient(g) for g in graphs]
    expected = collate([graph_batch(space, g, o) for g, o in zip(graphs, oriented)])
    for f in fields(expected):
        a, b = getattr(batch.graph, f.name), getattr(expected, f.name)
        if isinstance(a, Tensor):
            assert_equal(a, b, f.name)
        else:
            assert a == b, f.name
    for kind in ("pairs", "onsite"):
        for key, found in getattr(batch.targets, kind).items():
            parts = []
            for sample, o in zip(samples, oriented):
                c = getattr(to_coefficients(space, sample.hamiltonian, o), kind)[key]
                values, scales = (getattr(x, kind)[key] for x in (baseline.values(o), baseline.scales(o)))
                parts.append(((c - values) / scales).float())
            # a batch is rounded in another order, which divided by small scales shows
            torch.testing.assert_close(found, torch.cat(parts), rtol=1e-3, atol=1e-4)


def test_samples_that_do_not_fit_in_memory_give_the_same_batches(mixed_store):
    names = mixed_store.names()
    baseline, _ = fitted_baseline(mixed_store, names, Target(prior=True))
    kept, streamed = (load_dataset(mixed_store, names, baseline, Target(prior=True), memory=m) for m in (10**9, 0))
    assert (kept.n_ready, streamed.n_ready) == (9, 0)
    a, b = kept.batch([5, 0, 4]), streamed.batch([5, 0, 4])
    assert a.names == b.names
    assert a.n_elements == b.n_elements
    for x, y in ((a.targets, b.targets), (a.scales, b.scales)):
        for key in x.pairs:
            torch.testing.assert_close(x.pairs[key], y.pairs[key], rtol=1e-3, atol=1e-4)
    assert_equal(a.graph.rotation, b.graph.rotation)


def test_restore_inverts_prepare(mixed_store):
    names = mixed_store.names()
    baseline, _ = fitted_baseline(mixed_store, names, Target())
    measured = measure(baseline.space, [mixed_store[n] for n in names], Target())
    prepared = prepare(measured, baseline)
    restored = restore(
        prepared.targets, baseline.values(measured.joined.oriented), baseline.scales(measured.joined.oriented)
    )
    matrix = to_matrix(baseline.space, restored, measured.joined.graph, measured.joined.oriented)
    np.testing.assert_allclose(matrix.values, measured.target.values, atol=1e-5)


def test_values_and_split_are_inverse(mixed_store):
    samples = list(mixed_store)
    space = target_space(mixed_store.basis)
    graphs = [sample_graph(s, space) for s in samples]
    joined = join(space, graphs)
    matrix = joined.matrix(space, joined.values([s.hamiltonian for s in samples]))
    for sample, part in zip(samples, joined.split(matrix, graphs), strict=True):
        assert np.array_equal(part.values, sample.hamiltonian.values)
        assert np.array_equal(part.dense(), sample.hamiltonian.dense())


def test_with_unseen_predictions_the_network_learns_what_they_leave(mixed_store):
    names = mixed_store.names()
    baseline, unseen = fitted_baseline(mixed_store, names, Target())
    dataset = load_dataset(mixed_store, names, baseline, Target(), memory=0, unseen=unseen)
    assert dataset.n_ready == len(names)
    measured = measure(baseline.space, [mixed_store[n] for n in names], Target())
    batch = dataset.batch(range(len(names)))
    for group, targets in batch.targets.pairs.items():
        expected = measured.coefficients.pairs[group] - unseen.pairs[group]
        torch.testing.assert_close(targets * batch.scales.pairs[group], expected.float(), rtol=1e-4, atol=1e-6)


def test_mae_is_that_of_the_dense_matrices(mixed_store):
    names = mixed_store.names()
    baseline, _ = fitted_baseline(mixed_store, names[:6], Target(prior=True))
    reference = Reference(mixed_store, names, baseline, Target(prior=True))
    generator = torch.Generator().manual_seed(0)
    noise = {}

    def predict(graph):
        targets = prepare(reference.parts[0], baseline).targets
        noise["c"] = map_coefficients(lambda x: torch.randn(x.shape, generator=generator), targets)
        return noise["c"]

    found = reference.mae(predict)
    measured = reference.parts[0]
    restored = restore(noise["c"], baseline.values(measured.joined.oriented), baseline.scales(measured.joined.oriented))
    matrix = to_matrix(baseline.space, restored, measured.joined.graph, measured.joined.oriented)
    samples = [mixed_store[n] for n in names]
    parts = measured.joined.split(matrix, [build_graph(s.structure, baseline.space.basis) for s in samples])
    errors = [np.abs((p + s.prior).dense() - s.hamiltonian.dense()).mean() for p, s in zip(parts, samples)]
    assert found == pytest.approx(np.mean(errors), rel=1e-9)


def test_chunks_keep_order_and_size(mixed_store, monkeypatch):
    monkeypatch.setattr("harmose.train.dataset.PAIRS_AT_ONCE", 7)
    names = mixed_store.names()[::-1]
    found = list(chunks(mixed_store, names))
    assert [s.name for part in found for s in part] == names
    assert len(found) > 1
    assert all(sum(len(s.hamiltonian.pairs) for s in part) >= 7 for part in found[:-1])


def test_a_matrix_with_other_blocks_than_the_graph_names_the_sample(water_sample):
    sample = water_sample(0)
    space = target_space(sample.basis)
    h = sample.hamiltonian
    cut = BlockMatrix(h.basis, h.numbers, h.pairs[:-1], h.values[:, : h.offsets[-2]])
    with pytest.raises(MatrixError, match=r"sample water-0: .*no block \(1, 2, 0, 0, 0\) of the graph"):
        sample_graph(replace(sample, hamiltonian=cut), space)
    short = BasisSet("sto-3g", sample.basis.shells, {1: 0.6, 8: 0.7})
    with pytest.raises(MatrixError, match=r"sample water-0: .*a block \(1, 2, 0, 0, 0\) outside the graph"):
        sample_graph(sample, target_space(short))


def test_what_is_missing_is_named(mixed_store, water_sample):
    with pytest.raises(FormatError, match="expected training samples, got none"):
        fitted_baseline(mixed_store, [], Target())
    with pytest.raises(FormatError, match="sample water-0: expected a prior H0"):
        measure(target_space(mixed_store.basis), [replace(water_sample(0), prior=None)], Target(prior=True))


def test_as_many_references_as_asked_for(mixed_store):
    names = mixed_store.names()[:4]
    space, measured = target_space(mixed_store.basis), measured_samples(mixed_store, names, Target())
    few, all_of_them = (fit(space, measured, references=n)[0].pairs for n in (2, None))
    for kind, found in few.items():
        assert found.many_body is not None
        assert len(found.many_body.references.distance) == min(2, len(all_of_them[kind].many_body.references.distance))


def test_three_centre_terms_alone(mixed_store, tmp_path):
    names = mixed_store.names()
    space, measured = target_space(mixed_store.basis), measured_samples(mixed_store, names, Target())
    errors = {}
    for references in (0, None):
        baseline, _ = fit(space, measured, references=references)
        found = baseline.values(measured.joined.oriented)
        assert all((pair.many_body is None) == (references == 0) for pair in baseline.pairs.values())
        parts = [(found.pairs[g] - x).abs().sum() for g, x in measured.coefficients.pairs.items()]
        errors[references] = float(sum(parts))
        path = tmp_path / f"{references}.safetensors"
        write_baseline(path, baseline, found)
        again = read_baseline(path, space)[0].values(measured.joined.oriented)
        assert all(torch.equal(again.pairs[g], x) for g, x in found.pairs.items())
    nothing = fit(space, measured, many_body=False)[0].values(measured.joined.oriented)
    alone = sum(float((nothing.pairs[g] - x).abs().sum()) for g, x in measured.coefficients.pairs.items())
    assert errors[None] < errors[0] < alone
