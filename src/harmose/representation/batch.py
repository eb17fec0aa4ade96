"""`GraphBatch`: graphs of several structures as tensors for a network."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from torch import Tensor

from harmose.core.graph import Graph
from harmose.representation.block_irreps import BlockIrreps, Coefficients, OrientedPairs, map_coefficients
from harmose.representation.layout import pair_frames


@dataclass(frozen=True)
class GraphBatch:
    """N atoms and P oriented pairs of several structures, sorted by shell type and by group.

    Attributes:
        species: species of each atom (N,).
        sample: structure of each atom (N,).
        first: first atom of each pair (P,).
        second: second atom of each pair (P,).
        pair_type: type of each pair (P,).
        vectors: from the first to the second atom (P, 3), angstrom.
        distance: their lengths (P,), angstrom.
        reach: distance at which the pair's block vanishes (P,), angstrom.
        rotation: rotations into the frames of the pairs (P, (l_max+1)^2, (l_max+1)^2), see `layout.pair_frames`.
        atom_counts: number of atoms of each shell type.
        pair_counts: number of pairs of each group.
        n_samples: number of structures.
        operators: by name, coefficients of other operators that the network reads, such as H0 and S.
    """

    species: Tensor
    sample: Tensor
    first: Tensor
    second: Tensor
    pair_type: Tensor
    vectors: Tensor
    distance: Tensor
    reach: Tensor
    rotation: Tensor
    atom_counts: tuple[int, ...]
    pair_counts: tuple[int, ...]
    n_samples: int = 1
    operators: Mapping[str, Coefficients] = field(default_factory=dict)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.species)

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return len(self.first)

    def atom_slice(self, shell_type: int) -> slice:
        """Return the rows of the atoms of a shell type."""
        start = sum(self.atom_counts[:shell_type])
        return slice(start, start + self.atom_counts[shell_type])

    def pair_slice(self, group: int) -> slice:
        """Return the rows of the pairs of a group, given by its number."""
        start = sum(self.pair_counts[:group])
        return slice(start, start + self.pair_counts[group])

    def to(self, device: torch.device | str) -> "GraphBatch":
        """Return the batch on another device."""
        if self.rotation.device == torch.device(device):
            return self
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        operators = {name: map_coefficients(lambda x: x.to(device), c) for name, c in self.operators.items()}
        moved = {n: t.to(device) for n, t in tensors.items() if isinstance(t, Tensor)}
        return replace(self, **moved, operators=operators)


def graph_batch(
    space: BlockIrreps, graph: Graph, oriented: OrientedPairs, dtype: torch.dtype = torch.float32
) -> GraphBatch:
    """Return a graph as a batch of one structure, its atoms and pairs in the order of `Coefficients`.

    Frames are computed in float64 and rounded to `dtype`.
    """
    atoms, pairs = oriented.atom_order, oriented.pair_order
    place = np.empty_like(atoms)
    place[atoms] = np.arange(len(atoms))
    species, first, second = oriented.species, oriented.first[pairs], oriented.second[pairs]
    radii = np.array([space.basis.radii[z] for z in space.elements])
    vectors = oriented.vectors[pairs]
    rows = torch.as_tensor(pairs)
    return GraphBatch(
        species=torch.as_tensor(species[atoms]),
        sample=torch.zeros(len(species), dtype=torch.int64),
        first=torch.as_tensor(place[first]),
        second=torch.as_tensor(place[second]),
        pair_type=torch.as_tensor(oriented.pair_type[pairs]),
        vectors=torch.as_tensor(vectors, dtype=dtype),
        distance=torch.as_tensor(np.linalg.norm(vectors, axis=1), dtype=dtype),
        reach=torch.as_tensor(radii[species[first]] + radii[species[second]], dtype=dtype),
        rotation=pair_frames([oriented.wigner(l)[rows] for l in range(space.l_max + 1)]).to(dtype),
        atom_counts=tuple(map(len, oriented.atoms.values())),
        pair_counts=tuple(map(len, oriented.pairs.values())),
    )
