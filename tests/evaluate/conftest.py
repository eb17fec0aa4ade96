"""Predictions to evaluate: water in STO-3G with errors that grow from sample to sample."""

from collections.abc import Callable

import numpy as np
import pytest

from harmose.blocks import BlockMatrix
from harmose.evaluate.metrics import Prediction


def disturbed(operator: BlockMatrix, size: float, seed: int = 0) -> BlockMatrix:
    """The operator plus a Hermitian error of normal distribution, `size` in eV."""
    noise = np.random.default_rng(seed).normal(size=operator.values.shape)
    matrix = operator.with_values(size * noise).dense()
    _, row, col = operator.elements
    return operator.with_values(operator.values + ((matrix + matrix.T) / 2)[None, row, col])


@pytest.fixture(scope="session")
def predictions(water_sample) -> Callable[..., list[Prediction]]:
    """`predictions(n)`: n samples; stage 1 is wrong by (k + 1) meV times `stage1`, the full model by `full` of that."""

    def make(n: int, stage1: float = 1.0, full: float = 0.5) -> list[Prediction]:
        out = []
        for k in range(n):
            sample, error = water_sample(k), 1e-3 * stage1 * (k + 1)
            first, second = (disturbed(sample.hamiltonian, e, seed=k) for e in (error, error * full))
            out.append(Prediction(sample, first, second))
        return out

    return make
