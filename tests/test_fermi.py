"""Electrons of each element, told from whole samples."""

from types import SimpleNamespace
from typing import Any

import pytest
from ase import Atoms

from harmose.fermi import valence_of


def labelled(formula: str, n: float | None) -> Any:
    return SimpleNamespace(structure=Atoms(formula), n_electrons=n)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([("C2", 8.0)], {"C": 4.0}),
        ([("MoS2", 26.0), ("Mo2S2", 40.0)], {"Mo": 14.0, "S": 6.0}),
        ([("MoS2", 26.0), ("Mo2S4", 52.0)], None),  # one ratio
        ([("C2", 8.0), ("C2", 7.0)], None),  # a charge
        ([("C2", 8.0), ("C", None)], None),
        ([], None),
    ],
)
def test_valence_electrons_follow_from_compositions(samples, expected):
    elements = {"C2": [6], "MoS2": [42, 16]}[samples[0][0]] if samples else [6]
    assert valence_of((labelled(*sample) for sample in samples), elements) == expected
