"""Blocks to coefficients and back, and their behaviour under rotation."""

import numpy as np
import pytest
import torch
from ase.build import molecule

from harmose.basis import BasisSet, Shell
from harmose.batch import collate, graph_batch
from harmose.blocks import empty_matrix
from harmose.errors import BasisError
from harmose.graph import build_graph
from harmose.so3.wigner import random_rotation
from harmose.targets import TargetSpace, to_coefficients, to_matrix

S, P, D = Shell(1, 0), Shell(2, 1), Shell(3, 2)
BASIS = BasisSet("spd", {1: (S, P), 6: (S, P, D), 8: (S, P, D)}, {1: 5.0, 6: 5.0, 8: 5.0})
SPACE = TargetSpace(BASIS, 4)


def random_operator(atoms, seed=0):
    """A random operator with symmetric on-site blocks."""
    graph = build_graph(atoms, BASIS)
    layout = empty_matrix(BASIS, graph.numbers, graph.pairs)
    matrix = np.random.default_rng(seed).normal(size=(layout.n_orbitals,) * 2)
    _, row, col = layout.elements
    return graph, layout.with_values((matrix + matrix.T)[row, col][None])


def test_round_trip_is_exact():
    graph, h = random_operator(molecule("CH3CH2OH"))
    oriented = SPACE.orient(graph)
    again = to_matrix(SPACE, to_coefficients(SPACE, h, oriented), graph, oriented)
    np.testing.assert_allclose(again.values, h.values, atol=1e-12)


def test_order_of_atoms_does_not_change_which_way_pairs_point():
    atoms = molecule("CH3OH")
    for structure in (atoms, atoms[::-1]):
        oriented = SPACE.orient(build_graph(structure, BASIS))
        assert (oriented.species[oriented.first] <= oriented.species[oriented.second]).all()


def test_axial_coefficients_do_not_see_a_rotation():
    atoms = molecule("CH3OH")
    graph, h = random_operator(atoms)
    rotation = random_rotation(np.random.default_rng(1))
    turned = atoms.copy()
    turned.positions = turned.positions @ rotation.T
    before = to_coefficients(SPACE, h, SPACE.orient(graph))
    after = to_coefficients(SPACE, h.rotate(rotation), SPACE.orient(build_graph(turned, BASIS)))
    for g in SPACE.groups:
        torch.testing.assert_close(after.pairs[g][:, 0], before.pairs[g][:, 0])
        torch.testing.assert_close(after.pairs[g].square().sum((1, 2)), before.pairs[g].square().sum((1, 2)))
    for s in before.onsite:
        torch.testing.assert_close(after.onsite[s][:, 0], before.onsite[s][:, 0])


def test_coefficients_have_the_norm_of_the_blocks():
    graph, h = random_operator(molecule("H2O"))
    c = to_coefficients(SPACE, h, SPACE.orient(graph))
    total = sum(float(x.square().sum()) for x in [*c.pairs.values(), *c.onsite.values()])
    assert total == pytest.approx(float((h.values**2).sum()))


def test_unknown_element():
    with pytest.raises(BasisError, match="expected one of H, C, O, got N"):
        SPACE.orient(build_graph(molecule("NH3"), BasisSet("x", {**BASIS.shells, 7: (S,)}, {**BASIS.radii, 7: 5.0})))


def test_collated_batches_renumber_atoms_and_keep_groups_together():
    parts = []
    for name in ("H2O", "CH3OH", "CO"):
        graph = build_graph(molecule(name), BASIS)
        parts.append(graph_batch(SPACE, graph, SPACE.orient(graph), torch.float64))
    whole = collate(parts)
    assert whole.n_samples == 3
    assert whole.n_atoms == 3 + 6 + 2
    signature = torch.as_tensor(SPACE.signature)[whole.species]
    assert (signature.diff() >= 0).all()
    assert (whole.sample[whole.first] == whole.sample[whole.second]).all()
    for k in range(len(SPACE.groups)):
        part = whole.pair_slice(k)
        torch.testing.assert_close(whole.distance[part], torch.cat([p.distance[p.pair_slice(k)] for p in parts]))
