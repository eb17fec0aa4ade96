"""The two-stage network: rotation against e3nn, inversion, translation, permutation, batching, both precisions, bounds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from pydantic import ValidationError

from harmose.core.graph import build_graph
from harmose.nn.ops.saturation import OUTPUT_BOUND, Bounded
from harmose.nn.two_stage import NetworkSettings, TwoStage, add
from harmose.representation.batch import graph_batch
from harmose.representation.concatenation import concatenate, concatenated_batch
from harmose.so3.wigner import random_rotation

METHANOL = molecule("CH3OH")
ACETYLENE = molecule("C2H2")
WATER = molecule("H2O")


def turned(atoms: Atoms, rotation: np.ndarray) -> Atoms:
    out = atoms.copy()
    out.positions = out.positions @ rotation.T
    return out


@pytest.mark.parametrize("atoms", [METHANOL, ACETYLENE, WATER], ids=["general", "linear", "planar"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 3e-5)])
def test_stage1_rotates_as_e3nn_says(network, predict, e3nn_rotation, atoms, dtype, tolerance):
    model, rotation = network(dtype), random_rotation(np.random.default_rng(5))
    d = e3nn_rotation(atoms, rotation)
    expected = d @ predict(model, atoms, "stage1").dense() @ d.T
    found = predict(model, turned(atoms, rotation), "stage1").dense()
    assert np.abs(found - expected).max() < tolerance * max(1.0, np.abs(expected).max())


def test_stage1_respects_inversion(network, predict):
    model = network(torch.float64)
    h = predict(model, METHANOL, "stage1")
    mirrored = METHANOL.copy()
    mirrored.positions *= -1
    parity = np.concatenate([[(-1.0) ** l] * (2 * l + 1) for z in METHANOL.numbers for l in h.basis.degrees(int(z))])
    np.testing.assert_allclose(
        predict(model, mirrored, "stage1").dense(), parity[:, None] * h.dense() * parity, atol=1e-11
    )


def test_linear_molecule_on_the_polar_axis(network, predict, e3nn_rotation):
    model = network(torch.float64)
    rotation = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # z to x
    d = e3nn_rotation(ACETYLENE, rotation)
    assert np.ptp(ACETYLENE.positions[:, :2]) == 0
    expected = d @ predict(model, ACETYLENE, "stage1").dense() @ d.T
    np.testing.assert_allclose(predict(model, turned(ACETYLENE, rotation), "stage1").dense(), expected, atol=1e-11)


@pytest.mark.parametrize("stage", ["stage1", "full"])
def test_translation_changes_nothing(network, predict, stage):
    model = network(torch.float64)
    moved = METHANOL.copy()
    moved.positions += [3.0, -20.0, 7.0]
    np.testing.assert_allclose(predict(model, moved, stage).values, predict(model, METHANOL, stage).values, atol=1e-9)


def test_permuted_atoms_permute_blocks(network, predict):
    model, order = network(torch.float64), np.random.default_rng(1).permutation(len(METHANOL))
    h, permuted = predict(model, METHANOL, "stage1"), predict(model, METHANOL[order], "stage1")
    for i in range(len(order)):
        for j in range(len(order)):
            np.testing.assert_allclose(permuted.block(i, j), h.block(order[i], order[j]), atol=1e-12)


@pytest.mark.parametrize("stage", ["stage1", "full"])
def test_a_batch_gives_what_each_sample_gives(network, space, stage):
    model, graphs = network(torch.float64), [build_graph(x, space.basis) for x in (WATER, METHANOL, ACETYLENE)]
    batches = [graph_batch(space, g, space.orient(g), torch.float64) for g in graphs]
    whole = concatenated_batch(space, concatenate(space, graphs), dtype=torch.float64)

    def evaluate(batch):
        return model(batch) if stage == "full" else model.stage1(batch).h1

    with torch.no_grad():
        together, alone = evaluate(whole), [evaluate(b) for b in batches]
    for g in together.pairs:
        torch.testing.assert_close(together.pairs[g], torch.cat([c.pairs[g] for c in alone]))
    for s in together.onsite:
        torch.testing.assert_close(together.onsite[s], torch.cat([c.onsite[s] for c in alone]))


def test_attention_of_one_atom_does_not_depend_on_another_molecule(network, space):
    """Logits hundreds apart: with one shift for the whole batch the exponentials of most atoms would vanish."""
    model = network(torch.float64)
    with torch.no_grad():
        model.stage2.rounds[0].attention.logits[-1].weight.mul_(1000)
    graphs = [build_graph(atoms, space.basis) for atoms in (METHANOL, WATER)]
    whole = concatenated_batch(space, concatenate(space, graphs), dtype=torch.float64)
    with torch.no_grad():
        together, alone = model(whole), model(graph_batch(space, graphs[1], space.orient(graphs[1]), torch.float64))
    n = len(alone.onsite[0])
    torch.testing.assert_close(together.onsite[0][-n:], alone.onsite[0], rtol=1e-9, atol=1e-9)


def test_h_is_the_sum_of_both_stages(space, network):
    model = network(torch.float64)
    graph = build_graph(WATER, space.basis)
    batch = graph_batch(space, graph, space.orient(graph), torch.float64)
    with torch.no_grad():
        first = model.stage1(batch)
        h, dh = model(batch), model.stage2(batch, first)
    for g in h.pairs:
        torch.testing.assert_close(h.pairs[g], first.h1.pairs[g] + dh.pairs[g])
    for s in h.onsite:
        torch.testing.assert_close(h.onsite[s], first.h1.onsite[s] + dh.onsite[s])


def test_stage2_is_scaled_to_the_residual_of_stage1(space, network):
    """Targets that are H1 and a little more: corrections become as small as what is left."""
    model = network(torch.float64)
    graph = build_graph(METHANOL, space.basis)
    batch = graph_batch(space, graph, space.orient(graph), torch.float64)
    with torch.no_grad():
        first = model.stage1(batch)
        before = model.stage2(batch, first)
        model.fit_stage2_scale(batch, add(first.h1, before, 1e-3))
        after = model.stage2(batch, first)
    size = [torch.cat([x.flatten() for x in c.pairs.values()]).norm() for c in (before, after)]
    assert size[1] < 1e-2 * size[0]


def test_a_lone_atom_has_only_an_on_site_block(network, predict):
    h = predict(network(torch.float64), Atoms("O"))
    assert h.dense().shape == (10, 10)
    assert np.isfinite(h.dense()).all()


DISTANCES = (0.4, 0.7, 1.5, 3.0, 8.0)
"""Lengths of a bond in angstrom from far too short to far too long."""


def stretched(distance: float) -> Atoms:
    """Water with one bond of this length."""
    atoms = WATER.copy()
    atoms.set_distance(0, 1, distance, fix=0)
    return atoms


def with_large_outputs(model):
    """The network with outputs that would be hundreds of times their usual size."""
    with torch.no_grad():
        for heads in (model.stage1.heads, model.stage2.heads):
            for parameter in heads.parameters():
                parameter.mul_(300)
    return model


def largest_norms(model, space, atoms: Atoms) -> tuple[float, float]:
    """Largest norm of an irrep in the outputs of stage 1, and in the corrections of stage 2."""
    graph = build_graph(atoms, space.basis)
    batch = graph_batch(space, graph, space.orient(graph), next(model.parameters()).dtype)
    with torch.no_grad():
        first = model.stage1(batch)
        out = []
        for c in (first.h1, model.stage2(batch, first)):
            degrees = [2 * l + 1 for l in range(space.l_max + 1)]
            onsite = [part.norm(dim=1) for x in c.onsite.values() for part in x.split(degrees, 1)]
            pairs = [x.norm(dim=1) for x in c.pairs.values()]
            out.append(max(float(x.max()) for x in (*pairs, *onsite) if x.numel()))
    return out[0], out[1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_outputs_are_bounded_wherever_the_atoms_are(network, space, dtype):
    model = with_large_outputs(network(dtype))
    for distance in DISTANCES:
        for size in largest_norms(model, space, stretched(distance)):
            assert 0.5 * OUTPUT_BOUND < size <= OUTPUT_BOUND * (1 + 1e-5)


def test_networks_of_older_models_are_not_bounded(network, space):
    model = with_large_outputs(network(torch.float64))
    unbounded = TwoStage(space, replace(model.settings, bounded=False)).double()
    unbounded.load_state_dict(model.state_dict())
    assert not any(module.bounded for module in unbounded.modules() if isinstance(module, Bounded))
    assert min(largest_norms(unbounded.eval(), space, stretched(3.0))) > 10 * OUTPUT_BOUND


def test_bounds_change_usual_outputs_little(network, space, predict):
    """Outputs of size one change by a few per cent, as those of a network that has been trained with the bounds."""
    model = network(torch.float64)
    unbounded = TwoStage(space, replace(model.settings, bounded=False)).double()
    unbounded.load_state_dict(model.state_dict())
    with torch.no_grad():
        for heads in (model.stage1.heads, unbounded.stage1.heads):
            for parameter in heads.parameters():
                parameter.mul_(0.1)
    a, b = (predict(x.eval(), METHANOL, "stage1").values for x in (model, unbounded))
    assert 0 < np.abs(a - b).max() < 0.2 * np.abs(b).max()


@pytest.mark.parametrize("distance", DISTANCES)
def test_far_from_training_both_stages_keep_their_symmetry(network, predict, e3nn_rotation, distance):
    model, atoms = with_large_outputs(network(torch.float64)), stretched(distance)
    rotation = random_rotation(np.random.default_rng(5))
    h = predict(model, atoms)
    d = e3nn_rotation(atoms, rotation)
    np.testing.assert_allclose(predict(model, turned(atoms, rotation)).dense(), d @ h.dense() @ d.T, atol=1e-9)
    parity = np.concatenate([[(-1.0) ** l] * (2 * l + 1) for z in atoms.numbers for l in h.basis.degrees(int(z))])
    np.testing.assert_allclose(
        predict(model, turned(atoms, -np.eye(3))).dense(), parity[:, None] * h.dense() * parity, atol=1e-9
    )


def test_bounds_are_true_or_false():
    assert NetworkSettings().bounded
    with pytest.raises(ValidationError, match="bounded"):
        NetworkSettings(bounded=1)
