"""Split-conformal prediction: bounds that hold as often as they say, whatever the distribution of the errors.

Scores of what belongs together (the blocks of one sample) are not independent, their groups are. With K groups of n_k
scores, the bound at level a is the smallest q with

    sum over groups k, scores j of  [score_kj <= q] / ((K + 1) n_k)  >=  a

so that a random score of a new group of the same kind lies at or below q with probability a or more (Lee, Barber and
Willett, arXiv 2306.06342; for n_k = 1 Vovk, Gammerman and Shafer, 2005). K groups support levels up to K / (K + 1).
"""

import numpy as np


def bounds(scores: np.ndarray, group: np.ndarray, confidences: np.ndarray) -> np.ndarray:
    """The q of this module's equation for each level (Q,), scores (n,) of the groups (n,); inf where K is too small."""
    if not len(scores):
        return np.full(len(confidences), np.inf)
    _, inverse, count = np.unique(group, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    mass = np.cumsum((1 / ((len(count) + 1) * count[inverse]))[order])
    at = np.searchsorted(mass, np.asarray(confidences) - 1e-9)
    return np.append(scores[order], np.inf)[at]


def supports(group: np.ndarray, confidence: float) -> bool:
    """Whether there are enough groups for a finite bound at this level."""
    n = len(np.unique(group))
    return n >= (n + 1) * confidence - 1e-9


def coverage(ratios: np.ndarray, group: np.ndarray) -> float:
    """Share of `ratios` (error over bound) at or below one, each group counting alike."""
    _, inverse, count = np.unique(group, return_inverse=True, return_counts=True)
    return float(((ratios <= 1) / count[inverse]).sum() / len(count))
