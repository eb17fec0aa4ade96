"""Held-out samples whose errors follow the equations of the calibration."""

from collections.abc import Callable

import numpy as np
import pytest

from harmose.uncertainty.calibration import HeldOutSample
from harmose.uncertainty.features import ErrorFeatures


@pytest.fixture(scope="session")
def held_out() -> Callable[..., list[HeldOutSample]]:
    """`held_out(n, seed, block_types)`: errors r n^1.2 v^0.5 u^0.8 exp(0.3 d), times lognormal numbers that blocks share in part."""

    def make(n: int, seed: int = 0, block_types=(-1, 0, 1)) -> list[HeldOutSample]:
        rng, out = np.random.default_rng(seed), []
        for k in range(n):
            block_type = rng.choice(block_types, size=30)
            ood_score = np.exp(rng.normal(size=30) * 0.5 + rng.normal() * 0.5)
            std, distance = np.exp(rng.normal(size=30) - 2), rng.uniform(0, 5, size=30)
            fitted_std, elements = np.exp(rng.normal(size=30)), rng.integers(1, 9, size=30)
            size = 0.01 * (2.0 + block_type)
            features = ErrorFeatures(block_type, size, ood_score, std, fitted_std, distance, elements, ood_score[:3])
            error = size * ood_score**1.2 * std**0.5 * fitted_std**0.8 * np.exp(0.3 * distance)
            out.append(HeldOutSample(f"g{k}", features, error * np.exp(0.4 * rng.normal(size=30) + 0.4 * rng.normal())))
        return out

    return make
