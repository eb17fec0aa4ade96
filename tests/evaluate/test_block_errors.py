"""Errors by type of block against slices of the dense matrix."""

import numpy as np
import pytest

from harmose.evaluate.metrics import evaluate


def shells_of(sample):
    """For each orbital of water: its atom, and (element, shell)."""
    out = []
    for atom, z in enumerate(sample.structure.numbers):
        for shell in sample.basis.shells[int(z)]:
            out += [(atom, ("H" if z == 1 else "O", str(shell)))] * shell.n_orbitals
    return out


def test_mae_of_each_type(predictions):
    made = predictions(3)
    orbitals = shells_of(made[0].sample)
    pool: dict = {}
    for p in made:
        before, after = (np.abs((h - p.sample.hamiltonian).dense()) for h in p.stages.values())
        for row, (i, a) in enumerate(orbitals):
            for col, (j, b) in enumerate(orbitals):
                pool.setdefault((i == j, frozenset((a, b))), []).append((before[row, col], after[row, col]))
    blocks = evaluate(made).blocks
    assert len(blocks) == len(pool)
    for block in blocks:
        kind = frozenset(zip(block.elements, block.shells, strict=True))
        expected = pool[block.onsite, kind]
        assert block.n_elements == len(expected), block.label
        assert [*block.mae.values()] == pytest.approx(np.mean(expected, axis=0), rel=1e-12), block.label


def test_types_add_up_to_the_whole_matrix(predictions):
    evaluation = evaluate(predictions(3))
    counts = np.array([block.n_elements for block in evaluation.blocks])
    assert counts.sum() == evaluation.n_elements
    mean = np.average([block.full for block in evaluation.blocks], weights=counts)
    assert mean == pytest.approx(evaluation.full.mae_elements, rel=1e-12)


def test_labels(predictions):
    labels = [block.label for block in evaluate(predictions(1)).blocks]
    assert labels == [
        "O 1s – O 1s on-site", "O 1s – O 2s on-site", "O 1s – O 2p on-site", "O 2s – O 2s on-site",
        "O 2s – O 2p on-site", "O 2p – O 2p on-site", "H 1s – H 1s on-site",
        "O 1s – H 1s", "O 2s – H 1s", "O 2p – H 1s", "H 1s – H 1s",
    ]  # fmt: skip
