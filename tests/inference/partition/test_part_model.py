"""A network with several attention rounds in parts: the numbers of the whole, from memory and from files."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

import harmose
from harmose.errors import ModelError
from harmose.inference.model import Model
from harmose.inference.partition.memory_plan import plan
from harmose.inference.partition.part_model import PartModel
from harmose.inference.partition.predict import PartitionedPrediction
from harmose.inference.scores import Scores
from harmose.nn.stage1.settings import Stage1Settings
from harmose.nn.stage2.settings import Stage2Settings
from harmose.nn.two_stage import NetworkSettings, TwoStage

TOLERANCE = 5e-6
"""eV: sums of float32 numbers in another order, in networks with random weights."""


def water(seed: int) -> Atoms:
    """A displaced molecule."""
    atoms = molecule("H2O")
    atoms.rattle(0.1, seed=seed)
    return atoms


def random_model(rounds: int) -> Model:
    """The shipped model of water with a small random network."""
    torch.manual_seed(0)
    model = harmose.load("water-pbe-def2svp")
    widths = {"channels": 4, "pseudo_channels": 2, "scalars": 8, "so2_channels": 4, "pseudoscalars": 2, "hidden": 16}
    settings = NetworkSettings(Stage1Settings(**widths), Stage2Settings(**widths, attention_rounds=rounds))
    network = TwoStage(model.space, settings)
    network.calibrate(model.inputs([water(seed) for seed in range(1, 9)]).batch)
    for parameter in network.stage2.heads.parameters():
        torch.nn.init.normal_(parameter, std=1.0)
    card = replace(model.card, network=settings, energy_zero="labels")
    return replace(model, card=card, network=network.eval().requires_grad_(False), last_layer=None, calibration=None)


@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.filterwarnings("ignore::harmose.errors.OutsideDomain")
def test_parts_give_the_numbers_of_the_whole(rounds):
    model, atoms = random_model(rounds), water(0)
    whole, stage1 = model.predict(atoms, partition="off"), model.predict(atoms, stage="stage1", partition="off")
    assert np.abs(whole.values - stage1.values).max() > 100 * TOLERANCE
    for size in (1, 2):
        assert np.abs(model.predict(atoms, partition=size).values - whole.values).max() < TOLERANCE


@pytest.mark.filterwarnings("ignore::harmose.errors.OutsideDomain")
def test_features_of_two_rounds_pass_through_files(tmp_path):
    model, atoms = random_model(2), water(0)
    whole = model.predict(atoms, partition="off")
    prediction = PartitionedPrediction(model, atoms, pairs_per_part=1)
    prediction.__dict__["plan"] = replace(prediction.plan, maps_features=True, keeps_frames=False)
    found = prediction.run(folder=tmp_path)
    assert np.abs(found[0].values - whole.values).max() < TOLERANCE


def scores_of_the_whole(model: Model, atoms: Atoms, stage: str) -> Scores:
    return model._predict([atoms], None, (stage,), None).scores[0]


@pytest.mark.parametrize("stage", ["regression", "stage1", "full"])
@pytest.mark.parametrize("distance", [0.96, 1.2, 3.0])
@pytest.mark.parametrize("changes", [{}, {"last_layer": None}, {"regression": None}], ids=["all", "no fade", "network"])
@pytest.mark.filterwarnings("ignore::harmose.errors.OutsideDomain")
def test_parts_of_a_model_that_fades_are_the_whole(faded_model, stretched, stage, distance, changes):
    if stage == "regression" and "regression" in changes:
        pytest.skip("no such stage")
    model, atoms = replace(faded_model(), **changes), stretched(distance) + Atoms("H2", [[3, 3, 3], [3, 3, 3.7]])
    whole = model.predict(atoms, stage=stage, partition="off")
    h, scores, features = PartitionedPrediction(model, atoms, stage=stage, pairs_per_part=3).run()
    np.testing.assert_allclose(h.values, whole.values, atol=TOLERANCE)
    expected = scores_of_the_whole(model, atoms, stage)
    names = (
        "ood",
        "contact_excess",
        "last_layer_std",
        "regression_std",
        "regression_weight",
        "network_weight",
        "unknown",
    )
    for name in names:
        np.testing.assert_allclose(getattr(scores, name), getattr(expected, name), rtol=1e-3, atol=1e-9, err_msg=name)
    assert scores.unused == expected.unused
    assert (scores.regression_weight < 1).any() == ("regression" not in changes)
    assert (scores.network_weight < 1).any() == ("last_layer" not in changes and stage != "regression")
    inputs = model.inputs([atoms])
    whole_features = model._error_features(inputs, model.outputs(inputs.batch, (stage,)))[0]
    for name, value in vars(whole_features).items():
        np.testing.assert_allclose(getattr(features, name), value, rtol=1e-3, atol=1e-9, err_msg=name)


@pytest.mark.filterwarnings("ignore::harmose.errors.OutsideDomain")
def test_weights_pass_through_files(faded_model, stretched, tmp_path):
    model, atoms = faded_model(), stretched(1.2)
    prediction = PartitionedPrediction(model, atoms, pairs_per_part=1)
    prediction.__dict__["plan"] = replace(prediction.plan, maps_features=True, keeps_frames=False)
    h, scores, _ = prediction.run(folder=tmp_path)
    np.testing.assert_allclose(h.values, model.predict(atoms).values, atol=TOLERANCE)
    expected = scores_of_the_whole(model, atoms, "full")
    np.testing.assert_allclose(scores.network_weight, expected.network_weight, rtol=1e-3)


@pytest.mark.filterwarnings("ignore::harmose.errors.OutsideDomain")
def test_a_model_without_a_network_in_parts_is_the_whole(faded_model, stretched):
    model, atoms = replace(faded_model(), network=None, last_layer=None), stretched(1.2)
    whole = model.predict(atoms, partition="off")
    np.testing.assert_allclose(model.predict(atoms, partition=1).values, whole.values, atol=1e-12)
    assert np.abs(whole.values - faded_model().predict(atoms).values).max() > 1e-3


@pytest.mark.parametrize("stage", ["prior", "pairs"])
def test_simpler_stages_are_predicted_as_a_whole(faded_model, stretched, stage, monkeypatch):
    """At any size; asked for in parts they are refused."""
    for limit in ("FEW_ATOMS", "MOST_PAIRS_AS_A_WHOLE"):
        monkeypatch.setattr(f"harmose.inference.partition.predict.{limit}", 0)
    model, atoms = faded_model(), stretched(0.96)
    whole = model.predict(atoms, stage=stage, partition="off")
    np.testing.assert_array_equal(model.predict(atoms, stage=stage).values, whole.values)
    with pytest.raises(ModelError, match="expected stage regression, stage1, full"):
        model.predict(atoms, stage=stage, partition=1)


def test_a_plan_counts_the_features_of_both_stages():
    one, two = (random_model(rounds) for rounds in (1, 2))
    graph = one.graphs([water(0)])[0]
    sizes = [plan(PartModel(m, graph, "full"), pairs_per_part=1).edges for m in (one, two)]
    assert sizes[1] == pytest.approx(2 * sizes[0])
