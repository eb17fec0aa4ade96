"""`Model`: partial sums add up, structures that the card does not cover are refused, and far ones are warned of."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

import harmose
from harmose.errors import GhostLevels, ModelError, OutsideDomain
from harmose.representation.block_irreps import to_matrix
from harmose.so3.wigner import random_rotation


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
    with pytest.raises(ModelError, match=r"stage: expected one of .*regression, stage1, full, got 'all'"):
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
        for stage in water.all_stages:
            water.predict(molecule("H2O"), stage=stage)
        replace(water, network=None).predict(molecule("H2O"))


def test_an_element_that_training_never_had(water):
    with pytest.raises(ModelError, match=r"expected elements of the training set \(H, O\), got C"):
        water.predict(molecule("CH3OH"))


def test_repr_names_the_summands(water):
    assert repr(water).startswith("Model(regression + network; pbe/def2-svp, H, O, spin none, 800 training samples")


def test_stages_that_the_regression_fades_to(faded_model, stretched):
    """Without H0: blocks on atoms are means of the training set, and those of pairs functions of the distance."""
    model, water, far = faded_model(), stretched(0.96), stretched(3.0)
    stages = {stage: h[0] for stage, h in model.predict_stages([water], stages=("prior", "pairs", "full")).items()}
    prior, pairs = stages["prior"], stages["pairs"]
    for stage, h in stages.items():
        np.testing.assert_array_equal(model.predict(water, stage=stage).values, h.values)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not prior.block(i, j).any()
        assert np.abs(pairs.block(i, j)).max() > 0.1
    graph = model.inputs([water]).neighbourhoods
    shifts = model.normalizer.shifts(graph.oriented)
    assert not any(x.any() for x in (*shifts.pairs.values(), *shifts.onsite.values()))
    simple = to_matrix(model.space, model.regression.simple_values(graph), model.graphs([water])[0], graph.oriented)
    np.testing.assert_allclose(pairs.values, simple.values, atol=1e-9)
    for k in range(3):
        np.testing.assert_allclose(prior.block(k, k), pairs.block(k, k), atol=1e-9)
    with pytest.warns(OutsideDomain):
        found = model.predict_stages([far], stages=("pairs", "regression"))
    np.testing.assert_allclose(found["regression"][0].values, found["pairs"][0].values, atol=1e-2)


def test_stages_of_a_model_that_adds_h0(faded_model, half_of_h, stretched):
    model, water = faded_model(needs_prior=True), stretched(0.96)
    h0 = half_of_h(water, model)
    stages = model.predict_stages([water], [h0], stages=("prior", "pairs"))
    np.testing.assert_array_equal(stages["prior"][0].values, h0.values)
    assert np.abs((stages["pairs"][0] - h0).values).max() > 0.1


def test_an_unseen_pair_of_elements_falls_back_to_h0(faded_model, half_of_h):
    """Waters have one oxygen atom each; hydrogen peroxide has two."""
    model, peroxide = faded_model(needs_prior=True), molecule("H2O2")
    h0 = half_of_h(peroxide, model)
    lacks = "1 of 6 pairs of elements that the training set lacks"
    for stage in ("regression", "stage1", "full"):
        with pytest.warns(OutsideDomain, match=lacks):
            h = model.predict(peroxide, h0, stage=stage)
        oxygens = np.flatnonzero(peroxide.numbers == 8)
        np.testing.assert_allclose(h.block(*oxygens), h0.block(*oxygens), atol=1e-9)
        assert np.isfinite(h.values).all()
        assert np.abs((h - h0).values).max() > 0.1
    (scores,) = model._predict([peroxide], [h0], ("full",), None).scores
    assert scores.unknown.sum() == 1
    assert scores.outside
    assert np.isfinite(scores.regression_std).all()


def test_an_unseen_pair_of_elements_is_refused_without_h0(faded_model):
    for partition in ("off", 2):
        with pytest.raises(ModelError, match="no pair of elements 8-8: the model cannot predict one"):
            faded_model().predict(molecule("H2O2"), partition=partition)


def test_scores_say_what_was_not_used(faded_model, stretched):
    model = faded_model()
    near, far = model._predict([stretched(0.96), stretched(2.0)], None, ("full",), None).scores
    assert near.unused == []
    assert not near.outside
    assert far.unused == ["regression not used for 6 of 6 blocks", "network not used for 3 of 3 pairs"]
    with pytest.warns(OutsideDomain, match="regression not used for 6 of 6 blocks; network not used for 3 of 3 pairs"):
        model.predict(stretched(2.0))


def test_scores_of_several_structures_are_those_of_each(faded_model, stretched):
    model, structures = faded_model(), [stretched(1.2), molecule("H2"), stretched(1.05)]
    together = model._predict(structures, None, ("full",), None).scores
    for atoms, scores in zip(structures, together, strict=True):
        (alone,) = model._predict([atoms], None, ("full",), None).scores
        for name in ("ood", "last_layer_std", "regression_std", "regression_weight", "network_weight", "unknown"):
            np.testing.assert_allclose(getattr(scores, name), getattr(alone, name), rtol=1e-4, err_msg=name)


@pytest.mark.filterwarnings("ignore::harmose.errors.OutsideDomain")
@pytest.mark.parametrize("distance", [0.4, 1.2, 3.0, 8.0])
def test_far_predictions_are_finite_and_turn_with_the_molecule(faded_model, stretched, distance):
    model, atoms = faded_model(), stretched(distance)
    rotation = random_rotation(np.random.default_rng(0))
    turned = atoms.copy()
    turned.positions = atoms.positions @ rotation.T
    h, other = model.predict(atoms), model.predict(turned)
    assert np.isfinite(h.values).all()
    np.testing.assert_allclose(other.dense(), h.rotate(rotation).dense(), atol=1e-4)  # float32
    h, other = (model.predict(x, stage="regression") for x in (atoms, turned))
    np.testing.assert_allclose(other.dense(), h.rotate(rotation).dense(), atol=1e-9)


def test_an_uncertainty_warns_of_ghost_levels(water, with_ghost, monkeypatch):
    """At the line of the caller, and states no bounds."""
    complete = type(water).complete

    def spoiled(self, matrices, structures, *parts, **options):
        completed = complete(self, matrices, structures, *parts, **options)
        return [with_ghost(h, self.overlap(h, atoms)) for h, atoms in zip(completed, structures, strict=True)]

    monkeypatch.setattr(type(water), "complete", spoiled)
    with pytest.warns(GhostLevels, match="ghost level at -") as caught:
        found = water.uncertainty(molecule("H2O"))
    assert caught[0].filename == __file__
    assert found.outside
    assert "ghost level at -" in found.reasons[-1]
    assert np.isinf(found.homo.bound)
