"""The samples of each step: random orders, cut into batches, and for each process its part.

Every process knows the same order and all sizes, so that no process has to ask another for its samples.
"""

import numpy as np

from harmose.train.dataset import Dataset
from harmose.train.schedule import Phase, steps_per_epoch
from harmose.train.step import Part, Shares

Batches = list[np.ndarray]
"""Numbers of samples, batch after batch."""


class Sampler:
    """Batches of a phase. The order depends on the seed and the epoch only.

    pair_counts (n,): pairs of atoms of each sample.
    """

    def __init__(self, seed: int, pair_counts: np.ndarray, phase: Phase):
        self.seed, self.pair_counts, self.phase = seed, np.asarray(pair_counts), phase

    def steps(self, epoch: int) -> list[Batches]:
        """Return the batches of each step of an epoch: `accumulate` in each; a step without all of them is left out."""
        batches, k = self._batches(order(self.seed, epoch, len(self.pair_counts))), self.phase.accumulate
        return [batches[i * k : (i + 1) * k] for i in range(steps_per_epoch(len(batches), k))]

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch. Where batches are packed by size, those of the first: others may differ by a few."""
        return len(self.steps(0))

    def _batches(self, numbers: np.ndarray) -> Batches:
        if self.phase.batch_pairs is not None:
            return packed(numbers, self.pair_counts[numbers], self.phase.batch_pairs)
        size = min(self.phase.batch_size, len(numbers))
        return [numbers[k * size : (k + 1) * size] for k in range(steps_per_epoch(len(numbers), size))]


def order(seed: int, epoch: int, n: int) -> np.ndarray:
    """Return the order of n samples in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def packed(numbers: np.ndarray, pairs: np.ndarray, limit: int) -> Batches:
    """Cut the samples `numbers` into batches of at most `limit` pairs; a larger sample is a batch by itself.

    A last batch that is less than half full is left out, as its gradient would be noise; it is kept where it is the only one.
    """
    ends, batches, begin = np.cumsum(pairs), [], 0
    while begin < len(numbers):
        before = ends[begin] - pairs[begin]
        end = max(int(np.searchsorted(ends, before + limit, "right")), begin + 1)
        batches.append(numbers[begin:end])
        begin = end
    if len(batches) > 1 and 2 * pairs[-len(batches[-1]) :].sum() < limit:
        batches.pop()
    return batches


def divided(batches: Batches, pair_counts: np.ndarray, n_processes: int) -> list[Batches]:
    """Return the batches of a step for each process.

    Each batch is divided, so that all have about the same number of pairs. Batches of a few large samples, fewer than
    processes, are dealt out as they are. A process may be left without any.
    """
    if n_processes == 1:
        return [batches]
    if len(batches) > 1 and min(map(len, batches)) < n_processes:
        owner = _owners(np.array([pair_counts[batch].sum() for batch in batches]), n_processes)
        return [[batch for batch, o in zip(batches, owner, strict=True) if o == r] for r in range(n_processes)]
    owners = [_owners(pair_counts[batch], n_processes) for batch in batches]
    parts = [[b[o == r] for b, o in zip(batches, owners, strict=True)] for r in range(n_processes)]
    return [[part for part in mine if len(part)] for mine in parts]


def parts_of(dataset: Dataset, batches: Batches, rank: int, n_processes: int) -> list[Part]:
    """Return what a process does of a step. One without samples joins in with a sample that does not count."""
    counts, mine = dataset.element_counts, divided(batches, dataset.pair_counts, n_processes)[rank]
    n_elements, n_samples = sum(int(counts[batch].sum()) for batch in batches), sum(map(len, batches))

    def part(numbers: np.ndarray, factor: float) -> Part:
        shares = Shares(factor * int(counts[numbers].sum()) / n_elements, factor * len(numbers) / n_samples)
        return Part(lambda: dataset.batch(numbers), shares)

    return [part(numbers, n_processes) for numbers in mine] or [part(batches[0][:1], 0.0)]


def _owners(sizes: np.ndarray, n: int) -> np.ndarray:
    """Deal items out to n owners, the largest first, each to the one that has least so far."""
    owner, load = np.empty(len(sizes), np.int64), np.zeros(n)
    for k in np.argsort(-sizes, kind="stable"):
        owner[k] = load.argmin()
        load[owner[k]] += sizes[k]
    return owner
