"""Scores say what is outside the training domain, and where."""

import numpy as np

from harmose.inference.scores import Scores


def test_inside():
    scores = Scores(np.array([0.5, 2.0]), np.array([0.1]), 1.0)
    assert not scores.outside


def test_an_atom_outside():
    text = Scores(np.array([0.5, 2.4, 2.1]), np.array([0.1]), 1.0).describe()
    assert text == (
        "outside the training domain: 2 of 3 atoms (largest score 2.4 at atom 1; limit 2); expect larger errors"
    )


def test_a_pair_outside():
    scores = Scores(np.array([0.5]), np.array([0.1, 3.0]), 1.0)
    assert scores.outside
    assert "the network extrapolates for 1 of 2 pairs of atoms" in scores.describe()


def test_a_lone_atom_has_no_pairs():
    assert not Scores(np.array([0.5]), np.zeros(0), 1.0).outside
