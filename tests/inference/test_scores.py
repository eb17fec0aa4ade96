"""Scores say what is outside the training domain, and where, and which summands were not used."""

import numpy as np
import pytest

from harmose.inference.scores import Limits, Scores

LIMITS = Limits(last_layer_std=1.0, regression_std=5.0, error=0.4, usual_error=0.1)


def test_inside():
    scores = Scores(np.array([0.5, 2.0]), np.array([0.1]), LIMITS, np.array([1.0, 5.0]), expected_error=0.4)
    assert not scores.outside
    assert scores.reasons == scores.unused == []


def test_an_atom_outside():
    text = Scores(np.array([0.5, 2.4, 2.1]), np.array([0.1]), LIMITS).describe()
    assert text == (
        "outside the training domain: 2 of 3 atoms (largest score 2.4 at atom 1; limit 2); expect larger errors"
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"last_layer_std": np.array([0.1, 3.0])}, "the network extrapolates for 1 of 2 pairs of atoms"),
        (
            {"regression_std": np.array([1.0, 12.34, 6.0])},
            "the regression extrapolates for 2 of 3 blocks (standard deviation 12.3; limit 5)",
        ),
        ({"unknown": np.array([True, False])}, "1 of 2 pairs of elements that the training set lacks"),
        (
            {"contact_excess": np.array([0.0, 0.51, 0.2])},
            "2 of 3 atoms with a neighbour nearer or further than in the training set (by 0.51 angstrom at atom 1)",
        ),
        ({"expected_error": 0.45}, "expected error 4.5 times the usual one"),
    ],
)
def test_a_reason_each(changes, text):
    scores = Scores(np.array([0.5]), np.array([0.1]), LIMITS)._replace(**changes)
    assert scores.outside
    assert scores.reasons == [text]
    assert scores.describe() == f"outside the training domain: {text}; expect larger errors"


def test_what_was_not_used():
    """A weight of one half is used; alone it does not put a structure outside."""
    scores = Scores(
        np.array([0.5]),
        np.array([0.1]),
        LIMITS,
        regression_weight=np.array([0.49, 0.5, 1.0]),
        network_weight=np.array([0.1, 0.2]),
    )
    assert scores.unused == ["regression not used for 1 of 3 blocks", "network not used for 2 of 2 pairs"]
    assert not scores.outside
    outside = scores._replace(ood=np.array([3.0]))
    assert outside.describe() == (
        "outside the training domain: 1 of 1 atoms (largest score 3.0 at atom 0; limit 2); "
        "regression not used for 1 of 3 blocks; network not used for 2 of 2 pairs; expect larger errors"
    )


def test_without_limits_only_scores_of_atoms_and_unknown_elements_count():
    everything = {"regression_std": np.array([1e9]), "expected_error": 1e9, "last_layer_std": np.array([1e9])}
    assert not Scores(np.array([0.5]), np.zeros(1))._replace(**everything).outside


def test_a_lone_atom_has_no_pairs():
    assert not Scores(np.array([0.5]), np.zeros(0), LIMITS).outside
