"""Blocks to coefficients and back, and their behaviour under rotation."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import empty_matrix
from harmose.core.graph import build_graph
from harmose.errors import BasisError
from harmose.io.files import read
from harmose.representation.block_irreps import BlockIrreps, map_coefficients, to_coefficients, to_matrix
from harmose.representation.concatenation import block_irreps
from harmose.so3.wigner import random_rotation
from harmose.spin import Spin

S, P, D = Shell(1, 0), Shell(2, 1), Shell(3, 2)
BASIS = BasisSet("spd", {1: (S, P), 6: (S, P, D), 8: (S, P, D)}, {1: 5.0, 6: 5.0, 8: 5.0})
SPACE = BlockIrreps(BASIS, 4)
SPACES = {spin: SPACE if spin is Spin.NONE else BlockIrreps(BASIS, 5, spin) for spin in Spin}


def random_operator(atoms, seed=0, spin=Spin.NONE):
    """A random Hermitian operator, symmetric under time reversal."""
    graph = build_graph(atoms, BASIS)
    layout = empty_matrix(BASIS, graph.numbers, graph.pairs, spin)
    matrix = np.random.default_rng(seed).normal(size=(spin.n_channels, layout.n_orbitals, layout.n_orbitals))
    matrix = spin.from_channels(matrix)
    _, row, col = layout.indices
    return graph, layout.with_values((matrix + spin.adjoint(matrix))[:, row, col])


def rotated(atoms, rotation):
    turned = atoms.copy()
    turned.positions = turned.positions @ rotation.T
    turned.set_cell(atoms.cell.array @ rotation.T)
    return turned


CRYSTAL = Atoms(
    "COH", [[0.1, 0, 0], [1.4, 0.3, -0.2], [0.2, 1.9, 2.2]], cell=[[4, 0, 0], [0.5, 4.2, 0], [0, 0.1, 4.5]], pbc=True
)


@pytest.mark.parametrize("spin", Spin)
@pytest.mark.parametrize("atoms", [molecule("CH3CH2OH"), CRYSTAL], ids=["molecule", "crystal"])
def test_round_trip(atoms, spin):
    graph, h = random_operator(atoms, spin=spin)
    space = SPACES[spin]
    oriented = space.orient(graph)
    assert oriented.swapped.any()
    again = to_matrix(space, to_coefficients(space, h, oriented), graph, oriented)
    np.testing.assert_allclose(again.values, h.values, atol=1e-12)


def test_pairs_point_to_the_higher_species():
    atoms = molecule("CH3OH")
    for structure in (atoms, atoms[::-1]):
        oriented = SPACE.orient(build_graph(structure, BASIS))
        assert (oriented.species[oriented.first] <= oriented.species[oriented.second]).all()


@pytest.mark.parametrize("spin", Spin)
@pytest.mark.parametrize("atoms", [molecule("CH3OH"), CRYSTAL], ids=["molecule", "crystal"])
def test_scalars_and_norms_do_not_change_under_rotation(atoms, spin):
    graph, h = random_operator(atoms, spin=spin)
    space, rotation = SPACES[spin], random_rotation(np.random.default_rng(1))
    before = to_coefficients(space, h, space.orient(graph))
    after = to_coefficients(space, h.rotate(rotation), space.orient(build_graph(rotated(atoms, rotation), BASIS)))
    for g in space.groups:
        torch.testing.assert_close(after.pairs[g][:, 0], before.pairs[g][:, 0])
        torch.testing.assert_close(after.pairs[g].square().sum((1, 2)), before.pairs[g].square().sum((1, 2)))
    for s in before.onsite:
        torch.testing.assert_close(after.onsite[s][:, 0], before.onsite[s][:, 0])


@pytest.mark.parametrize("spin", Spin)
def test_coefficients_have_the_norm_of_the_blocks(spin):
    graph, h = random_operator(molecule("H2O"), spin=spin)
    c = to_coefficients(SPACES[spin], h, SPACES[spin].orient(graph))
    total = sum(float(x.square().sum()) for x in [*c.pairs.values(), *c.onsite.values()])
    assert total == pytest.approx(float((np.abs(h.values) ** 2).sum()))


@pytest.mark.parametrize("spin", Spin)
def test_the_order_of_atoms_does_not_change_coefficients(spin):
    """A pair of unlike atoms means the same whichever of them comes first."""
    atoms = rotated(molecule("CO"), random_rotation(np.random.default_rng(2)))  # along z the azimuth would be noise
    graph, h = random_operator(atoms, spin=spin)
    block = spin.adjoint(h.block(0, 1)) if spin is not Spin.NONE else h.block(0, 1).T
    order = [h.block(1, 1), h.block(0, 0), block]
    values = np.concatenate([x.reshape(spin.n_components, -1) for x in order], axis=1)
    reverse = build_graph(atoms[::-1], BASIS)
    other = empty_matrix(BASIS, reverse.numbers, reverse.pairs, spin).with_values(values)
    space = SPACES[spin]
    a, b = (to_coefficients(space, x, space.orient(g)) for x, g in ((h, graph), (other, reverse)))
    for g in space.groups:
        torch.testing.assert_close(a.pairs[g], b.pairs[g])


def test_equal_spins_have_no_difference():
    graph, h = random_operator(molecule("CH3OH"))
    both = empty_matrix(BASIS, graph.numbers, graph.pairs, Spin.COLLINEAR).with_values(np.repeat(h.values, 2, axis=0))
    none, collinear = (to_coefficients(SPACES[x.spin], x, SPACES[x.spin].orient(graph)) for x in (h, both))
    for g in SPACE.groups:
        layout = SPACES[Spin.COLLINEAR].pair_layout(g)
        mean, difference = (collinear.pairs[g][:, :, layout.channel == k] for k in (0, 1))
        torch.testing.assert_close(mean[:, :9] / 2**0.5, none.pairs[g])
        assert difference.abs().max() < 1e-14


def test_unknown_element():
    with pytest.raises(BasisError, match="expected one of H, C, O, got N"):
        SPACE.orient(build_graph(molecule("NH3"), BasisSet("x", {**BASIS.shells, 7: (S,)}, {**BASIS.radii, 7: 5.0})))


def test_groups_and_pair_types():
    """H has two shells, C and O three; species are H, C, O."""
    assert SPACE.elements == (1, 6, 8)
    assert SPACE.shell_types == ((0, 1), (0, 1, 2))
    assert SPACE.groups == ((0, 0), (0, 1), (1, 1))
    carbon_oxygen = int(SPACE.pair_type(1, 2))
    assert SPACE.group(1, 2) == (1, 1)
    assert SPACE.pair_name(carbon_oxygen) == "6-8"
    assert [SPACE.is_symmetric(int(SPACE.pair_type(low, high))) for low, high in ((0, 0), (0, 1), (1, 2))] == [
        True, False, False
    ]  # fmt: skip


def test_pairs_and_atoms_are_grouped():
    oriented = SPACE.orient(build_graph(molecule("CH3OH"), BASIS))
    assert sorted(oriented.pair_order) == list(range(15))
    assert sorted(oriented.atom_order) == list(range(6))
    for (a, b), pairs in oriented.pairs.items():
        assert (SPACE.shell_type[oriented.species[oriented.first[pairs]]] == a).all()
        assert (SPACE.shell_type[oriented.species[oriented.second[pairs]]] == b).all()


def test_rotations_are_computed_once_and_freed():
    oriented = SPACE.orient(build_graph(molecule("H2O"), BASIS))
    wigner = oriented.wigner(2)
    assert oriented.wigner(2) is wigner
    oriented.forget_rotations()
    assert oriented.wigner(2) is not wigner
    assert torch.equal(oriented.wigner(2), wigner)


def test_a_function_is_applied_to_all_coefficients():
    graph, h = random_operator(molecule("H2O"))
    c = to_coefficients(SPACE, h, SPACE.orient(graph))
    zero = map_coefficients(lambda a, b: a - b, c, c)
    assert not any(x.any() for part in (zero.pairs, zero.onsite) for x in part.values())


def test_spin_orbit_coupling_of_an_atom_is_a_scalar(shared_data):
    """L . S of platinum in SIESTA's dimer has J = 0: handedness and order of spin and orbitals are the same."""
    sample = read(shared_data / "dft-outputs" / "siesta-Pt2-soc")
    space = block_irreps(sample.basis, Spin.SPINOR)
    layout = space.onsite_layout(0)
    coefficients = to_coefficients(space, sample.hamiltonian, space.orient(build_graph(sample.structure, sample.basis)))
    onsite = coefficients.onsite[0].numpy()
    channels = np.repeat([0, 1], [1, 3])
    n = sample.basis.n_orbitals(78)
    vector = np.abs(layout.table).dot(np.repeat(channels, n * n)).reshape(layout.mask.shape) > 0
    total, scalar = (np.square(onsite[:, rows][:, vector[rows]]).sum() for rows in (slice(None), slice(0, 1)))
    assert total > 100
    assert scalar / total > 0.998
