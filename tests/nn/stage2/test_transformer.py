"""Stage 2 is equivariant under O(3) to rounding error, also where directions vanish, and has no jump."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, graphene, molecule

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.nn.stage1.settings import Stage1Settings
from harmose.nn.stage2.frame_map import FrameAveragedMap
from harmose.nn.stage2.settings import Stage2Settings
from harmose.nn.two_stage import NetworkSettings, TwoStage
from harmose.representation.batch import GraphBatch, graph_batch
from harmose.representation.block_irreps import BlockIrreps, to_matrix
from harmose.representation.concatenation import concatenate, concatenated_batch
from harmose.so3.wigner import random_rotation

S, P, D = Shell(1, 0), Shell(2, 1), Shell(3, 2)
BASIS = BasisSet("spd", {1: (S, P), 6: (S, P, D), 8: (S, P, D), 14: (S, P)}, {1: 3.1, 6: 2.2, 8: 3.1, 14: 2.2})
SPACE = BlockIrreps(BASIS, 4)
SETTINGS = Stage2Settings(channels=4, pseudo_channels=4, scalars=8, so2_channels=8, pseudoscalars=4, hidden=32)

ETHANOL, ACETYLENE, BENZENE = molecule("CH3CH2OH"), molecule("C2H2"), molecule("C6H6")
STRUCTURES = {
    "water": molecule("H2O"),
    "ethanol": ETHANOL,
    "CO2, linear": molecule("CO2"),
    "C2H2, linear": ACETYLENE,
    "benzene, planar": BENZENE,
    "flake, planar": Atoms(positions=graphene(vacuum=5.0).repeat((2, 2, 1)).positions, numbers=[6] * 8),
    "graphene": graphene(vacuum=5.0),
    "silicon": bulk("Si"),
    "lone atom": Atoms("O"),
}


def batch_of(atoms: Atoms, dtype: torch.dtype = torch.float64) -> GraphBatch:
    graph = build_graph(atoms, BASIS)
    return graph_batch(SPACE, graph, SPACE.orient(graph), dtype)


def random_network(dtype: torch.dtype = torch.float64, **changes) -> TwoStage:
    """Random weights everywhere, also in the heads of stage 2, calibrated on displaced copies of all structures."""
    torch.manual_seed(3)
    encoder = Stage1Settings(channels=4, pseudo_channels=2, scalars=16, so2_channels=8, pseudoscalars=4, hidden=16)
    network = TwoStage(SPACE, NetworkSettings(encoder, replace(SETTINGS, **changes)))
    displaced = [atoms.copy() for atoms in STRUCTURES.values()]
    for k, atoms in enumerate(displaced):
        atoms.rattle(0.1, seed=k)
    network.calibrate(concatenated_batch(SPACE, concatenate(SPACE, [build_graph(atoms, BASIS) for atoms in displaced])))
    for parameter in network.stage2.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.to(dtype).eval()


def correction(network: TwoStage, atoms: Atoms, stage: str = "stage2") -> BlockMatrix:
    """The normalised coefficients of dH, or of H1 + dH ("full"), read as if they were eV."""
    graph = build_graph(atoms, BASIS)
    oriented = SPACE.orient(graph)
    batch = graph_batch(SPACE, graph, oriented, next(network.parameters()).dtype)
    with torch.no_grad():
        found = network(batch) if stage == "full" else network.stage2(batch, network.stage1(batch))
    return to_matrix(SPACE, found, graph, oriented)


def turned(atoms: Atoms, rotation: np.ndarray) -> Atoms:
    out = atoms.copy()
    out.positions, out.cell = atoms.positions @ rotation.T, atoms.cell.array @ rotation.T
    return out


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).mean() / np.abs(expected).mean())


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["float64", "float32"])
def exact(request) -> tuple[TwoStage, float]:
    """A network of each precision, and its tolerance relative to the size of the correction."""
    return random_network(request.param), 1e-12 if request.param == torch.float64 else 3e-6


@pytest.mark.parametrize("name", STRUCTURES)
def test_rotation(exact, name):
    network, tolerance = exact
    rotation, atoms = random_rotation(np.random.default_rng(5)), STRUCTURES[name]
    for stage in ("stage2", "full"):
        found, h = (correction(network, a, stage) for a in (turned(atoms, rotation), atoms))
        assert np.abs(h.values).mean() > 1e-2
        assert relative_error(found.values, h.rotate(rotation).values) < tolerance


@pytest.mark.parametrize("name", STRUCTURES)
def test_inversion(exact, name):
    network, tolerance = exact
    atoms, mirrored = STRUCTURES[name], STRUCTURES[name].copy()
    mirrored.positions *= -1  # of a lattice, which is its own image
    h, image = correction(network, atoms, "full"), correction(network, mirrored, "full")
    signs = {z: np.concatenate([[(-1.0) ** l] * (2 * l + 1) for l in BASIS.degrees(z)]) for z in BASIS.elements}
    for i, j, a, b, c in [*((i, i, 0, 0, 0) for i in range(len(atoms))), *h.pairs.tolist()]:
        z1, z2 = atoms.numbers[[i, j]]
        expected = signs[z1][:, None] * h.block(i, j, (a, b, c)) * signs[z2]
        assert relative_error(image.block(i, j, (-a, -b, -c)), expected) < 20 * tolerance


@pytest.mark.parametrize("name", ["ethanol", "benzene, planar"])
def test_permutation(exact, name):
    network, tolerance = exact
    atoms = STRUCTURES[name]
    order = np.random.default_rng(1).permutation(len(atoms))
    h, permuted = (correction(network, a, "full") for a in (atoms, atoms[order]))
    place = np.argsort(order)
    keys = place[h.pairs[:, :2]]
    for (i, j), (a, b) in zip(h.pairs[:, :2], keys):
        assert relative_error(permuted.block(a, b), h.block(i, j)) < 20 * tolerance


@pytest.mark.parametrize(
    ("atoms", "moves"),
    [
        pytest.param(ACETYLENE, (0, [1.0, 0, 0]), id="bending a linear molecule"),
        pytest.param(molecule("CO2"), (1, [0.3, 0.4, 0]), id="bending another"),
        pytest.param(BENZENE, (0, [0, 0, 1.0]), id="out of a plane"),
        pytest.param(graphene(vacuum=5.0), (0, [0.1, 0.2, 0.9]), id="an atom of graphene"),
        pytest.param(bulk("Si"), (1, [0.5, 0.3, 0.1]), id="an atom of silicon"),
    ],
)
def test_no_jump_where_directions_vanish(atoms, moves):
    """Slopes of H over steps of 1e-3 to 1e-7 angstrom, away from the symmetric structure, are alike."""
    network, slopes = random_network(), []
    at_rest = correction(network, atoms).values
    for step in (1e-3, 1e-5, 1e-7):
        moved = atoms.copy()
        moved.positions[moves[0]] += step * np.array(moves[1])
        slopes.append(np.abs(correction(network, moved).values - at_rest).max() / step)
    assert slopes[0] > 1e-2
    np.testing.assert_allclose(slopes[1:], slopes[0], rtol=0.1)


def test_several_rounds_have_no_jump_either():
    network, slopes = random_network(attention_rounds=3), []
    at_rest = correction(network, ACETYLENE).values
    for step in (1e-3, 1e-6):
        moved = ACETYLENE.copy()
        moved.positions[0, 0] += step
        slopes.append(np.abs(correction(network, moved).values - at_rest).max() / step)
    assert slopes[0] > 1e-2
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=0.1)


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_new_network_corrects_nothing(rounds):
    network = TwoStage(SPACE, NetworkSettings(stage2=replace(SETTINGS, attention_rounds=rounds)))
    assert network.stage2.is_untrained
    assert not random_network().stage2.is_untrained
    with torch.no_grad():
        batch = batch_of(ETHANOL, torch.float32)
        dh = network.stage2(batch, network.stage1(batch))
    assert all(x.abs().max() == 0 for x in [*dh.pairs.values(), *dh.onsite.values()] if x.numel())


def test_each_round_changes_the_correction_and_is_trained():
    network = random_network(attention_rounds=3).train()
    batch = batch_of(ETHANOL)
    dh = network.stage2(batch, network.stage1(batch))
    torch.stack([x.square().sum() for x in dh.pairs.values()]).sum().backward()
    assert len(network.stage2.rounds) == 3
    for each in network.stage2.rounds[:2]:
        gradients = {name: p.grad for name, p in each.named_parameters()}
        assert all(g is not None and g.abs().max() > 0 for g in gradients.values()), gradients
    last = network.stage2.rounds[2].map.write_even.weight.grad
    assert last is not None
    assert last.abs().max() > 0


def test_the_correction_is_linear_in_a_small_angle():
    """Analytic where a linear molecule is straight: to first order the on-site s-p elements grow with the angle."""
    network = random_network()
    bent = []
    for step in (-1e-4, 0.0, 1e-4):
        atoms = ACETYLENE.copy()
        atoms.positions[2:] += [step, 0, 0]
        bent.append(correction(network, atoms).values)
    first, second = bent[2] - bent[0], bent[2] + bent[0] - 2 * bent[1]
    assert np.abs(first).max() > 1e-6
    assert np.abs(second).max() < 1e-2 * np.abs(first).max()


@pytest.mark.parametrize(
    "changes",
    [
        {"covariant": False},
        {"baseline": False},
        {"attention": False},
        {"directions": 1},
        {"mlp_layers": 1},
        {"attention_rounds": 2},
        {"attention_rounds": 3, "attention": False, "covariant": False},
    ],
    ids=str,
)
def test_switches_keep_the_symmetry(changes):
    network, rotation = random_network(**changes), random_rotation(np.random.default_rng(6))
    h = correction(network, ETHANOL)
    assert np.abs(h.values).mean() > 1e-2
    assert relative_error(correction(network, turned(ETHANOL, rotation)).values, h.rotate(rotation).values) < 1e-12
    assert relative_error(h.values, correction(random_network(), ETHANOL).values) > 0.1


def test_without_covariant_inputs_stage2_reads_invariants_alone():
    network = random_network(covariant=False)
    batch = batch_of(ETHANOL)
    with torch.no_grad():
        h1, edges, *_ = network.stage1(batch)
        flipped = edges._replace(so2=-edges.so2, pseudoscalars=-edges.pseudoscalars)
        one, other = (network.stage2.edge_inputs(e, h1.pairs) for e in (edges, flipped))
    assert one.so2.abs().max() == 0
    assert one.pseudoscalars.abs().max() == 0
    assert one.scalars.abs().max() > 0
    assert other.so2.abs().max() == 0


def test_without_baseline_stage2_does_not_read_h1():
    network, batch = random_network(baseline=False), batch_of(ETHANOL)
    with torch.no_grad():
        first = network.stage1(batch)
        doubled = first._replace(h1=replace(first.h1, pairs={g: 2 * x for g, x in first.h1.pairs.items()}))
        one, other = (network.stage2(batch, x) for x in (first, doubled))
    torch.testing.assert_close(one.pairs, other.pairs, rtol=0, atol=0)


@pytest.mark.parametrize("rounds", [1, 2])
def test_learned_is_equivariant_up_to_the_turn_about_the_edge(rounds):
    """Averaged over more turns, the rotation error falls: the frames leave only the azimuth to learn."""
    network, errors = random_network(symmetry="learned", attention_rounds=rounds), []
    rotation = random_rotation(np.random.default_rng(2))
    for turns in (1, 4, 16):
        for each in network.stage2.rounds:
            assert isinstance(each.map, FrameAveragedMap)
            each.map.turns = turns
        h = correction(network, ETHANOL)
        errors.append(relative_error(correction(network, turned(ETHANOL, rotation)).values, h.rotate(rotation).values))
    assert errors[0] > 10 * errors[2]
    assert errors[1] > errors[2] > 1e-9


def test_learned_without_rotation_uses_the_frames_as_they_are():
    network = random_network(symmetry="learned", rotate=False)
    rotation, batch = random_rotation(np.random.default_rng(2)), batch_of(ETHANOL)
    h = correction(network, ETHANOL)
    assert relative_error(correction(network, turned(ETHANOL, rotation)).values, h.rotate(rotation).values) > 1e-2
    with torch.no_grad():
        first = network.stage1(batch)
        evaluated, trained = network.stage2(batch, first), network.train().stage2(batch, first)
    torch.testing.assert_close(evaluated.pairs, trained.pairs, rtol=0, atol=0)
