"""Losses on levels against dense linear algebra; their gradients, where levels are degenerate too."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.linalg import block_diag, cholesky, eigh, solve_triangular

from harmose.data.store import Store
from harmose.representation.block_irreps import map_coefficients, to_matrix
from harmose.representation.concatenation import TargetSettings
from harmose.train.dataset import load_dataset
from harmose.train.fit import fit_to_samples, load_targets
from harmose.train.loss import degree_weights, norms_of_blocks, physical_errors, shift_free
from harmose.train.physics_loss import LOSSES, LossSettings, between_orbitals, eigenvalues, occupied, overlap_metric
from harmose.train.reference_orbitals import ReferenceOrbitals, ReferenceOrbitalTable
from harmose.train.step import PhaseBatch, PhaseLoss
from harmose.units import MICRO_HARTREE, RYDBERG

TARGET = TargetSettings(operators=("overlap",))


@pytest.fixture
def waters(water_store):
    """A batch of three, their samples, levels, and the error of a prediction that is a little wrong in every element."""
    with Store.open(water_store) as store:
        names = store.splits["train"]
        fit = fit_to_samples(load_targets(store, names, TargetSettings()))
        dataset = load_dataset(store, names, replace(fit, leave_one_out=None), TARGET)
        orbitals = ReferenceOrbitalTable(store, names, fit.space, TARGET, lambda _: None)
        samples = [store[names[k]] for k in (4, 0, 2)]
    batch = dataset.batch([4, 0, 2])
    generator = torch.Generator().manual_seed(0)
    noise = map_coefficients(lambda t: 0.1 * torch.randn(t.shape, generator=generator), batch.targets)
    masks = {s: torch.as_tensor(fit.space.onsite_layout(s).mask).float() for s in noise.onsite}
    pairs = {g: x * torch.as_tensor(fit.space.pair_layout(g).mask).float() for g, x in noise.pairs.items()}
    noise = type(noise)(pairs, {s: x * masks[s] for s, x in noise.onsite.items()})
    predicted = map_coefficients(torch.add, batch.targets, noise)
    return fit.space, batch, samples, orbitals, predicted


def dense_errors(space, batch, samples, errors) -> list[np.ndarray]:
    """dH of each sample through `targets.to_matrix`."""
    from harmose.representation.concatenation import concatenate, sample_graph

    graphs = [sample_graph(s, space) for s in samples]
    concatenated = concatenate(space, graphs)
    matrix = to_matrix(space, map_coefficients(lambda x: x.double(), errors), concatenated.graph, concatenated.oriented)
    return [part.dense() for part in concatenated.split(matrix, graphs)]


def test_each_loss_is_that_of_the_dense_matrices(waters):
    space, batch, samples, table, predicted = waters
    errors = physical_errors(predicted, batch)
    dense = dense_errors(space, batch, samples, errors)
    expected = dict.fromkeys(LOSSES, 0.0)
    for dh, sample in zip(dense, samples, strict=True):
        h, s, n = sample.hamiltonian.dense(), sample.overlap.dense(), sample.n_occupied
        e, c = eigh(h, s)
        lower = cholesky(s, lower=True)
        white = solve_triangular(lower, solve_triangular(lower, dh, lower=True).T, lower=True)
        expected["overlap_metric"] += np.sqrt((white**2).mean()) / 3
        weight = (1 + abs(e[:n, None] - e) / RYDBERG) ** -2
        expected["occupied"] += np.sqrt(((c[:, :n].T @ dh @ c) ** 2 * weight).sum() / weight.sum()) / 3
        counted = e <= e[n] + 5
        expected["eigenvalues"] += abs(eigh(h + dh, s, eigvals_only=True) - e)[counted].mean() / 3
    generator = torch.Generator().manual_seed(0)
    stage1 = type("Network", (torch.nn.Module,), {"stage1": lambda self, graph: SimpleNamespace(h1=predicted)})()
    stage1.space = space
    blocks = norms_of_blocks(degree_weights(space), errors, batch.n_elements)
    for name, value in expected.items():
        loss = PhaseLoss(stage1, torch.device("cpu"), 0.3, LossSettings(**{name: 2.0}), table)
        found = loss(PhaseBatch(batch), "stage1", generator) - blocks
        assert found.item() == pytest.approx(2 * value / MICRO_HARTREE, rel=2e-3), name


def test_a_perfect_prediction_costs_nothing_and_pulls_nowhere(waters):
    _, batch, _, table, _ = waters
    orbitals = table(batch.names)
    m = torch.zeros(3, 1, 7, 7, requires_grad=True)
    for name, loss in LOSSES.items():
        (gradient,) = torch.autograd.grad(loss(m, orbitals), m)
        assert loss(m, orbitals).item() < 0.1, name
        assert not gradient.any(), name


def hand_made(energies, n_occupied: int, n_counted: int, complex_numbers: bool = False) -> ReferenceOrbitals:
    e = torch.tensor(energies, dtype=torch.float64)[None, None]
    place = torch.arange(e.shape[-1])[None, None]
    masks = [(place < n).double() for n in (n_occupied, n_counted, e.shape[-1])]
    unit = torch.eye(e.shape[-1], dtype=torch.complex128 if complex_numbers else torch.float64)[None, None]
    return ReferenceOrbitals(unit, e, *masks, kpoints=None)


def test_values_that_can_be_worked_out_by_hand():
    orbitals = hand_made([-2.0, -1.0, 0.0], 1, 2)
    m = torch.tensor([[0.3, 0.0, 0.4], [0.0, 0.0, 0.0], [0.4, 0.0, -0.1]], dtype=torch.float64)[None, None]
    assert overlap_metric(m, orbitals).item() == pytest.approx(np.sqrt(0.42 / 9) / MICRO_HARTREE)
    w = [(1 + gap / RYDBERG) ** -2 for gap in (0, 1, 2)]
    assert occupied(m, orbitals).item() == pytest.approx(np.sqrt((0.09 + 0.16 * w[2]) / sum(w)) / MICRO_HARTREE)
    lowest = -0.9 - np.sqrt(0.8**2 + 0.16)  # of [[-1.7, 0.4], [0.4, -0.1]]
    assert eigenvalues(m, orbitals).item() == pytest.approx(abs(lowest + 2) / 2 / MICRO_HARTREE, abs=0.04)


@pytest.mark.parametrize("complex_numbers", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_hold_where_levels_are_degenerate(name, complex_numbers):
    """As those of benzene: pairs that a symmetric error moves together, in the reference and in the prediction."""
    orbitals = hand_made([-3.0, -1.0, -1.0, 2.0, 2.0], 3, 5, complex_numbers)
    together = torch.diag(torch.tensor([0.1, -0.2, -0.2, 0.3, 0.3], dtype=torch.float64))
    generator = torch.Generator().manual_seed(1)
    general = torch.randn(5, 5, generator=generator, dtype=orbitals.coefficients.dtype)
    for start in (together.to(general), general):
        x = start.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda y: LOSSES[name]((y + y.mH)[None, None] / 2, orbitals), x, atol=1e-1)


@pytest.mark.parametrize("name", LOSSES)
def test_orbitals_of_a_degenerate_level_are_as_good_as_any_mixture(name):
    orbitals = hand_made([-3.0, -1.0, -1.0, 2.0, 2.0], 3, 5)
    turns = [torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64))[0].numpy() for _ in range(2)]
    mixed = torch.as_tensor(block_diag(1.0, *turns))[None, None]
    dh = torch.randn(1, 1, 5, 5, dtype=torch.float64)
    dh = dh + dh.mH
    first, second = (
        LOSSES[name](between_orbitals(dh, x), x) for x in (orbitals, replace(orbitals, coefficients=mixed))
    )
    assert first.item() == pytest.approx(second.item(), rel=1e-12)
    assert first.item() > 1e3


def test_an_error_that_is_not_finite_makes_a_loss_that_is_not():
    m = torch.full((1, 1, 5, 5), torch.nan)
    assert eigenvalues(m, hand_made([-3.0, -1.0, -1.0, 2.0, 2.0], 3, 5)).isnan()


def test_a_shift_along_s_is_free_and_pulls_nowhere(waters):
    space, batch, samples, _, predicted = waters
    weights = degree_weights(space)
    s = batch.graph.operators["overlap"]
    c = torch.tensor([0.7, -0.3, 0.1], requires_grad=True)

    def loss(blind: bool):
        sample = batch.graph.sample
        owners = [sample[batch.graph.first[batch.graph.pair_slice(k)]] for k in range(len(s.pairs))]
        pairs = {g: c[o][:, None, None] * s.pairs[g] for g, o in zip(s.pairs, owners, strict=True)}
        onsite = {k: c[sample[batch.graph.atom_slice(k)]][:, None, None] * x for k, x in s.onsite.items()}
        errors = map_coefficients(torch.add, physical_errors(predicted, batch), type(s)(pairs, onsite))
        return norms_of_blocks(weights, shift_free(errors, batch.graph) if blind else errors, batch.n_elements)

    (gradient,) = torch.autograd.grad(loss(True), c)
    (plain,) = torch.autograd.grad(loss(False), c)
    errors = physical_errors(predicted, batch)
    best = norms_of_blocks(weights, shift_free(errors, batch.graph), batch.n_elements)
    assert loss(True).item() == pytest.approx(best.item(), rel=1e-3)
    assert gradient.abs().max() < 1e-3 * plain.abs().max()
    left = dense_errors(space, batch, samples, shift_free(errors, batch.graph))
    for dh, sample in zip(left, samples, strict=True):
        assert abs((dh * sample.overlap.dense()).sum()) < 1e-4 * np.abs(dh).sum()


def test_levels_do_not_enter_unless_a_weight_is_on(waters):
    space = waters[0]
    network = torch.nn.Module()
    network.space = space
    assert PhaseLoss(network, torch.device("cpu"), 0.3).assembly is None
    assert not LossSettings(shift_blind=True).needs_orbitals
    assert LossSettings(occupied=0.5).weights == {"occupied": 0.5}
