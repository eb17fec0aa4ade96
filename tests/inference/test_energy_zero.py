"""Valence electrons of each element from the electrons of whole samples; the Fermi level of a prediction."""

from types import SimpleNamespace
from typing import Any

import pytest
from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.errors import MatrixError
from harmose.inference import energy_zero as fermi
from harmose.inference.energy_zero import own_fermi_level, stated_valence, valence_electrons
from harmose.physics.states import mesh_fermi_level
from harmose.spin import Spin


def labelled(formula: str, n: float | None, **info: float) -> Any:
    return SimpleNamespace(structure=Atoms(formula, info=info), n_electrons=n)


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
    assert valence_electrons((labelled(*sample) for sample in samples), elements) == expected


def test_stated_charges_count():
    samples = [labelled("MoS2", 26.0), labelled("Mo2S2", 39.0, charge=1)]
    assert valence_electrons(samples, [42, 16]) == {"Mo": 14.0, "S": 6.0}
    settings, basis = {"valence": {"Mo": 14.0, "S": 6.0}}, BasisSet("empty", {}, {})
    for sample in samples:
        assert fermi.n_electrons(settings, basis, Spin.NONE, sample.structure) == sample.n_electrons


def test_the_level_of_many_orbitals_is_that_of_all_bands(graphene, monkeypatch):
    """From the states near it, or, where these are not found, from all."""
    sample = graphene("mg_000")
    h, s = sample.hamiltonian, sample.overlap
    expected = mesh_fermi_level(h, s, (1, 1, 1), 72)
    monkeypatch.setattr(fermi, "SPARSE_SOLVER_ORBITALS", 100)
    assert own_fermi_level(h, s, (1, 1, 1), 72) == pytest.approx(expected, abs=1e-8)

    def nothing(*_):
        raise MatrixError("not found")

    monkeypatch.setattr(fermi, "counted_fermi_level", nothing)
    assert own_fermi_level(h, s, (1, 1, 1), 72) == expected


@pytest.mark.parametrize(
    ("provenances", "expected"),
    [
        ([{"valence": {"Mo": 14.0, "S": 6.0}}, {}], {"Mo": 14.0, "S": 6.0}),
        ([{"valence": {"Mo": 14.0}}, {"valence": {"S": 6.0}}], {"Mo": 14.0, "S": 6.0}),
        ([{"valence": {"Mo": 14.0}}], None),
        ([{"valence": {"Mo": 14.0, "S": 6.0}}, {"valence": {"Mo": 6.0, "S": 6.0}}], None),  # two potentials
        ([{"valence": "many"}], None),
        ([], None),
    ],
)
def test_stated_valence_electrons(provenances, expected):
    assert stated_valence(provenances, [42, 16]) == expected
