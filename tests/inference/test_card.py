"""Cards: what is written is read, and entries without meaning are refused in one line."""

import json
from dataclasses import replace

import pytest

from harmose.core.basis import BasisSet, Shell
from harmose.errors import FormatError
from harmose.inference.card import VERSION, Card
from harmose.nn.stage1.inputs import InputSettings
from harmose.nn.two_stage import NetworkSettings
from harmose.spin import Spin

BASIS = BasisSet("sp", {1: (Shell(1, 0),), 6: (Shell(2, 0), Shell(2, 1))}, {1: 3.0, 6: 4.0})


@pytest.fixture
def card() -> Card:
    inputs = InputSettings(overlap=True)
    settings = {"code": "cp2k", "functional": "pbe"}
    return Card(BASIS, Spin.NONE, NetworkSettings(), 2, inputs=inputs, energy_zero="fermi_of_labels", settings=settings)


def test_round_trip(card):
    assert Card.from_json(card.to_json()) == card
    ions = replace(card, charges=(-1, 0, 0.5), unpaired=(0, 2))
    assert Card.from_json(ions.to_json()) == ions
    unknown = replace(card, unpaired=None)
    assert Card.from_json(unknown.to_json()) == unknown


def test_a_regression_alone_has_no_network(card):
    alone = Card(BASIS, Spin.NONE, None, 2, regression="pairs")
    again = Card.from_json(alone.to_json())
    assert again.network is None
    assert again.regression == "pairs"


def test_what_is_read_off_a_card(card):
    assert card.elements == (1, 6)
    assert card.symbols == ("H", "C")
    assert (card.code, card.functional) == ("cp2k", "pbe")
    assert card.target.fermi
    assert not card.target.prior
    assert card.target.operators == ("overlap",)
    assert json.loads(card.to_json())["version"] == VERSION


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("energy_zero", "vacuum", "energy_zero 'vacuum'"),
        ("regression", "forest", "regression 'forest'"),
        ("overlap_filter", -1.0, "overlap_filter -1.0"),
        ("spin", "up", "up"),
        ("charges", [], "charges []"),
        ("charges", None, "charges None"),
        ("charges", ["0"], "charges ['0']"),
        ("charges", [float("nan")], "charges [nan]"),
        ("unpaired", 0, "unpaired 0"),
        ("unpaired", [True], "unpaired [True]"),
        ("l_max", 7, "l_max 7 does not belong to the basis set"),
        ("network", {"stage1": {"channels": 0}}, "stage1.channels"),
        ("network", {"stage3": {}}, "stage3"),
        ("inputs", {"prior": 1}, "prior"),
    ],
)
def test_an_entry_without_meaning_is_refused(card, key, value, words):
    content = json.loads(card.to_json()) | {key: value}
    with pytest.raises(FormatError, match="the model card is corrupt") as error:
        Card.from_json(json.dumps(content))
    assert words in str(error.value)
    assert "\n" not in str(error.value)
