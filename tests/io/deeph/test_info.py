"""Values of info.json are checked when they are read."""

import pytest

from harmose.errors import FormatError
from harmose.io.deeph.info import Info, checked_degrees
from harmose.spin import Spin


@pytest.fixture
def info(tmp_path):
    def make(text: str) -> Info:
        (tmp_path / "info.json").write_text(text)
        return Info(tmp_path / "info.json")

    return make


def test_values(info):
    values = info('{"fermi": -1.5, "electrons": 4, "empty": null, "yes": true}')
    assert values.number("fermi") == -1.5
    assert values.number("electrons") == 4.0
    assert values.number("empty") is None
    assert values.number("missing") is None
    assert values.flag("yes")
    assert not values.flag("missing")
    assert values.get("missing", 3) == 3


@pytest.mark.parametrize("value", ["true", '"x"', "NaN", "[1]"])
def test_bad_number(info, value):
    with pytest.raises(FormatError, match=r"info\.json: x: expected a number or null, got"):
        info(f'{{"x": {value}}}').number("x")


@pytest.mark.parametrize("value", ["1", '"true"', "null"])
def test_bad_flag(info, value):
    with pytest.raises(FormatError, match=r"info\.json: x: expected true or false, got"):
        info(f'{{"x": {value}}}').flag("x")


def test_fermi_level_and_spin(info):
    assert info('{"e": -1.5}').fermi_level("e") == -1.5
    assert info('{"e": 0.0}').fermi_level("e") is None
    assert info('{"e": 0, "harmose_spin": "spinor"}').fermi_level("e") == 0
    assert info("{}").spin() is None
    assert info('{"harmose_spin": "spinor"}').spin() is Spin.SPINOR
    with pytest.raises(FormatError, match=r"harmose_spin: expected one of none, collinear, spinor, got 'up'"):
        info('{"harmose_spin": "up"}').spin()


def test_bad_files(info, tmp_path):
    with pytest.raises(FormatError, match="no such file"):
        Info(tmp_path / "none.json")
    with pytest.raises(FormatError, match="expected a JSON object, got list"):
        info("[]")
    for text in ("", "{", "[" * 100_000):
        with pytest.raises(FormatError, match="expected JSON, got something else"):
            info(text)


def test_degrees():
    assert checked_degrees([0, 1, 6], "x") == (0, 1, 6)
    for bad in (None, [], "01", 3):
        with pytest.raises(FormatError, match="x: expected the list of l of an element's shells"):
            checked_degrees(bad, "x")
    for bad in ([7], [-1], [1.0], [True], ["s"]):
        with pytest.raises(FormatError, match="x: expected l = 0 to 6 for each shell"):
            checked_degrees(bad, "x")
