"""Reversed moments: up and down exchanged, everything else as it was, and the same sample after two reversals."""

import numpy as np
import pytest

from harmose.core.electrons import moment_signs
from harmose.core.moments import (
    REVERSED,
    mean_of_reversed,
    original_name,
    reversed_sample,
    with_reversed_moments,
)
from harmose.spin import Spin


def test_reversal(random_crystal):
    sample = random_crystal(Spin.COLLINEAR)
    n = len(sample.structure)
    sample.structure.set_initial_magnetic_moments(np.arange(n) - 1.0)
    sample.structure.info["spin"] = float(np.arange(n).sum() - n)
    there = reversed_sample(sample)
    np.testing.assert_array_equal(there.hamiltonian.values, sample.hamiltonian.values[::-1])
    np.testing.assert_array_equal(there.structure.get_initial_magnetic_moments(), 1.0 - np.arange(n))
    assert there.structure.info["spin"] == -sample.structure.info["spin"]
    assert (there.name, original_name(there.name)) == (sample.name + REVERSED, sample.name)
    back = reversed_sample(there)
    assert back.name == sample.name
    assert back.structure == sample.structure
    np.testing.assert_array_equal(back.hamiltonian.values, sample.hamiltonian.values)
    mean = mean_of_reversed(sample.hamiltonian, there.hamiltonian)
    np.testing.assert_array_equal(mean.values, sample.hamiltonian.values)


@pytest.mark.parametrize(
    ("moments", "signs"),
    [(None, None), ([2.2, -0.3], [1, -1]), ([0.0, 0.04], [0, 0]), (np.eye(3)[:2], None)],
)
def test_signs(moments, signs, random_crystal):
    atoms = random_crystal(Spin.NONE).structure[:2]
    if moments is not None:
        atoms.set_initial_magnetic_moments(moments)
    found = moment_signs(atoms)
    assert found is signs is None or found.tolist() == signs
    reverse = moment_signs(with_reversed_moments(atoms))
    assert reverse is signs is None or reverse.tolist() == [-sign for sign in signs]
