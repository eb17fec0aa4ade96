"""The loss against the equation written as loops."""

import numpy as np
import pytest
import torch

from harmose.data.store import Store
from harmose.representation.block_irreps import map_coefficients
from harmose.representation.concatenation import TargetSettings
from harmose.train.dataset import load_dataset
from harmose.train.fit import fit_to_samples, load_targets
from harmose.train.loss import block_loss, degree_weights
from harmose.units import MICRO_HARTREE


@pytest.fixture
def batch(water_store):
    with Store.open(water_store) as store:
        names = store.splits["train"]
        return load_dataset(
            store, names, fit_to_samples(load_targets(store, names, TargetSettings()), "pairs"), TargetSettings()
        ).batch([4, 0, 2]), store.basis


def naive(space, predicted, batch) -> float:
    """Off-site: every irrep of every pair, twice. On-site: every irrep of every atom."""
    total = 0.0
    for group, x in predicted.pairs.items():
        layout = space.pair_layout(group)
        t, s = batch.targets.pairs[group].numpy(), batch.scales.pairs[group].numpy()
        for p in range(len(x)):
            for k in range(layout.n_irreps):
                error = (x[p, :, k].numpy() - t[p, :, k]) * s[p, 0, k]
                total += 2 * np.sqrt(2 * layout.degree[k] + 1) * np.linalg.norm(error.astype(float))
    for shell_type, x in predicted.onsite.items():
        mask = space.onsite_layout(shell_type).mask
        t, s = batch.targets.onsite[shell_type].numpy(), batch.scales.onsite[shell_type].numpy()
        for n in range(len(x)):
            for l in range(space.l_max + 1):
                rows = slice(l * l, (l + 1) ** 2)
                for k in np.flatnonzero(mask[rows].any(0)):
                    error = ((x[n].numpy() - t[n]) * s[n])[rows, k]
                    total += np.sqrt(2 * l + 1) * np.linalg.norm(error.astype(float))
    return total / (batch.n_elements * MICRO_HARTREE)


def test_the_loss_is_its_equation(batch):
    from harmose.representation.concatenation import block_irreps

    batch, basis = batch
    space = block_irreps(basis)
    generator = torch.Generator().manual_seed(0)
    predicted = map_coefficients(lambda x: x + torch.randn(x.shape, generator=generator), batch.targets)
    masks = {s: torch.as_tensor(space.onsite_layout(s).mask).float() for s in predicted.onsite}
    predicted = type(predicted)(predicted.pairs, {s: x * masks[s] for s, x in predicted.onsite.items()})
    found = block_loss(degree_weights(space), predicted, batch)
    assert found.item() == pytest.approx(naive(space, predicted, batch), rel=1e-3)
    assert found.item() > 1e-3


def test_a_perfect_prediction_costs_nothing_and_pulls_nowhere(batch):
    from harmose.representation.concatenation import block_irreps

    batch, basis = batch
    weights = degree_weights(block_irreps(basis))
    predicted = map_coefficients(lambda x: x.clone().requires_grad_(), batch.targets)
    loss = block_loss(weights, predicted, batch)
    loss.backward()
    assert loss.item() < 0.2  # a millionth of an eV for each irrep
    assert all(x.grad is None or (x.grad == 0).all() for x in predicted.pairs.values())
