"""`Model`: partial sums add up, structures that the card does not cover are refused, and far ones are warned of."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

import harmose
from harmose.errors import ModelError, OutsideDomain


@pytest.fixture(scope="module")
def water():
    return harmose.load("water-pbe-def2svp")


def test_stages_are_partial_sums(water):
    atoms = molecule("H2O")
    stages = {stage: h[0] for stage, h in water.predict_stages([atoms]).items()}
    assert list(stages) == ["regression", "stage1", "full"]
    for stage, h in stages.items():
        np.testing.assert_array_equal(h.values, water.predict(atoms, stage=stage).values)
    alone = replace(water, network=None)
    np.testing.assert_allclose(alone.predict(atoms).values, stages["regression"].values, atol=1e-12)


def test_several_structures_are_predicted_as_each_alone(water):
    one, other = molecule("H2O"), molecule("H2O")
    other.positions[1] += 0.03
    both = water.predict_many([one, other])
    for h, atoms in zip(both, (one, other), strict=True):
        np.testing.assert_allclose(h.values, water.predict(atoms).values, atol=1e-5)
    assert water.predict_many([]) == []


def test_an_unknown_stage_is_refused(water):
    with pytest.raises(ModelError, match="stage: expected one of regression, stage1, full, got 'all'"):
        water.predict(molecule("H2O"), stage="all")
    with pytest.raises(ModelError, match="has no regression"):
        replace(water, regression=None).predict_stages([molecule("H2O")], stages=["regression"])


def test_energy_zeros(water):
    atoms = molecule("H2O")
    own = water.predict(atoms, energy_zero="fermi_of_prediction")
    difference, s = (water.predict(atoms) - own).values, harmose.overlap(atoms, water.space.basis).values
    fermi_level = float((difference * s).sum() / (s * s).sum())
    np.testing.assert_allclose(difference, fermi_level * s, atol=1e-9)
    energies = harmose.eigenvalues(own, harmose.overlap(atoms, own.basis))[0]
    assert energies[4] < 0 < energies[5]
    with pytest.raises(ModelError, match="energy_zero: expected one of labels"):
        water.predict(atoms, energy_zero="vacuum")
    with pytest.raises(ModelError, match="cannot give fermi_of_labels"):
        water.predict(atoms, energy_zero="fermi_of_labels")


def test_far_structures_are_warned_of_in_one_line_at_the_caller(water):
    far = molecule("H2O")
    far.positions[1] *= 2.0
    for call, argument in (
        (water.predict, far),
        (water.predict_many, [far]),
        (water.uncertainty, far),
        (water.uncertainty_many, [far]),
    ):
        with pytest.warns(OutsideDomain, match=r"of 3 atoms \(largest score .* limit 2\)") as caught:
            call(argument)
        assert [w.filename for w in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        water.predict(molecule("H2O"))


def test_an_element_that_training_never_had(water):
    with pytest.raises(ModelError, match=r"expected elements of the training set \(H, O\), got C"):
        water.predict(molecule("CH3OH"))


def test_repr_names_the_summands(water):
    assert repr(water).startswith("Model(regression + network; pbe/def2-svp, H, O, spin none, 500 training samples")
