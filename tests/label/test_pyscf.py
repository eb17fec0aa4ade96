"""Labels of molecules with spin from PySCF: spin-orbit splittings, rotated molecules, open shells."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

from harmose.data.checks import check
from harmose.data.store import Store
from harmose.errors import LabellingError, MatrixError
from harmose.io.pyscf.pyscf import PySCFSettings, basis_set, from_blocks
from harmose.label.label import label, read_structures, sample_name
from harmose.label.pyscf import calculate, check_moments
from harmose.physics.eigen import eigenvalues
from harmose.representation.block_irreps import to_coefficients, to_matrix
from harmose.representation.concatenation import TargetSettings, block_irreps, compute_targets
from harmose.so3.wigner import random_rotation
from harmose.spin import Spin, magnetic_part
from harmose.units import HARTREE

HEAVY = PySCFSettings("hf", "crenbl", grid_level=0, convergence_gradient=1e-8, spin=Spin.SPINOR)
OPEN = PySCFSettings("pbe", "sto-3g", grid_level=0, spin=Spin.COLLINEAR)
H2TE = Atoms("TeH2", [[0.1, 0, 0], [0.3, 1.1, 1.3], [0, -1.2, 1.2]])


def labelled(atoms: Atoms, settings: PySCFSettings):
    basis = basis_set(settings.basis, set(atoms.numbers.tolist()), settings.min_radius)
    return calculate(atoms, settings, basis, atoms.get_chemical_formula())


def levels(sample) -> np.ndarray:
    assert sample.orbital_energies is not None
    return sample.orbital_energies


@pytest.fixture(scope="module")
def h2te():
    return labelled(H2TE, HEAVY)


def test_splitting_of_xenon():
    """5p levels of four-component Dirac-Fock: -0.4926 and -0.4398 Hartree (Desclaux, At. Data Nucl. Data Tables 12, 311)."""
    xenon = levels(labelled(Atoms("Xe"), HEAVY))[12:18] / HARTREE
    np.testing.assert_allclose(xenon, [-0.4926] * 2 + [-0.4398] * 4, atol=2e-3)


def test_spinor_energies_are_kramers_pairs(h2te):
    assert h2te.hamiltonian.spin is h2te.spin is h2te.prior.spin is Spin.SPINOR
    assert h2te.overlap.spin is Spin.NONE
    pairs = levels(h2te) / HARTREE
    np.testing.assert_allclose(pairs[::2], pairs[1::2], atol=1e-8)
    np.testing.assert_allclose(eigenvalues(h2te.hamiltonian, h2te.overlap)[0], h2te.orbital_energies, atol=1e-9)
    assert np.abs(magnetic_part(h2te.hamiltonian.values)).max() < 1e-6
    assert from_blocks(h2te.hamiltonian).shape == (80, 80)


def test_check_of_spinors(h2te, tmp_path):
    wrong = replace(h2te, name="wrong", orbital_energies=h2te.orbital_energies + 0.1)
    with Store.create(tmp_path / "store", h2te.basis, Spin.SPINOR) as store:
        store.append(h2te)
        store.append(wrong)
        problems = check(store)
    assert {problem.sample for problem in problems} == {"wrong"}
    assert any("the orbital energies of (H, S) differ from the stored ones by 0.1 eV" in p.text for p in problems)


def test_rotation_of_a_spinor_molecule(h2te):
    rotation = random_rotation(np.random.default_rng(7))
    turned = Atoms(H2TE.numbers, H2TE.positions @ rotation.T)
    h = labelled(turned, HEAVY).hamiltonian
    np.testing.assert_allclose(h.values, h2te.hamiltonian.rotate(rotation).values, atol=2e-6)
    # Space alone would leave errors of the size of the coupling.
    assert np.abs(h.values - h2te.hamiltonian.values).max() > 1


def test_channels_of_a_spinor_sample(h2te):
    space = block_irreps(h2te.basis, Spin.SPINOR)
    measured = compute_targets(space, [h2te], TargetSettings())
    again = to_matrix(space, measured.coefficients, measured.concatenated.graph, measured.concatenated.oriented)
    np.testing.assert_allclose(again.values, h2te.hamiltonian.values, atol=1e-6)
    exact = again.with_values(again.values)
    twice = to_coefficients(space, exact, measured.concatenated.oriented)
    np.testing.assert_allclose(
        to_matrix(space, twice, measured.concatenated.graph, measured.concatenated.oriented).values,
        exact.values,
        atol=1e-12,
    )


def test_error_names_magnetic_sample(h2te):
    field = h2te.hamiltonian.values.copy()
    where = h2te.hamiltonian.is_onsite & (np.diff(h2te.hamiltonian.indices[1:], axis=0)[0] == 0)
    field[0, where] += 0.01  # a magnetic field along z on the spins alone
    field[3, where] -= 0.01
    magnetic = replace(h2te, hamiltonian=h2te.hamiltonian.with_values(field))
    with pytest.raises(
        MatrixError, match=r"sample H2Te: expected H symmetric under time reversal.* got a part of 0.014 eV"
    ):
        compute_targets(block_irreps(h2te.basis, Spin.SPINOR), [magnetic], TargetSettings())


def test_error_names_another_spin(h2te):
    with pytest.raises(MatrixError, match="sample H2Te: expected spin none, got spinor"):
        compute_targets(block_irreps(h2te.basis), [h2te], TargetSettings())


def test_open_shell():
    oxygen = labelled(Atoms("O2", [[0, 0, 0], [0, 0, 1.2]], info={"spin": 2}), OPEN)
    assert oxygen.hamiltonian.values.dtype == np.float64
    assert levels(oxygen).shape == (2, 10)
    up, down = levels(oxygen)
    assert up[8] < down[7]  # nine up electrons and seven down
    assert down[7] > up[7]
    np.testing.assert_allclose(eigenvalues(oxygen.hamiltonian, oxygen.overlap)[:, 0], levels(oxygen), atol=1e-9)


def test_the_scf_starts_from_initial_moments():
    """Hydrogen atoms far apart: the singlet without symmetry of up and down is 1.7 eV lower than the closed shell."""
    pair = Atoms("H2", [[0, 0, 0], [0, 0, 2.5]])
    closed = labelled(pair, OPEN)
    pair.set_initial_magnetic_moments([1, -1])
    opposite = labelled(pair, OPEN)
    assert opposite.energy < closed.energy - 1
    up, down = (opposite.hamiltonian.dense()[s].diagonal() for s in (0, 1))
    assert up[0] < down[0] - 1
    assert down[1] < up[1] - 1
    np.testing.assert_allclose(closed.hamiltonian.values[0], closed.hamiltonian.values[1], atol=1e-6)
    assert opposite.structure.info == {"spin": 0}
    assert opposite.structure.get_initial_magnetic_moments().tolist() == [1, -1]
    reverse = pair.copy()
    reverse.set_initial_magnetic_moments([-1, 1])
    exchanged = labelled(reverse, OPEN).hamiltonian.values[::-1]
    np.testing.assert_allclose(exchanged, opposite.hamiltonian.values, atol=1e-5)
    for atoms in (pair, reverse):
        atoms.info["spin"] = 0
    assert sample_name(pair, OPEN) != sample_name(reverse, OPEN)


def test_a_moment_that_the_scf_turns():
    atoms = Atoms("HLi", [[0, 0, 0], [0, 0, 3.5]])
    check_moments(atoms, np.array([0.9, -0.9]))  # no initial moments
    atoms.set_initial_magnetic_moments([1.0, -1.0])
    for final in ([0.9, -0.8], [0.0, 0.0], [0.5, 0.01]):
        check_moments(atoms, np.array(final))
    with pytest.raises(
        LabellingError, match=r"HLi: the SCF turned the initial moment -1 of atom 1 into 0.80; start from"
    ):
        check_moments(atoms, np.array([0.9, 0.8]))


def test_labels_state_charge_and_unpaired_electrons(tmp_path):
    ion = Atoms("HeH", [[0, 0, 0], [0, 0, 0.8]], charges=[0.5, 0.5])
    assert labelled(ion, OPEN).structure.info == {"charge": 1, "spin": 0}
    assert labelled(ion, replace(OPEN, spin=Spin.NONE)).structure.info == {"charge": 1}
    assert sample_name(ion, OPEN) != sample_name(Atoms("HeH", ion.positions), OPEN)
    assert labelled(Atoms("H"), OPEN).structure.info == {"spin": 1}


def test_spin_of_a_file_reaches_the_label(tmp_path):
    write(tmp_path / "oxygen.xyz", Atoms("O", info={"spin": 2}), format="extxyz")
    label(read_structures(tmp_path / "oxygen.xyz"), tmp_path / "store", OPEN, workers=1)
    with Store.open(tmp_path / "store") as store:
        assert [sample.structure.info for sample in store] == [{"spin": 2}]


def test_collinear_closed_shell():
    both, one = (labelled(molecule("H2O"), replace(OPEN, spin=spin)) for spin in (Spin.COLLINEAR, Spin.NONE))
    np.testing.assert_allclose(both.hamiltonian.values, np.repeat(one.hamiltonian.values, 2, axis=0), atol=1e-4)


@pytest.mark.parametrize(
    ("atoms", "settings", "text"),
    [
        (molecule("H2O"), replace(HEAVY, basis="sto-3g"), "basis sto-3g has no spin-orbit potential"),
        (Atoms("I"), HEAVY, "I: time-reversal symmetric Kohn-Sham wants an even number of electrons, got 53"),
        (Atoms("O", info={"spin": 1}), OPEN, "O: 8 electrons cannot have 1 of them unpaired"),
        (Atoms("O", info={"spin": 0.5}), OPEN, "O: expected a whole number as spin, got 0.5"),
        (
            Atoms("O", info={"spin": 2}),
            replace(OPEN, spin=Spin.NONE),
            "O: expected 0 unpaired electrons for labels of spin",
        ),
        (Atoms("O", info={"spin": 1}), replace(OPEN, spin=Spin.NONE), "O: 8 electrons cannot have 1 of them unpaired"),
    ],
)
def test_errors(atoms, settings, text):
    with pytest.raises(LabellingError, match=text):
        labelled(atoms, settings)


def test_unknown_spin_kind_raises():
    with pytest.raises(LabellingError, match="spin: expected one of none, collinear, spinor, got 'up'"):
        PySCFSettings(spin="up")  # pyright: ignore[reportArgumentType]


def test_store_of_another_spin_kind_raises(tmp_path):
    hydrogen = Atoms("H2", [[0, 0, 0], [0, 0, 0.75]])
    label([hydrogen], tmp_path / "store", OPEN, workers=1)
    with Store.open(tmp_path / "store") as store:
        assert store.spin is Spin.COLLINEAR
        assert store.metadata["spin"] == "collinear"
    with pytest.raises(LabellingError, match="expected a store of spin none, got one of collinear"):
        label([hydrogen], tmp_path / "store", replace(OPEN, spin=Spin.NONE), workers=1)


def test_spin_none_is_not_part_of_names_and_settings():
    settings = PySCFSettings("pbe", "sto-3g")
    assert "spin" not in settings.to_dict()
    triplet, singlet = (Atoms("O2", [[0, 0, 0], [0, 0, 1.2]], info={"spin": n}) for n in (2, 0))
    assert sample_name(triplet, settings) == sample_name(singlet, settings)
    assert sample_name(triplet, OPEN) != sample_name(singlet, OPEN)
