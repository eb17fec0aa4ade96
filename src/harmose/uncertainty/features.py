"""Features of the error model: numbers that predict the error of a block without its label."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from harmose.representation.block_irreps import BlockIrreps, Coefficients, OrientedPairs
from harmose.representation.concatenation import ConcatenatedGraph


@dataclass(frozen=True, eq=False)
class ErrorFeatures:
    """Features of B blocks, in the order of the matrix.

    Attributes:
        block_type: the pair type of a block between two atoms, or -1 - species of a block on an atom (B,).
        size: rms in eV of an element of leave-one-group-out residuals of the training set, at this distance (B,).
        ood_score: mean out-of-domain score of the two atoms (B,).
        last_layer_std: standard deviation v of the last layer (B,).
        regression_std: standard deviation u of the regression, one where the training set has many such environments (B,).
        distance: distance of the two atoms in angstrom (B,).
        elements: number of elements of the whole matrix that the block stands for (B,).
        atom_ood_score: out-of-domain score of each atom (N,).
    """

    block_type: np.ndarray
    size: np.ndarray
    ood_score: np.ndarray
    last_layer_std: np.ndarray
    regression_std: np.ndarray
    distance: np.ndarray
    elements: np.ndarray
    atom_ood_score: np.ndarray

    def split(self, concatenated: ConcatenatedGraph) -> list["ErrorFeatures"]:
        """Return the features of each sample."""
        n_atoms = len(concatenated.atom_sample)
        owner = np.concatenate([concatenated.atom_sample, concatenated.pair_sample])
        names = [f.name for f in fields(self) if f.name != "atom_ood_score"]
        return [
            ErrorFeatures(
                **{name: getattr(self, name)[owner == k] for name in names},
                atom_ood_score=self.atom_ood_score[owner[:n_atoms] == k],
            )
            for k in range(concatenated.n_samples)
        ]


def error_features(
    space: BlockIrreps,
    concatenated: ConcatenatedGraph,
    scales: Coefficients,
    ood_scores: np.ndarray,
    last_layer_std: tuple[np.ndarray, np.ndarray],
    regression_std: np.ndarray,
) -> ErrorFeatures:
    """Return the features of all blocks of some structures.

    `scales` of the normalizer in eV; `ood_scores` (N,) of the atoms; standard deviations of the last layer for atoms (N,) and
    pairs (P,), in the order of the network's batch; `regression_std` (B,) of the blocks.
    """
    oriented, numbers = concatenated.oriented, concatenated.graph.numbers
    std = np.empty(len(numbers) + len(oriented.first))
    std[oriented.atom_order], std[len(numbers) + oriented.pair_order] = last_layer_std
    size = block_sizes(space, oriented, numbers, scales)
    return features_of_blocks(space, oriented, numbers, size, ood_scores, std, regression_std)


def features_of_blocks(
    space: BlockIrreps,
    oriented: OrientedPairs,
    numbers: np.ndarray,
    size: np.ndarray,
    ood_scores: np.ndarray,
    last_layer_std: np.ndarray,
    regression_std: np.ndarray,
) -> ErrorFeatures:
    """Return the features of the blocks of a graph with these atomic numbers (N,), from values in the order of the blocks (B,)."""
    n_atoms, counts = len(numbers), space.basis.counts(numbers)
    return ErrorFeatures(
        block_type=np.concatenate([-1 - oriented.species, oriented.pair_type]),
        size=size,
        ood_score=np.concatenate([ood_scores, (ood_scores[oriented.first] + ood_scores[oriented.second]) / 2]),
        last_layer_std=last_layer_std,
        regression_std=regression_std,
        distance=np.concatenate([np.zeros(n_atoms), np.linalg.norm(oriented.vectors, axis=1)]),
        elements=np.concatenate([counts**2, 2 * counts[oriented.first] * counts[oriented.second]]),
        atom_ood_score=ood_scores,
    )


def block_sizes(space: BlockIrreps, oriented: OrientedPairs, numbers: np.ndarray, scales: Coefficients) -> np.ndarray:
    """Return the rms in eV of an element of each block (B,) with these scales of its irreps in eV."""
    counts, n_components = space.basis.counts(numbers), space.spin.n_components
    atoms, pairs = np.empty(len(counts)), np.empty(len(oriented.first))
    for shell_type, members in oriented.atoms.items():
        mask = torch.as_tensor(space.onsite_layout(shell_type).mask, dtype=torch.float64)
        first = [l * l for l in range(space.l_max + 1)]  # the scale of an irrep is that of all its components together
        atoms[members] = (scales.onsite[shell_type][:, first] ** 2 * mask[first]).sum((1, 2)).numpy()
    for group, members in oriented.pairs.items():
        pairs[members] = (scales.pairs[group] ** 2).sum((1, 2)).numpy()
    n_elements = np.concatenate([counts**2, counts[oriented.first] * counts[oriented.second]])
    return np.sqrt(np.concatenate([atoms, pairs]) / (n_elements * n_components))


def concatenate(parts: Sequence[ErrorFeatures]) -> ErrorFeatures:
    """Concatenate the features of several structures."""
    return ErrorFeatures(
        **{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(ErrorFeatures)}
    )
