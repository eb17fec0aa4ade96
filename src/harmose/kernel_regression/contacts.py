"""Lengths of the contacts between atoms in a training set: bonds that break are longer than any of them.

Two atoms are in contact if no third one is nearer to both of them (the relative neighbourhood graph; Toussaint, Pattern
Recognition 12, 261 (1980)). Contacts join all atoms of a structure: those of a molecule are its bonds and few others, and where
it has come apart, one of them leads from part to part. Its length is no length of a bond, although the training set may have
many atoms of these elements at that distance, in molecules that are whole.

A short list of lengths stands for the training set: the range of all contacts of two elements, and the range of the shortest
contacts of atoms, which is narrower where other contacts are hydrogen bonds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harmose.kernel_regression.descriptors import DirectedPairs, leaving

FEWEST = 3
"""A kind of contact that fewer groups of the training set have is not known."""
OUTLIERS = 1 / 300
"""Share of the groups of a kind whose lengths may lie outside the range, at either end."""
MARGIN, SPACINGS = 0.03, 3.0
"""Ranges are wider than the lengths found by so many angstrom and so many mean distances between the lengths of groups."""


@dataclass(frozen=True)
class ContactLengths:
    """Ranges of the lengths of contacts by species of both atoms.

    Attributes:
        ranges: smallest and largest length in angstrom of all contacts, and of the shortest contacts of atoms of the first
            species (2, S, S, 2); both zero for a kind that the training set lacks.
    """

    ranges: np.ndarray

    def excess(self, pairs: DirectedPairs, atoms: np.ndarray) -> np.ndarray:
        """Return how far the contacts of atoms (N,) lie outside the ranges (N,) at most, in angstrom; 0 inside."""
        out = np.zeros(len(atoms))
        for (smallest, largest), (rows, species, length) in zip(
            np.moveaxis(self.ranges, -1, 1), _both_kinds(pairs, atoms), strict=True
        ):
            np.maximum.at(out, rows, np.maximum(smallest[species] - length, length - largest[species]))
        return out

    def joined(self, other: "ContactLengths") -> "ContactLengths":
        """Return the ranges that hold the lengths of both."""
        first, second = self.ranges, other.ranges
        both = np.stack([np.minimum(first[..., 0], second[..., 0]), np.maximum(first[..., 1], second[..., 1])], -1)
        known = first[..., 1:] > 0, second[..., 1:] > 0
        return ContactLengths(np.where(known[0] & known[1], both, np.where(known[0], first, second)))


class Extremes(NamedTuple):
    """Smallest and largest length in angstrom of each kind of contact in each group (n,).

    Attributes:
        kind: species of the first atom times their number, plus species of the second one.
        group: number of the group.
        smallest, largest: lengths.
    """

    kind: np.ndarray
    group: np.ndarray
    smallest: np.ndarray
    largest: np.ndarray


def contact_extremes(pairs: DirectedPairs, group: np.ndarray, n_species: int) -> tuple[Extremes, Extremes]:
    """Return the extremes of all contacts, and of the shortest ones of atoms, of atoms in the groups (N,)."""
    out = []
    for atoms, (first, second), length in _both_kinds(pairs, np.arange(pairs.n_atoms)):
        kind, number = first * n_species + second, group[atoms]
        order = np.lexsort((number, kind))
        kind, number, length = kind[order], number[order], length[order]
        start = np.flatnonzero((np.diff(kind, prepend=-1) != 0) | (np.diff(number, prepend=-1) != 0))
        smallest, largest = ((f.reduceat(length, start) if len(start) else length) for f in (np.minimum, np.maximum))
        out.append(Extremes(kind[start], number[start], smallest, largest))
    return out[0], out[1]


def contact_lengths(extremes: Sequence[tuple[Extremes, Extremes]], n_species: int) -> ContactLengths:
    """Find the ranges in a training set from the extremes of its parts."""
    n_groups = len(np.unique(np.concatenate([both[0].group for both in extremes])))
    ranges = np.zeros((2, n_species, n_species, 2))
    for out, parts in zip(ranges, zip(*extremes, strict=True), strict=True):
        kinds, groups, smallest, largest = (np.concatenate(x) for x in zip(*parts, strict=True))
        for kind in np.unique(kinds):
            rows = kinds == kind
            names, place = np.unique(groups[rows], return_inverse=True)
            if len(names) >= min(FEWEST, n_groups):  # a group may lie in several parts
                low, high = np.full(len(names), np.inf), np.zeros(len(names))
                np.minimum.at(low, place, smallest[rows])
                np.maximum.at(high, place, largest[rows])
                out[divmod(kind, n_species)] = _widened(np.sort(low), np.sort(high))
    return ContactLengths(ranges)


def fit_contact_lengths(pairs: DirectedPairs, group: np.ndarray, n_species: int) -> ContactLengths:
    """Find the ranges in a training set whose atoms belong to the groups (N,)."""
    return contact_lengths([contact_extremes(pairs, group, n_species)], n_species)


def contacts(pairs: DirectedPairs, atoms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the contacts of atoms (N,), distinct: directed pairs sorted by row in `atoms` and length, and these rows."""
    rows, edges = leaving(pairs.leaving, atoms)
    order = np.lexsort((pairs.distance[edges], rows))
    rows, edges = rows[order], edges[order]
    vectors, distance, start = pairs.vectors[edges], pairs.distance[edges], np.searchsorted(rows, rows)
    # The nearest atoms are tried first as third atoms: few pairs are left after two or three of them.
    found, open_, k = [], np.arange(len(edges)), 0
    while len(open_):
        third = start[open_] + k
        found.append(open_[third == open_])  # no nearer atom is nearer to the other end, too
        open_, third = open_[third != open_], third[third != open_]
        apart = np.linalg.norm(vectors[open_] - vectors[third], axis=1)
        open_, k = open_[apart >= (1 - 1e-9) * distance[open_]], k + 1
    chosen = np.sort(np.concatenate(found)) if found else np.zeros(0, dtype=int)
    return edges[chosen], rows[chosen]


def _both_kinds(
    pairs: DirectedPairs, atoms: np.ndarray
) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray]]:
    """Yield all contacts of atoms (N,), and then the shortest ones: rows of atoms, both species, lengths in angstrom."""
    edges, rows = contacts(pairs, atoms)
    for chosen in (slice(None), np.diff(rows, prepend=-1) > 0):
        own = edges[chosen]
        yield rows[chosen], (pairs.centre_species[own], pairs.neighbour_species[own]), pairs.distance[own]


def _widened(smallest: np.ndarray, largest: np.ndarray) -> tuple[float, float]:
    """Return the range in which a new group's lengths are to be expected, from those of all groups, ascending."""
    n = len(smallest)
    first, last = smallest[int(OUTLIERS * n)], largest[-1 - int(OUTLIERS * n)]
    margin = MARGIN + SPACINGS * (last - first) / n
    return max(first - margin, 0.0), last + margin
