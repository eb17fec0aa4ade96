"""Split-conformal prediction: bounds that hold with a stated probability, whatever the distribution of the errors.

Scores of one group (the blocks of a sample) depend on each other; groups do not. With K groups of n_k scores, the bound at a
confidence is the smallest q with

    sum over groups k, scores j of  [score_kj <= q] / ((K + 1) n_k)  >=  confidence

so that a random score of a new group lies at or below q with at least that probability (Lee, Barber and Willett, arXiv
2306.06342; for n_k = 1 Vovk, Gammerman and Shafer, 2005). K groups support confidences up to K / (K + 1).
"""

import numpy as np


def bounds(scores: np.ndarray, group: np.ndarray, confidences: np.ndarray) -> np.ndarray:
    """Return q for each confidence (Q,) from scores (n,) of groups (n,); infinite where there are too few groups."""
    if not len(scores):
        return np.full(len(confidences), np.inf)
    _, inverse, count = np.unique(group, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    mass = np.cumsum((1 / ((len(count) + 1) * count[inverse]))[order])
    place = np.searchsorted(mass, np.asarray(confidences) - 1e-9)
    return np.append(scores[order], np.inf)[place]


def supports(group: np.ndarray, confidence: float) -> bool:
    """Return True if there are enough groups for a finite bound at this confidence."""
    n = len(np.unique(group))
    return n >= (n + 1) * confidence - 1e-9
