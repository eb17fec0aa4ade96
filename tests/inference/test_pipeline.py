"""The pipeline: its steps are those of `Model.predict`, each is timed, and inputs are computed once and eagerly."""

import copy
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

import harmose
from harmose.errors import ModelError
from harmose.inference.pipeline import STAGES
from harmose.uncertainty.llpr import LastLayer


@pytest.fixture(scope="module")
def water():
    return harmose.load("water-pbe-def2svp")


def test_the_steps_are_those_of_predict(water):
    names, atoms = [], molecule("H2O")

    @contextmanager
    def watch(name):
        names.append(name)
        yield

    inputs = water.inputs([atoms], watch=watch)
    outputs = water.outputs(inputs.batch, STAGES, watch)
    matrices = water.evaluate(inputs, outputs, watch)
    assert outputs.stages["regression"] is None
    for stage, (matrix,) in matrices.items():
        (h,) = water.complete([matrix], [atoms], inputs.priors, inputs.overlaps)
        np.testing.assert_array_equal(h.values, water.predict(atoms, stage=stage).values)
    assert names == ["graph", "prior", "overlap", "frames", "regression", "stage1", "stage2", "regression", "blocks"]


def test_inputs_hold_what_the_model_reads(water):
    inputs = water.inputs([molecule("H2O"), molecule("H2")])
    assert [g.n_atoms for g in inputs.graphs] == [3, 2]
    assert inputs.batch.n_atoms == 5
    assert inputs.priors == [None, None]
    assert inputs.overlaps is None
    assert water.inputs([molecule("H2O")], energy_zero="fermi_of_prediction").overlaps is not None


def test_inputs_outside_the_card_are_refused(water):
    with pytest.raises(ModelError, match="got C"):
        water.inputs([molecule("CH4")])
    with pytest.raises(ModelError, match="expected a molecule"):
        water.inputs([bulk("O", "sc", a=4.0)])


def test_the_network_is_not_evaluated_for_the_regression(water, monkeypatch):
    inputs = water.inputs([molecule("H2O")])
    monkeypatch.setattr(water.network.stage1, "forward", None)
    outputs = water.outputs(inputs.batch, ("prior", "pairs", "regression"))
    assert outputs.stages == {"prior": None, "pairs": None, "regression": None}
    assert [x.shape for x in outputs.last_layer_std] == [(3,), (3,)]
    assert all((x == 1).all() for x in (*outputs.last_layer_std, *outputs.weights))


def raw_outputs(model, batch):
    """Outputs of both stages without any weights."""
    with torch.inference_mode():
        first = model.network.stage1(batch)
        return first.h1, model.network.stage2(batch, first)


def test_outputs_of_both_stages_are_weighted(faded_model, stretched):
    model = faded_model()
    inputs = model.inputs([stretched(1.1), stretched(1.5)])
    outputs, (h1, dh) = model.outputs(inputs.batch, ("stage1", "full")), raw_outputs(model, inputs.batch)
    of_atoms, of_pairs = ([torch.as_tensor(w).float()[:, None, None] for w in x] for x in outputs.weights)
    assert all(0 < w.min() < w.max() < 1 for w in (*of_atoms, *of_pairs))
    for k, group in enumerate(h1.pairs):
        part = inputs.batch.pair_slice(k)
        one = of_pairs[0][part] * h1.pairs[group]
        torch.testing.assert_close(outputs.stages["stage1"].pairs[group], one)
        torch.testing.assert_close(outputs.stages["full"].pairs[group], one + of_pairs[1][part] * dh.pairs[group])
    for s in h1.onsite:
        part = inputs.batch.atom_slice(s)
        one = of_atoms[0][part] * h1.onsite[s]
        torch.testing.assert_close(outputs.stages["stage1"].onsite[s], one)
        torch.testing.assert_close(outputs.stages["full"].onsite[s], one + of_atoms[1][part] * dh.onsite[s])


def test_weights_follow_the_last_layer(faded_model, stretched):
    model = faded_model()
    inputs = model.inputs([stretched(1.2)])
    outputs = model.outputs(inputs.batch, ("stage1",))
    for found, std in zip(outputs.last_layer_std, model.last_layer.std(model.network, inputs.batch), strict=True):
        np.testing.assert_allclose(found, std, rtol=1e-5)
    for weights, std in zip(outputs.weights, outputs.last_layer_std, strict=True):
        np.testing.assert_allclose(weights, 1 / (1 + (std / model.last_layer.half[:, None]) ** 2))


def test_without_a_last_layer_nothing_is_weighted(faded_model, stretched):
    model = replace(faded_model(), last_layer=None)
    inputs = model.inputs([stretched(1.5)])
    outputs, (h1, _) = model.outputs(inputs.batch, ("stage1",)), raw_outputs(model, inputs.batch)
    for group, x in h1.pairs.items():
        torch.testing.assert_close(outputs.stages["stage1"].pairs[group], x, rtol=0, atol=0)
    never = replace(model, last_layer=LastLayer(faded_model().last_layer.edges, faded_model().last_layer.atoms))
    for group, x in never.outputs(inputs.batch, ("stage1",)).stages["stage1"].pairs.items():
        torch.testing.assert_close(x, h1.pairs[group], rtol=0, atol=0)


def test_stages_of_models(faded_model, water):
    model = faded_model()
    assert model.stages == ("regression", "stage1", "full")
    assert model.all_stages == ("prior", "pairs", "regression", "stage1", "full")
    assert replace(model, regression=None).all_stages == ("stage1", "full")
    distances_alone = replace(model.regression, distances={})  # as of the kind "pairs", and in older models
    assert replace(model, regression=distances_alone).all_stages == STAGES


def test_overlap_and_electrons(water):
    atoms = molecule("H2O")
    s = water.overlap(water.predict(atoms), atoms)
    np.testing.assert_allclose(np.diag(s.dense()), 1, atol=1e-10)
    assert water.n_electrons(atoms) == 10


def test_a_stage_2_that_was_not_trained_is_not_evaluated(water, monkeypatch):
    network = copy.deepcopy(water.network)
    with torch.no_grad():
        for parameter in network.stage2.heads.parameters():
            parameter.zero_()
    monkeypatch.setattr(type(network.stage2), "forward", None)
    stages = replace(water, network=network).predict_stages([molecule("H2O")], stages=("stage1", "full"))
    np.testing.assert_array_equal(stages["full"][0].values, stages["stage1"][0].values)
