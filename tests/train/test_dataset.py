"""Batches against samples handled one by one; errors against dense matrices."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.errors import FormatError, MatrixError
from harmose.representation.block_irreps import map_coefficients, to_coefficients, to_matrix
from harmose.representation.concatenation import (
    TargetSettings,
    block_irreps,
    compute_targets,
    concatenate,
    concatenated_batch,
    denormalize,
    sample_graph,
)
from harmose.train.dataset import ValidationSet, chunks, load_dataset, normalize_targets
from harmose.train.fit import fit_to_samples, load_targets


def assert_equal(a: Tensor, b: Tensor, name: str = "") -> None:
    if a.is_floating_point():
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=lambda text: f"{name}: {text}")
    else:
        assert torch.equal(a, b), name


def test_a_batch_is_its_samples_one_by_one(mixed_store):
    names = mixed_store.names()
    fit = fit_to_samples(load_targets(mixed_store, names, TargetSettings()))
    space = fit.space
    dataset = load_dataset(mixed_store, names, replace(fit, leave_one_out=None), TargetSettings())
    chosen = [7, 1, 3, 8]
    batch = dataset.batch(chosen)
    assert batch.names == tuple(names[k] for k in chosen)
    samples = [mixed_store[names[k]] for k in chosen]
    assert batch.n_elements == sum(s.hamiltonian.n_orbitals**2 for s in samples)
    graphs = [build_graph(s.structure, space.basis) for s in samples]
    oriented = [space.orient(g) for g in graphs]
    expected = concatenated_batch(space, concatenate(space, graphs))
    for f in fields(expected):
        a, b = getattr(batch.graph, f.name), getattr(expected, f.name)
        if isinstance(a, Tensor):
            assert_equal(a, b, f.name)
        else:
            assert a == b, f.name
    for pair_type in ("pairs", "onsite"):
        for key, found in getattr(batch.targets, pair_type).items():
            parts = []
            for sample, o in zip(samples, oriented):
                c = getattr(to_coefficients(space, sample.hamiltonian, o), pair_type)[key]
                values, scales = (
                    getattr(x, pair_type)[key] for x in (fit.regression.values(o), fit.normalizer.scales(o))
                )
                parts.append(((c - values) / scales).float())
            # a batch is rounded in another order, which divided by small scales shows
            torch.testing.assert_close(found, torch.cat(parts), rtol=1e-3, atol=1e-4)


def test_restore_inverts_prepare(mixed_store):
    names = mixed_store.names()
    fit = fit_to_samples(load_targets(mixed_store, names, TargetSettings()))
    sample_targets = compute_targets(fit.space, [mixed_store[n] for n in names], TargetSettings())
    prepared = normalize_targets(sample_targets, fit)
    restored = denormalize(
        prepared.targets,
        fit.regression.values(sample_targets.concatenated.oriented),
        fit.normalizer.scales(sample_targets.concatenated.oriented),
    )
    matrix = to_matrix(fit.space, restored, sample_targets.concatenated.graph, sample_targets.concatenated.oriented)
    np.testing.assert_allclose(matrix.values, sample_targets.target.values, atol=1e-5)


def test_values_and_split_are_inverse(mixed_store):
    samples = list(mixed_store)
    space = block_irreps(mixed_store.basis)
    graphs = [sample_graph(s, space) for s in samples]
    concatenated = concatenate(space, graphs)
    matrix = concatenated.matrix(space, concatenated.values([s.hamiltonian for s in samples]))
    for sample, part in zip(samples, concatenated.split(matrix, graphs), strict=True):
        assert np.array_equal(part.values, sample.hamiltonian.values)
        assert np.array_equal(part.dense(), sample.hamiltonian.dense())


def test_with_unseen_predictions_the_network_learns_what_they_leave(mixed_store):
    names = mixed_store.names()
    fit = fit_to_samples(load_targets(mixed_store, names, TargetSettings()))
    dataset = load_dataset(mixed_store, names, fit, TargetSettings())
    sample_targets = compute_targets(fit.space, [mixed_store[n] for n in names], TargetSettings())
    batch = dataset.batch(range(len(names)))
    for group, targets in batch.targets.pairs.items():
        expected = sample_targets.coefficients.pairs[group] - fit.leave_one_out.values.pairs[group]
        torch.testing.assert_close(targets * batch.scales.pairs[group], expected.float(), rtol=1e-4, atol=1e-6)


def test_mae_is_that_of_the_dense_matrices(mixed_store):
    names = mixed_store.names()
    fit = fit_to_samples(load_targets(mixed_store, names[:6], TargetSettings(prior=True)))
    reference = ValidationSet(mixed_store, names, fit, TargetSettings(prior=True))
    generator = torch.Generator().manual_seed(0)
    noise = {}

    def predict(graph):
        targets = normalize_targets(reference.parts[0], fit).targets
        noise["c"] = map_coefficients(lambda x: torch.randn(x.shape, generator=generator), targets)
        return noise["c"]

    found = reference.mae(predict)
    sample_targets = reference.parts[0]
    restored = denormalize(
        noise["c"],
        fit.regression.values(sample_targets.concatenated.oriented),
        fit.normalizer.scales(sample_targets.concatenated.oriented),
    )
    matrix = to_matrix(fit.space, restored, sample_targets.concatenated.graph, sample_targets.concatenated.oriented)
    samples = [mixed_store[n] for n in names]
    parts = sample_targets.concatenated.split(matrix, [build_graph(s.structure, fit.space.basis) for s in samples])
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
    space = block_irreps(sample.basis)
    h = sample.hamiltonian
    cut = BlockMatrix(h.basis, h.numbers, h.pairs[:-1], h.values[:, : h.offsets[-2]])
    with pytest.raises(MatrixError, match=r"sample water-0: .*no block \(1, 2, 0, 0, 0\) of the graph"):
        sample_graph(replace(sample, hamiltonian=cut), space)
    short = BasisSet("sto-3g", sample.basis.shells, {1: 0.6, 8: 0.7})
    with pytest.raises(MatrixError, match=r"sample water-0: .*a block \(1, 2, 0, 0, 0\) outside the graph"):
        sample_graph(sample, block_irreps(short))


def test_what_is_missing_is_named(mixed_store, water_sample):
    with pytest.raises(FormatError, match="expected training samples, got none"):
        load_targets(mixed_store, [], TargetSettings())
    with pytest.raises(FormatError, match="sample water-0: expected a prior H0"):
        compute_targets(
            block_irreps(mixed_store.basis), [replace(water_sample(0), prior=None)], TargetSettings(prior=True)
        )
