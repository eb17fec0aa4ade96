"""Charge features of several molecules are those of each."""

import numpy as np
import torch

from harmose.representation.concatenation import TargetSettings, block_irreps, compute_targets

SETTINGS = TargetSettings(prior=True, operators=("density",))


def test_features_of_several_molecules(water_sample):
    samples = [water_sample(seed) for seed in (0, 1)]
    space = block_irreps(samples[0].basis)
    whole, parts = compute_targets(space, samples, SETTINGS), [compute_targets(space, [x], SETTINGS) for x in samples]
    for name in ("charge", "potential"):
        expected = np.concatenate([getattr(part.charges, name) for part in parts])
        np.testing.assert_allclose(getattr(whole.charges, name), expected, atol=1e-10)
    for name in ("density", "prior"):
        coefficients = getattr(whole.charges, name)
        for group, x in coefficients.pairs.items():
            expected = torch.cat([getattr(part.charges, name).pairs[group] for part in parts])
            torch.testing.assert_close(x, expected, atol=1e-10, rtol=0)


def test_the_network_reads_the_density(water_sample):
    sample = water_sample(0)
    targets = compute_targets(block_irreps(sample.basis), [sample], SETTINGS)
    torch.testing.assert_close(targets.batch.operators["density"].onsite[1], targets.charges.density.onsite[1].float())
    assert abs(targets.charges.charge.sum()) < 1e-6  # a neutral molecule
