"""Fixtures of the command tests: a wide terminal, and models with known errors."""

import csv
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.io import write as write_structures

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import ModelError
from harmose.inference import checkpoint
from harmose.io.assembly import zeros
from harmose.io.basis_sets import overlap
from harmose.io.files import write
from harmose.io.pyscf.pyscf import molecule, to_blocks
from harmose.representation.concatenation import TargetSettings
from harmose.spin import Spin
from harmose.units import MICRO_HARTREE

ERRORS = {"regression": 30, "stage1": 10, "full": 4}
"""Error of every matrix element in micro-Hartree."""


@dataclass
class SamplesAlive:
    """Samples that a store returned: how many, and how many of them were alive at one time."""

    n: int = 0
    most: int = 0


@pytest.fixture
def samples_alive(monkeypatch) -> SamplesAlive:
    """Counts the samples that are read from any store."""
    count, alive, read = SamplesAlive(), weakref.WeakSet(), Store.__getitem__

    def counted(self: Store, name: str) -> Sample:
        sample = read(self, name)
        alive.add(sample)
        gc.collect()
        count.n += 1
        count.most = max(count.most, len(alive))
        return sample

    monkeypatch.setattr(Store, "__getitem__", counted)
    return count


@dataclass(frozen=True)
class WaterModel:
    """A model of water: kinetic energy and nuclear attraction, with the constant of `ERRORS` added to every element."""

    basis: BasisSet
    stages: tuple[str, ...] = ("regression", "stage1", "full")
    radial: None = None
    is_calibrated: bool = False

    @property
    def card(self):
        settings = {"code": "pyscf", "functional": "hf", "basis": "sto-3g", "grid_level": 0}
        learned = {"needs_prior": False, "settings": settings, "target": TargetSettings(), "energy_zero": "labels"}
        return SimpleNamespace(elements=(1, 8), basis=self.basis, spin=Spin.NONE, **learned)

    def predict(self, atoms, prior=None, stage="full", **_):
        mol = molecule(atoms, "sto-3g")
        h = to_blocks(mol.intor("int1e_kin") + mol.intor("int1e_nuc"), zeros(atoms, self.basis))
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
def ghost_model(water_basis, add_models, with_ghost) -> None:
    """A `WaterModel` with a ghost level, which commands find under the name "ghost"."""

    class Ghost(WaterModel):
        def predict(self, atoms, prior=None, stage="full", **_):
            return with_ghost(super().predict(atoms), overlap(atoms, self.basis))

    add_models(ghost=Ghost(water_basis))


@pytest.fixture
def table_rows() -> Callable[[str], dict[str, list[str]]]:
    """`table_rows(text)`: cells of the rows of a printed table, by their first cell."""

    def rows(text: str) -> dict[str, list[str]]:
        lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
        return {line[0]: line[1:] for line in lines}

    return rows


BASIS = BasisSet("sto-3g", {1: (Shell(1, 0),)}, {1: 3.1})
"""The 1s shell of hydrogen in STO-3G of PySCF, so that S can be computed from the name of the basis set."""

CHAIN = Atoms("H", [[0, 0, 0]], cell=np.diag([2.0, 9, 9]), pbc=(True, False, False))


class Chain:
    """A chain of hydrogen atoms, 2 angstrom apart, with one orbital each."""

    basis = BASIS

    @staticmethod
    def hamiltonian(hopping: float = -2.0, atoms: Atoms = CHAIN) -> BlockMatrix:
        """-3 eV on site, `hopping` (eV) to the nearest neighbours, a tenth of it beyond."""
        graph = build_graph(atoms, BASIS)
        near = np.linalg.norm(graph.vectors, axis=1) < 2.5
        values = np.concatenate([np.full(len(atoms), -3.0), np.where(near, hopping, hopping / 10)])
        return BlockMatrix(BASIS, graph.numbers, graph.pairs, values[None])

    @staticmethod
    def sample(name: str, hopping: float = -2.0, **changes) -> Sample:
        fields = {"overlap": overlap(CHAIN, BASIS), "n_electrons": 1.0, **changes}
        return Sample(name, CHAIN, BASIS, Chain.hamiltonian(hopping), **fields)

    @staticmethod
    def energy(k: np.ndarray, hopping: float) -> np.ndarray:
        """The band in eV at k-points k, in units of the reciprocal lattice vector."""
        s = [overlap(CHAIN, BASIS).block(0, 0, (n, 0, 0)).item() for n in (1, 2, 3)]
        h = [hopping, hopping / 10, hopping / 10]
        waves = [2 * np.cos(2 * np.pi * n * k) for n in (1, 2, 3)]
        return (-3 + sum(a * w for a, w in zip(h, waves))) / (1 + sum(a * w for a, w in zip(s, waves)))


@dataclass(frozen=True)
class ChainModel:
    """A model that predicts the chain with a hopping that is 10 meV too large, or with another one in eV."""

    counts_electrons: bool = True
    hopping: float = -2.01
    radial: None = None

    @property
    def card(self):
        return SimpleNamespace(basis=BASIS, spin=Spin.NONE, energy_zero="labels", settings={"code": "cp2k"})

    def predict(self, atoms, **_):
        return Chain.hamiltonian(self.hopping, atoms)

    def n_electrons(self, atoms):
        if not self.counts_electrons:
            raise ModelError("the settings of the labels do not say")
        return float(len(atoms))


@pytest.fixture
def chain(tmp_path, monkeypatch, add_models) -> type[Chain]:
    """A working folder with the store `dft` of two chains and the structure `chain.extxyz`; three models of the chain."""
    monkeypatch.chdir(tmp_path)
    with Store.create("dft", BASIS) as store:
        store.append(Chain.sample("one"))
        other = CHAIN.copy()
        other.set_cell(np.diag([2.2, 9, 9]))
        store.append(replace(Chain.sample("two"), structure=other))
    write_structures("chain.extxyz", CHAIN)
    add_models(chain_model=ChainModel(), no_electrons=ChainModel(False), ghost_chain=ChainModel(hopping=2.0))
    return Chain


@pytest.fixture
def read_csv() -> Callable[[str], tuple[list[str], list[str], np.ndarray]]:
    """`read_csv(path)`: comments, column names, and the columns of numbers of a file."""

    def read(path: str) -> tuple[list[str], list[str], np.ndarray]:
        lines = Path(path).read_text().splitlines()
        comments = [line for line in lines if line.startswith("#")]
        head, *body = list(csv.reader(lines[len(comments) :]))
        return comments, head, np.array([[float(x) for k, x in enumerate(row) if head[k] != "point"] for row in body])

    return read


@pytest.fixture
def refused_command(run, chain, water_sample, capsys) -> Callable[[str, str], None]:
    """`refused_command(command, words)`: one line with these words on stderr, exit code 2, and no file written."""

    def check(command: str, words: str) -> None:
        write("one.npz", chain.sample("one"))
        write("bare.npz", chain.sample("bare", overlap=None))
        write("unknown.npz", chain.sample("unknown", n_electrons=None))
        write("water.npz", water_sample(0))
        before = sorted(Path().iterdir())
        assert run(command) == 2
        captured = capsys.readouterr()
        assert words in captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""
        assert sorted(Path().iterdir()) == before

    return check
