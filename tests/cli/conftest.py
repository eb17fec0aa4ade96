"""Fixtures of the command tests: a wide terminal, and models with known errors."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from harmose.core.basis import BasisSet
from harmose.inference import checkpoint
from harmose.io import pyscf
from harmose.representation.concatenation import TargetSettings
from harmose.spin import Spin
from harmose.units import MICRO_HARTREE

ERRORS = {"regression": 30, "stage1": 10, "full": 4}
"""Error of every matrix element in micro-Hartree."""


@dataclass(frozen=True)
class WaterModel:
    """A model of water: kinetic energy and nuclear attraction, with the constant of `ERRORS` added to every element."""

    basis: BasisSet
    stages: tuple[str, ...] = ("regression", "stage1", "full")

    @property
    def card(self):
        settings = {"code": "pyscf", "functional": "hf", "basis": "sto-3g", "grid_level": 0}
        learned = {"needs_prior": False, "settings": settings, "target": TargetSettings(), "energy_zero": "labels"}
        return SimpleNamespace(elements=(1, 8), basis=self.basis, spin=Spin.NONE, **learned)

    def predict(self, atoms, prior=None, stage="full", **_):
        mol = pyscf.molecule(atoms, "sto-3g")
        h = pyscf.to_blocks(mol.intor("int1e_kin") + mol.intor("int1e_nuc"), pyscf.layout(atoms, self.basis))
        return h.with_values(h.values + ERRORS[stage] * MICRO_HARTREE)

    def predict_stages(self, structures, priors=None, stages=None):
        return {stage: [self.predict(atoms, stage=stage) for atoms in structures] for stage in stages or self.stages}

    def n_electrons(self, atoms):
        return float(atoms.numbers.sum())

    def bounds_many(self, structures, priors, overlaps, predicted):
        return [None] * len(structures)


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("HARMOSE_DEBUG", raising=False)


@pytest.fixture
def add_models(monkeypatch) -> Callable[..., None]:
    """`add_models(name=model)`: `harmose.load` then finds these models by name, besides the usual ones."""

    def add(**models) -> None:
        load = checkpoint.load
        monkeypatch.setattr(checkpoint, "load", lambda name: models.get(name) or load(name))

    return add


@pytest.fixture
def water_model(water_basis, add_models) -> WaterModel:
    """A `WaterModel`, which commands find under the name "exact"; "alone" is the same without a regression."""
    model = WaterModel(water_basis)
    add_models(exact=model, alone=WaterModel(water_basis, ("stage1", "full")))
    return model


@pytest.fixture
def table_rows() -> Callable[[str], dict[str, list[str]]]:
    """`table_rows(text)`: cells of the rows of a printed table, by their first cell."""

    def rows(text: str) -> dict[str, list[str]]:
        lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
        return {line[0]: line[1:] for line in lines}

    return rows
