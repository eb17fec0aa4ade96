"""H0: computed with the labels' settings, and refused where it belongs to something else."""

import numpy as np
import pytest

from harmose.core.basis import BasisSet
from harmose.errors import ModelError
from harmose.inference.prior import Prior, check_prior
from harmose.io.pyscf.pyscf import PySCFSettings, basis_set
from harmose.io.pyscf.pyscf import prior as pyscf_prior


@pytest.fixture(scope="module")
def settings() -> dict:
    return {"functional": "hf", "basis": "sto-3g", "grid_level": 0, "code": "pyscf", "valence": {"H": 1.0}}


def test_it_is_that_of_pyscf(settings, water_atoms, water_sample):
    like = water_sample(0).hamiltonian
    h0 = Prior("pyscf", settings).compute(water_atoms(0), like)
    expected = pyscf_prior(water_atoms(0), PySCFSettings(functional="hf", basis="sto-3g", grid_level=0), like.basis)
    np.testing.assert_allclose(h0.values, expected.values, rtol=0, atol=1e-9)  # PySCF sums in an order of its own


def test_other_codes_must_give_it(settings, water_atoms, water_sample):
    with pytest.raises(ModelError, match="this model needs the prior H0 of siesta: give it as `prior`"):
        Prior("siesta", settings).compute(water_atoms(0), water_sample(0).hamiltonian)


def test_a_basis_set_with_more_elements_will_do(water_sample):
    h = water_sample(0).hamiltonian
    wide = type(h)(basis_set("sto-3g", [1, 6, 8]), h.numbers, h.pairs, h.values)
    assert check_prior(wide, h).basis == h.basis


def test_other_shells_or_radii_are_refused(water_sample):
    h = water_sample(0).hamiltonian
    other = BasisSet("mine", h.basis.shells, {z: 2 * r for z, r in h.basis.radii.items()})
    with pytest.raises(ModelError, match="expected a prior in basis sto-3g with the model's shells, got mine"):
        check_prior(type(h)(other, h.numbers, h.pairs, h.values), h)


def test_another_structure_is_refused(water_sample):
    h = water_sample(0).hamiltonian
    cut = type(h)(h.basis, h.numbers, h.pairs[:-1], h.values[:, : h.offsets[-2]])
    with pytest.raises(ModelError, match="of the same structure"):
        check_prior(cut, h)
