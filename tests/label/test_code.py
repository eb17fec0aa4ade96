"""The settings that identify a result of a DFT code."""

from harmose.io.cp2k.input import CP2KSettings
from harmose.label import CODES


def test_settings_of_a_converged_result():
    code, settings = CODES["cp2k"], CP2KSettings(max_cycle=7)
    assert code.identity(settings) == code.identity(CP2KSettings())
    assert "max_cycle" not in code.identity(settings)
    assert code.identity(CP2KSettings(cutoff=61)) != code.identity(settings)
