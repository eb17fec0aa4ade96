"""Which samples of a large training set are fitted as a whole first: a share of all, and the most different ones.

Sparse points and hyperparameters of the regression come from these samples. They have blocks of every kind; half of the others
are drawn at random, so that usual environments are there as often as usual, and the rest one after the other as far from those
before as possible (farthest-point sampling: Gonzalez, Theor. Comput. Sci. 38, 293 (1985)).

Samples are compared by their number of atoms of each species, and by smeared histograms of the distances of each pair type.
"""

import numpy as np

from harmose.representation.concatenation import ConcatenatedGraph

CENTRES = 0.5 + 0.5 * np.arange(12)
"""Angstrom. Centres of the Gaussians, as wide as they are apart."""
FEWEST = 200
"""Blocks of a kind that the samples have at least, if there are as many."""


def describe(graph: ConcatenatedGraph, n_species: int) -> np.ndarray:
    """Return the descriptors (n, F) of the structures of a graph, float32."""
    n, types = graph.n_samples, n_species**2
    oriented, owner = graph.oriented, graph.pair_sample
    distance, place = np.linalg.norm(oriented.vectors, axis=1), owner * types + oriented.pair_type
    atoms = np.bincount(graph.atom_sample * n_species + oriented.species, minlength=n * n_species)
    out = [atoms.reshape(n, -1)]
    for centre in CENTRES:
        weight = np.exp(-(((distance - centre) / 0.5) ** 2) / 2)
        out.append(np.bincount(place, weight, minlength=n * types).reshape(n, -1))
    return np.concatenate(out, 1).astype(np.float32)


def choose(descriptors: np.ndarray, blocks: np.ndarray, n_pairs: np.ndarray, most: int, seed: int = 0) -> np.ndarray:
    """Choose samples.

    Args:
        descriptors: of the samples (n, F).
        blocks: number of blocks of each kind in each sample (n, kinds): atoms by species, pairs by type.
        n_pairs: number of pairs of each sample (n,).
        most: largest number of pairs of all that are chosen, except where blocks of some kind would be missing.
        seed: of the random numbers.

    Returns:
        Their numbers, ascending.
    """
    generator = np.random.default_rng(seed)
    order, chosen = generator.permutation(len(n_pairs)), np.zeros(len(n_pairs), dtype=bool)
    totals = blocks.sum(0)
    for kind in np.argsort(totals, kind="stable"):
        wanted = min(FEWEST, totals[kind]) - blocks[chosen, kind].sum()
        candidates = order[(blocks[order, kind] > 0) & ~chosen[order]]
        if wanted > 0:
            before = np.cumsum(blocks[candidates, kind]) - blocks[candidates, kind]
            chosen[candidates[before < wanted]] = True
    used = n_pairs[chosen].sum()
    rest = order[~chosen[order]]
    chosen[rest[np.cumsum(n_pairs[rest]) <= (most - used) / 2]] = True
    _add_farthest(chosen, descriptors, n_pairs, most)
    if not chosen.any():
        chosen[order[0]] = True
    return np.flatnonzero(chosen)


def _add_farthest(chosen: np.ndarray, descriptors: np.ndarray, n_pairs: np.ndarray, most: int) -> None:
    """Add the sample that is farthest from all that are chosen, again and again."""
    x = descriptors / np.maximum(descriptors.std(0), 1e-3)
    left, distance = most - n_pairs[chosen].sum(), np.full(len(x), np.inf)
    for k in np.flatnonzero(chosen):
        np.minimum(distance, ((x - x[k]) ** 2).sum(1), out=distance)
    while True:
        distance[chosen | (n_pairs > left)] = -1.0
        k = int(np.argmax(distance))
        if distance[k] < 0:
            return
        chosen[k], left = True, left - n_pairs[k]
        np.minimum(distance, ((x - x[k]) ** 2).sum(1), out=distance)
