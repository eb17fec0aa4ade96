"""The pipeline: its steps are those of `Model.predict`, each is timed, and inputs are computed once and eagerly."""

from contextlib import contextmanager

import numpy as np
import pytest
from ase.build import bulk, molecule

import harmose
from harmose.errors import ModelError
from harmose.inference.pipeline import STAGES


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


def test_the_network_is_not_evaluated_for_the_regression(water):
    inputs = water.inputs([molecule("H2O")])
    assert water.outputs(inputs.batch, ("regression",)).stage1 is None


def test_overlap_and_electrons(water):
    atoms = molecule("H2O")
    s = water.overlap(water.predict(atoms), atoms)
    np.testing.assert_allclose(np.diag(s.dense()), 1, atol=1e-10)
    assert water.n_electrons(atoms) == 10
