"""The table of DFT codes and their settings."""

import pytest

from harmose.errors import LabellingError
from harmose.io.cp2k.input import CP2KSettings
from harmose.io.pyscf.pyscf import PySCFSettings
from harmose.label import CODES, code_of, settings_for


def test_settings_choose_the_code():
    assert code_of(PySCFSettings()) is CODES["pyscf"]
    assert code_of(CP2KSettings()) is CODES["cp2k"]
    with pytest.raises(LabellingError, match="expected settings of one of pyscf, cp2k, got str"):
        code_of("pyscf")  # pyright: ignore[reportArgumentType]


def test_settings_for():
    assert settings_for("cp2k", {"kmesh": (3, 3, 1)}) == CP2KSettings(kmesh=(3, 3, 1))
    assert settings_for("pyscf", {}) == PySCFSettings()


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        ("vasp", {}, "code: expected one of pyscf, cp2k, got 'vasp'"),
        ("pyscf", {"kmesh": (3, 3, 1)}, "pyscf has no kmesh: not an option of this code"),
        ("cp2k", {"grid_level": 3}, "cp2k has no grid_level: not an option of this code"),
        ("cp2k", {"functional": "b3lyp"}, "functional: expected one of pbe, "),
    ],
)
def test_errors(code, options, message):
    with pytest.raises(LabellingError, match=message):
        settings_for(code, options)
