"""Channels and edges of features are concatenated, split and added."""

import torch

from harmose.nn.ops.features import (
    AtomFeatures,
    EdgeFeatures,
    EdgeWidths,
    add_features,
    concatenate_channels,
    concatenate_edges,
)


def random_edges(n_edges: int, widths: EdgeWidths, seed: int = 0) -> EdgeFeatures:
    torch.manual_seed(seed)
    scalars, pseudoscalars, so2 = widths
    return EdgeFeatures(
        torch.randn(n_edges, scalars), torch.randn(n_edges, pseudoscalars), torch.randn(3, n_edges, 2, so2)
    )


def test_split_undoes_the_concatenation_of_channels():
    left, right = random_edges(5, EdgeWidths(4, 2, 3)), random_edges(5, EdgeWidths(1, 0, 2), seed=1)
    both = concatenate_channels([left, right])
    assert [x.shape[-1] for x in both] == [5, 2, 5]
    for found, expected in zip(both.split(EdgeWidths(4, 2, 3)), (left, right), strict=True):
        for x, y in zip(found, expected, strict=True):
            assert torch.equal(x, y)


def test_edges_are_concatenated_in_order():
    first, second = (random_edges(n, EdgeWidths(4, 2, 3), seed=n) for n in (2, 5))
    both = concatenate_edges([first, second])
    assert both.so2.shape == (3, 7, 2, 3)
    assert torch.equal(both.scalars[:2], first.scalars)
    assert torch.equal(both.so2[:, 2:], second.so2)


def test_features_are_added_by_name():
    atoms = AtomFeatures(torch.ones(2, 4, 3), torch.full((2, 4, 1), 2.0))
    total = add_features(atoms, atoms)
    assert isinstance(total, AtomFeatures)
    assert torch.equal(total.pseudo, torch.full((2, 4, 1), 4.0))
