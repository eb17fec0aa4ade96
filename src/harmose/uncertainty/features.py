"""What tells, before any label, how wrong a block of a prediction may be."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from harmose.kernel_regression.model import Baseline
from harmose.nn.two_stage import TwoStage
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import Coefficients, TargetSpace
from harmose.representation.concatenation import Joined
from harmose.uncertainty.llpr import Rigidity


@dataclass(frozen=True, eq=False)
class Traits:
    """Of every block, in the order of the matrices: (B,) each.

    kind: -1 - species on site, the kind of pair between atoms. size: rms in eV of an element of what the closed form left
    of unseen training samples, at that distance. novelty: of its two atoms, the mean. rigidity: v. distance: angstrom.
    """

    kind: np.ndarray
    size: np.ndarray
    novelty: np.ndarray
    rigidity: np.ndarray
    distance: np.ndarray
    atom_novelty: np.ndarray
    """Of every atom (N,)."""

    def split(self, joined: Joined) -> list["Traits"]:
        """Of each sample."""
        n_atoms = len(joined.atom_sample)
        owner = np.concatenate([joined.atom_sample, joined.pair_sample])
        names = [f.name for f in fields(self) if f.name != "atom_novelty"]
        return [
            Traits(
                **{name: getattr(self, name)[owner == k] for name in names},
                atom_novelty=self.atom_novelty[owner[:n_atoms] == k],
            )
            for k in range(joined.n_samples)
        ]


def block_traits(
    baseline: Baseline,
    network: TwoStage,
    rigidity: Rigidity,
    joined: Joined,
    batch: GraphBatch,
    scales: Coefficients | None = None,
) -> Traits:
    """Of all blocks of some structures; `batch` is their graph as the network reads it, `scales` the baseline's."""
    oriented, n_atoms = joined.oriented, len(joined.atom_sample)
    size = np.concatenate(_sizes(baseline.space, joined, scales or baseline.scales(oriented)))
    novelty = baseline.novelty(oriented)
    free = np.empty(len(size))
    free[oriented.atom_order], free[n_atoms + oriented.pair_order] = rigidity.of(network, batch)
    return Traits(
        kind=np.concatenate([-1 - oriented.species, oriented.kind]),
        size=size,
        novelty=np.concatenate([novelty, (novelty[oriented.first] + novelty[oriented.second]) / 2]),
        rigidity=free,
        distance=np.concatenate([np.zeros(n_atoms), np.linalg.norm(oriented.vectors, axis=1)]),
        atom_novelty=novelty,
    )


def _sizes(space: TargetSpace, joined: Joined, scales: Coefficients) -> tuple[np.ndarray, np.ndarray]:
    """rms of an element of the block of each atom (N,) and each pair (P,): scales are norms of irreps."""
    oriented = joined.oriented
    counts, spin = space.basis.counts(joined.graph.numbers), space.spin.n_components
    atoms, pairs = np.empty(len(counts)), np.empty(len(oriented.first))
    for signature, members in oriented.atoms.items():
        mask = torch.as_tensor(space.onsite_layout(signature).mask, dtype=torch.float64)
        first = [l * l for l in range(space.l_max + 1)]
        atoms[members] = (scales.onsite[signature][:, first] ** 2 * mask[first]).sum((1, 2)).numpy()
    for group, members in oriented.members.items():
        pairs[members] = (scales.pairs[group] ** 2).sum((1, 2)).numpy()
    n_elements = counts[oriented.first] * counts[oriented.second]
    return np.sqrt(atoms / (counts**2 * spin)), np.sqrt(pairs / (n_elements * spin))


def concatenate(parts: Sequence[Traits]) -> Traits:
    """One after the other."""
    return Traits(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Traits)})
