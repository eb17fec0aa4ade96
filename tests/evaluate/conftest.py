"""Predictions to evaluate: water in STO-3G with errors that grow from sample to sample, and chains of atoms."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.core.sample import Sample
from harmose.evaluate.evaluation import Prediction
from harmose.evaluate.figure_data import FigureData


def disturbed(operator: BlockMatrix, size: float, seed: int = 0) -> BlockMatrix:
    """The operator plus a Hermitian error of normal distribution, `size` in eV."""
    noise = np.random.default_rng(seed).normal(size=operator.values.shape)
    matrix = operator.with_values(size * noise).dense()
    _, row, col = operator.indices
    return operator.with_values(operator.values + ((matrix + matrix.T) / 2)[None, row, col])


@pytest.fixture(scope="session")
def predictions(water_sample) -> Callable[..., list[Prediction]]:
    """`predictions(n)`: n samples, k = 0 ... Error of stage 1: (k + 1) meV times `stage1`; of both: times `full`."""

    def make(n: int, stage1: float = 1.0, full: float = 0.5) -> list[Prediction]:
        out = []
        for k in range(n):
            sample, error = water_sample(k), 1e-3 * stage1 * (k + 1)
            first, second = (disturbed(sample.hamiltonian, e, seed=k) for e in (error, error * full))
            out.append(Prediction(sample, {"stage1": first, "full": second}))
        return out

    return make


@pytest.fixture(scope="session")
def gathered() -> Callable[..., FigureData]:
    """`gathered(predictions)`: what a report needs of them."""

    def gather(predictions) -> FigureData:
        data = FigureData()
        for prediction in predictions:
            data.add(prediction)
        return data

    return gather


@pytest.fixture(scope="session")
def wire() -> Sample:
    """A chain of atoms with four s orbitals at -8, -5, -1 and 3 eV, hopping 0.1 eV; three bands are filled."""
    basis = BasisSet("4s", {6: tuple(Shell(n, 0) for n in (1, 2, 3, 4))}, {6: 1.5})
    atoms = Atoms("C", [[0, 0, 0]], cell=np.diag([2.0, 9, 9]), pbc=(True, False, False))
    graph = build_graph(atoms, basis)
    identity, zero = np.eye(4).ravel(), np.zeros(16)
    h = BlockMatrix(
        basis, graph.numbers, graph.pairs, np.array([[*np.diag([-8.0, -5.0, -1.0, 3.0]).ravel(), *0.1 * identity]])
    )
    s = h.with_values(np.array([[*identity, *zero]]))
    return Sample("wire", atoms, basis, h, s, n_electrons=6.0)


@pytest.fixture(scope="session")
def crystals(wire) -> list[Prediction]:
    """Two chains. Stage 1: third energy wrong by 20 meV, energy zero by 1 eV. Stage 2: third energy by 5 meV."""

    def wrong(by: float, energy_zero: float = 0.0) -> BlockMatrix:
        error = np.zeros_like(wire.hamiltonian.values)
        error[0, 10] = by
        return wire.hamiltonian.with_values(wire.hamiltonian.values + error + energy_zero * wire.overlap.values)

    stages = {"stage1": wrong(0.02, 1.0), "full": wrong(0.005)}
    return [Prediction(replace(wire, name=name), stages) for name in ("a", "b")]
