"""Cards and weights of older versions: those that were shipped, and names that are gone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harmose.core.basis import BasisSet, Shell
from harmose.inference.card import VERSION, Card
from harmose.inference.checkpoint import load, save
from harmose.inference.upgrades import card_from_1, present_weights
from harmose.nn.two_stage import NetworkSettings
from harmose.representation.concatenation import block_irreps
from harmose.spin import Spin

CARDS = sorted(Path(__file__).with_name("cards").glob("*.json"))
OLD_WORDS = ("gauge", "shrinkage", "refiner", "encoder", "doublets", "unnatural", "highest_level", "closed-form")


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_shipped_cards_of_version_2(path):
    old = json.loads(path.read_text(encoding="utf-8"))
    assert old["version"] == 2
    card = Card.from_json(path.read_text(encoding="utf-8"))
    zeros = {"none": "labels", "fermi": "fermi_of_labels", "solved": "fermi_of_prediction"}
    assert card.energy_zero == zeros[old.get("gauge", "none")]
    assert card.overlap_filter == old.get("shrinkage", 0.0)
    assert card.network.stage1.so2_channels == old["model"]["encoder"]["doublets"]
    assert card.network.stage1.layers == old["model"]["encoder"]["blocks"]
    assert card.network.stage2.mlp_layers == old["model"]["refiner"]["layers"]
    assert card.network.stage2.attention_rounds == 1
    assert card.metrics == old["metrics"]
    assert (card.charges, card.unpaired) == ((0,), (0,))
    assert card.calibration["highest_confidence"] == old["calibration"]["highest_level"]
    again = json.loads(card.to_json())
    assert again["version"] == VERSION
    text = json.dumps({k: v for k, v in again.items() if k != "conventions"})
    assert not [word for word in OLD_WORDS if word in text]


@pytest.mark.parametrize(
    ("spin", "code", "unpaired"),
    [
        ("none", "cp2k", (0,)),
        ("none", None, (0,)),
        ("collinear", "pyscf", None),
        ("spinor", "pyscf", (0,)),
        ("spinor", "siesta", None),
    ],
)
def test_version_3_did_not_say_charges_and_unpaired_electrons(spin, code, unpaired):
    basis = BasisSet("s", {1: (Shell(1, 0),)}, {1: 3.0})
    space = block_irreps(basis, Spin(spin))
    content = json.loads(Card(basis, Spin(spin), None, space.l_max, settings={"code": code}).to_json())
    old = {key: value for key, value in content.items() if key not in ("charges", "unpaired")}
    card = Card.from_json(json.dumps(old | {"version": 3}))
    assert (card.charges, card.unpaired) == ((0,), unpaired)


def test_version_1_had_learned_symmetry():
    card = {"model": {"encoder": {}, "refiner": {"heads": 2}}}
    assert card_from_1(card)["model"]["refiner"]["symmetry"] == "learned"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("network.encoder.embed.weight", "network.stage1.encoder.embed.weight"),
        ("network.refiner.messages.axial.weight", "network.stage2.rounds.0.messages.proper.weight"),
        ("network.heads.pairs.0.doublets", "network.stage1.heads.pairs.0.so2"),
        ("baseline.pair.0.scale", "normalizer.pair_scale.0"),
        ("baseline.onsite.1.scale", "normalizer.onsite_scale.1"),
        ("baseline.onsite.1.domain.whiten", "domain.1.whiten"),
        ("baseline.onsite.1.linear.0_1", "regression.onsite.1.linear.0_1"),
        ("calibration.levels", "calibration.confidences"),
        ("calibration.edges.3", "last_layer.edges.3"),
        ("calibration.atoms.0", "last_layer.atoms.0"),
    ],
)
def test_names_of_weights(old, new):
    value = torch.ones(1)
    assert present_weights({old: value}, 2) == {new: value}
    assert present_weights({old: value}, VERSION) == {old: value}


def test_version_3_had_the_last_layer_in_its_calibration():
    names = ("calibration.edges.3", "calibration.atoms.0", "calibration.powers", "regression.pair.1.linear.0")
    found = present_weights({name: torch.ones(1) for name in names}, 3)
    assert set(found) == {"last_layer.edges.3", "last_layer.atoms.0", *names[2:]}


def test_networks_of_version_3_were_not_bounded():
    basis = BasisSet("s", {1: (Shell(1, 0),)}, {1: 3.0})
    for network in (NetworkSettings(), None):
        card = Card(basis, Spin.NONE, network, block_irreps(basis, Spin.NONE).l_max)
        content = json.loads(card.to_json())
        if network is not None:
            assert content["network"].pop("bounded")
        old = Card.from_json(json.dumps(content | {"version": 3}))
        assert old.network == (None if network is None else replace(network, bounded=False))


def test_a_model_of_version_2_predicts_the_same(water_atoms):
    """Numbers that version 2 itself predicted and stated, for three trained phases on six waters."""
    folder = Path(__file__).with_name("models") / "version-2"
    model, atoms = load(folder), water_atoms(20)
    assert model.card.regression == "kernel"
    assert not model.card.network.bounded
    assert model.regression.pair_fades == model.regression.onsite_fades == {}
    np.testing.assert_array_equal(model.last_layer.half, [np.inf, np.inf])
    with np.load(folder / "expected.npz") as expected:
        for stage in ("stage1", "full"):
            h = model.predict(atoms, stage=stage)
            np.testing.assert_allclose(h.values, expected[stage], rtol=0, atol=1e-5)  # float32 networks
        np.testing.assert_allclose(model.uncertainty(atoms).blocks, expected["bounds"], rtol=1e-4)


def test_a_model_of_version_2_is_saved_as_the_present_one(tmp_path, water_atoms):
    model = load(Path(__file__).with_name("models") / "version-2")
    save(model, tmp_path)
    assert json.loads((tmp_path / "card.json").read_text())["version"] == VERSION
    np.testing.assert_array_equal(load(tmp_path).predict(water_atoms(1)).values, model.predict(water_atoms(1)).values)
