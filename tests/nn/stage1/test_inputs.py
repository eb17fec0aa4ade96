"""Operators of a structure as input of stage 1: symmetry, scales, and no change for a network without them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule

from harmose.core.blocks import empty_matrix
from harmose.core.graph import build_graph
from harmose.nn.stage1.inputs import InputSettings
from harmose.nn.stage1.settings import Stage1Settings
from harmose.nn.stage2.settings import Stage2Settings
from harmose.nn.two_stage import NetworkSettings, TwoStage
from harmose.representation.batch import graph_batch
from harmose.representation.block_irreps import to_coefficients, to_matrix
from harmose.so3.wigner import random_rotation

SMALL = NetworkSettings(
    Stage1Settings(channels=4, pseudo_channels=2, scalars=16, so2_channels=8, pseudoscalars=4, hidden=16),
    Stage2Settings(channels=4, pseudo_channels=4, scalars=8, so2_channels=8, pseudoscalars=4, hidden=32),
)
BOTH = InputSettings(prior=True, overlap=True)


def operators(atoms, space, seed: int):
    """Two Hermitian operators without any symmetry of the structure."""
    graph = build_graph(atoms, space.basis)
    generator = np.random.default_rng(seed)
    found = {}
    for name in BOTH.operators:
        matrix = empty_matrix(space.basis, graph.numbers, graph.pairs)
        values = generator.normal(size=matrix.values.shape)
        for (z1, z2), index, where in matrix.groups():
            if z1 != z2:
                continue
            onsite = where[index < len(atoms)]
            values[:, onsite] = (values[:, onsite] + values[:, onsite].swapaxes(-1, -2)) / 2
        found[name] = matrix.with_values(values)
    return found


def batch_of(atoms, space, matrices, dtype=torch.float64):
    graph = build_graph(atoms, space.basis)
    oriented = space.orient(graph)
    read = {name: to_coefficients(space, matrix, oriented) for name, matrix in matrices.items()}
    return replace(graph_batch(space, graph, oriented, dtype), operators=read), graph, oriented


def network(space, inputs: InputSettings) -> TwoStage:
    torch.manual_seed(3)
    made = TwoStage(space, SMALL, inputs)
    made.double()
    atoms = molecule("CH3OH")
    made.calibrate(batch_of(atoms, space, operators(atoms, space, 7))[0])
    return made.eval()


def predict(model, atoms, space, matrices):
    batch, graph, oriented = batch_of(atoms, space, matrices)
    with torch.no_grad():
        return to_matrix(space, model.stage1(batch).h1, graph, oriented)


@pytest.mark.parametrize("improper", [1, -1])
def test_h_rotates_with_the_structure_and_its_operators(space, improper):
    model, atoms, generator = network(space, BOTH), molecule("CH3CHO"), np.random.default_rng(2)
    atoms.positions += 0.1 * generator.normal(size=atoms.positions.shape)
    matrices = operators(atoms, space, 1)
    q = random_rotation(generator)
    turned = atoms.copy()
    turned.positions = improper * atoms.positions @ q.T
    parity = np.concatenate(
        [[improper**l] * (2 * l + 1) for z in atoms.numbers for l in space.basis.degrees(z)]
    ).astype(float)

    def moved(matrix):
        _, row, col = matrix.indices
        rotated = matrix.rotate(q)
        return rotated.with_values(rotated.values * parity[row] * parity[col])

    found = predict(model, turned, space, {name: moved(m) for name, m in matrices.items()})
    expected = moved(predict(model, atoms, space, matrices))
    np.testing.assert_allclose(found.values, expected.values, atol=1e-10 * np.abs(expected.values).max())


def test_each_operator_is_read(space):
    model, atoms = network(space, BOTH), molecule("CH3CHO")
    matrices = operators(atoms, space, 1)
    usual = predict(model, atoms, space, matrices).values
    for name, other in operators(atoms, space, 2).items():
        changed = predict(model, atoms, space, matrices | {name: other}).values
        assert np.abs(changed - usual).mean() > 1e-2 * np.abs(usual).mean()


def test_features_of_operators_are_scaled_to_order_one(space):
    """However large an operator is, and with its mean beyond its spread as that of core levels is."""
    torch.manual_seed(3)
    made, atoms = TwoStage(space, SMALL, BOTH).double(), molecule("CH3OH")
    matrices = {n: m.with_values(1e3 * m.values - 1e5 * m.is_onsite) for n, m in operators(atoms, space, 7).items()}
    batch, *_ = batch_of(atoms, space, matrices)
    made.calibrate(batch)
    with torch.no_grad():
        atoms_read, edges_read = made.stage1.inputs(batch)
    for features in (*atoms_read, *edges_read):
        assert 0.1 < features.square().mean().sqrt() < 10


def test_groups_missing_in_the_calibration_batch_stay_finite(space):
    model, atoms = network(space, BOTH), molecule("CH3CHO")
    water = molecule("H2O")
    model.calibrate(batch_of(water, space, operators(water, space, 3))[0])
    assert np.isfinite(predict(model, atoms, space, operators(atoms, space, 1)).values).all()


def test_a_network_without_inputs_has_no_readers(space):
    plain = TwoStage(space, SMALL)
    assert plain.stage1.inputs is None
    assert not any(name.startswith("stage1.inputs") for name in plain.state_dict())
    read = TwoStage(space, SMALL, InputSettings(overlap=True))
    assert len(list(read.stage1.parameters())) + len(list(read.stage2.parameters())) == len(list(read.parameters()))
