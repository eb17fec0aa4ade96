"""From blocks to what a network regresses, and back.

Off-site blocks become irreps in the frame of their edge, on-site blocks irreps in the global frame (`so3.layout`). Both
changes of basis are orthonormal, are done once per sample in float64, and leave training free of block rotations and
Clebsch-Gordan products. Element pairs with the same shells share a layout: they form a *group*.

Spin adds irreps and nothing else: a block is that of the spin's real channels (`harmose.spin`), whose vectors turn with the
orbitals.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix, empty_matrix
from harmose.core.graph import Graph
from harmose.representation.layout import OnsiteLayout, PairLayout, onsite_layout, pair_layout, shells_frames
from harmose.so3.wigner import edge_wigner
from harmose.spin import Spin


@dataclass(frozen=True)
class BlockIrreps:
    """Which coefficients the blocks of a basis set have: groups of element pairs and the layout of each.

    `species` number elements by (shells, atomic number); a pair points from the lower to the higher species, so a block
    (i, j) may enter transposed. `pair_type` numbers the unordered pairs of species.
    """

    basis: BasisSet
    l_max: int
    spin: Spin = Spin.NONE

    @cached_property
    def elements(self) -> tuple[int, ...]:
        """Atomic number of each species."""
        return tuple(sorted(self.basis.elements, key=lambda z: (len(self.basis.degrees(z)), self.basis.degrees(z), z)))

    @cached_property
    def shell_types(self) -> tuple[tuple[int, ...], ...]:
        """The different tuples of shells, in the order of the species."""
        return tuple(dict.fromkeys(self.basis.degrees(z) for z in self.elements))

    @cached_property
    def shell_type(self) -> np.ndarray:
        """Signature of each species."""
        return np.array([self.shell_types.index(self.basis.degrees(z)) for z in self.elements])

    def species(self, numbers: np.ndarray) -> np.ndarray:
        """Species of each atom; `BasisError` for an element outside the basis."""
        self.basis.reach(numbers)
        table = np.full(max(self.elements) + 1, -1)
        table[list(self.elements)] = np.arange(len(self.elements))
        return table[np.asarray(numbers)]

    def pair_type(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Number of the unordered pair of species, low <= high."""
        return low * len(self.elements) + high

    @cached_property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """Pairs of signatures (a <= b)."""
        n = len(self.shell_types)
        return tuple((a, b) for a in range(n) for b in range(a, n))

    def group(self, low: int, high: int) -> tuple[int, int]:
        """Group of the pairs of two species, low <= high."""
        return int(self.shell_type[low]), int(self.shell_type[high])

    def is_symmetric(self, pair_type: int) -> bool:
        """True if a pair type is that of two like atoms."""
        low, high = divmod(pair_type, len(self.elements))
        return low == high

    def pair_name(self, pair_type: int) -> str:
        """Atomic numbers of a pair type, such as "1-8"."""
        return "-".join(str(self.elements[s]) for s in divmod(pair_type, len(self.elements)))

    def pair_layout(self, group: tuple[int, int]) -> PairLayout:
        return pair_layout(self.shell_types[group[0]], self.shell_types[group[1]], self.l_max, self.spin)

    def onsite_layout(self, shell_type: int) -> OnsiteLayout:
        return onsite_layout(self.shell_types[shell_type], self.l_max, self.spin)

    def orient(self, graph: Graph) -> "OrientedPairs":
        """The graph's pairs, each turned to point from the lower to the higher species."""
        species = self.species(graph.numbers)
        first, second = graph.pairs[:, 0], graph.pairs[:, 1]
        flipped = species[first] > species[second]
        first, second = np.where(flipped, second, first), np.where(flipped, first, second)
        vectors = np.where(flipped[:, None], -graph.vectors, graph.vectors)
        pair_signature = self.shell_type[species[first]], self.shell_type[species[second]]
        members = {(a, b): np.flatnonzero((pair_signature[0] == a) & (pair_signature[1] == b)) for a, b in self.groups}
        pair_type = self.pair_type(species[first], species[second])
        atoms = {s: np.flatnonzero(self.shell_type[species] == s) for s in range(len(self.shell_types))}
        return OrientedPairs(species, first, second, vectors, flipped, pair_type, members, atoms)


@dataclass(frozen=True)
class OrientedPairs:
    """species (N,); first, second, kind, flipped (P,); vectors (P, 3) from first to second, in the graph's order.

    `members[group]` are the pairs of each group, `atoms[signature]` the atoms of each signature.
    """

    species: np.ndarray
    first: np.ndarray
    second: np.ndarray
    vectors: np.ndarray
    flipped: np.ndarray
    pair_type: np.ndarray
    pairs: Mapping[tuple[int, int], np.ndarray]
    atoms: Mapping[int, np.ndarray]

    def wigner(self, degree: int) -> Tensor:
        """D(degree) that takes every pair's vector to +z, float64 (P, 2l+1, 2l+1); made once."""
        if degree not in self._wigner:
            self._wigner[degree] = torch.from_numpy(edge_wigner(degree, self.vectors))
        return self._wigner[degree]

    @cached_property
    def _wigner(self) -> dict[int, Tensor]:
        return {}

    def forget_rotations(self) -> None:
        """Give back the memory that `wigner` keeps."""
        self._wigner.clear()

    @property
    def pair_order(self) -> np.ndarray:
        """All pairs, group after group."""
        return np.concatenate(list(self.pairs.values()))

    @property
    def atom_order(self) -> np.ndarray:
        """All atoms, signature after signature."""
        return np.concatenate(list(self.atoms.values()))


@dataclass(frozen=True)
class Coefficients:
    """Irreps of one operator, in eV, or anything of the same shape.

    pairs[group] (P_group, S, K) in the edge frames; onsite[signature] (N_signature, (l_max+1)^2, K) in the global frame.
    """

    pairs: dict[tuple[int, int], Tensor]
    onsite: dict[int, Tensor]


def map_coefficients(function: Callable[..., Tensor], *c: Coefficients) -> Coefficients:
    """A function of tensors, applied to every group and signature."""
    return Coefficients(
        {g: function(*(x.pairs[g] for x in c)) for g in c[0].pairs},
        {s: function(*(x.onsite[s] for x in c)) for s in c[0].onsite},
    )


def _into_frames(space: BlockIrreps, oriented: OrientedPairs, group: tuple[int, int]) -> list[Tensor]:
    """Rotations of the shells of both atoms into the frames of the group's pairs."""
    members = torch.as_tensor(oriented.pairs[group])
    wigner = [oriented.wigner(l)[members] for l in range(space.basis.l_max + 1)]
    frames = {s: shells_frames(space.shell_types[s], wigner) for s in set(group)}
    return [frames[s] for s in group]


def _turn_spin(space: BlockIrreps, oriented: OrientedPairs, group: tuple[int, int]) -> Tensor | None:
    """Rotations of the channels into the frames of the group's pairs (P_group, C, C); None where none of them turns."""
    degrees = tuple(channel.degree for channel in space.spin.channels)
    if not any(degrees):
        return None
    members = torch.as_tensor(oriented.pairs[group])
    return shells_frames(degrees, [oriented.wigner(l)[members] for l in range(max(degrees) + 1)])


def _flip(space: BlockIrreps, oriented: OrientedPairs, group: tuple[int, int], blocks: Tensor) -> Tensor:
    """Blocks (P_group, C, n_a, n_b), of which those that entered transposed get the signs of their channels."""
    signs = [channel.adjoint for channel in space.spin.channels for _ in range(2 * channel.degree + 1)]
    if min(signs) > 0:
        return blocks
    flipped = torch.as_tensor(oriented.flipped[oriented.pairs[group]])[:, None]
    return blocks * torch.where(flipped, torch.tensor(signs), 1)[:, :, None, None]


def _locate(space: BlockIrreps, matrix: BlockMatrix, oriented: OrientedPairs, group: tuple[int, int]) -> np.ndarray:
    """Positions in `matrix.values` of the group's blocks, oriented: (P_group, n_a, n_b)."""
    members = oriented.pairs[group]
    n_a, n_b = (sum(2 * l + 1 for l in space.shell_types[s]) for s in group)
    start = matrix.offsets[len(oriented.species) + members][:, None, None]
    straight = start + np.arange(n_a * n_b).reshape(n_a, n_b)
    turned = start + np.arange(n_a * n_b).reshape(n_b, n_a).T
    return np.where(oriented.flipped[members][:, None, None], turned, straight)


def _locate_onsite(space: BlockIrreps, matrix: BlockMatrix, oriented: OrientedPairs, shell_type: int) -> np.ndarray:
    n = sum(2 * l + 1 for l in space.shell_types[shell_type])
    return matrix.offsets[oriented.atoms[shell_type]][:, None, None] + np.arange(n * n).reshape(n, n)


def to_coefficients(space: BlockIrreps, matrix: BlockMatrix, oriented: OrientedPairs) -> Coefficients:
    """Blocks of an operator of the space's spin as irreps, float64."""
    values, pairs, onsite = torch.as_tensor(matrix.spin.to_channels(matrix.values)), {}, {}
    for group in space.groups:
        layout = space.pair_layout(group)
        blocks = values[:, torch.as_tensor(_locate(space, matrix, oriented, group))].movedim(0, 1)
        left, right = _into_frames(space, oriented, group)
        in_frame = left[:, None] @ _flip(space, oriented, group, blocks) @ right.mT[:, None]
        turn = _turn_spin(space, oriented, group)
        in_frame = in_frame.flatten(1) if turn is None else (turn @ in_frame.flatten(2)).flatten(1)
        pairs[group] = layout.to_coefficients(in_frame).unflatten(1, (layout.n_slots, layout.n_irreps))
    for s in range(len(space.shell_types)):
        layout = space.onsite_layout(s)
        blocks = values[:, torch.as_tensor(_locate_onsite(space, matrix, oriented, s))].movedim(0, 1).flatten(1)
        onsite[s] = layout.to_coefficients(blocks).unflatten(1, layout.mask.shape)
    return Coefficients(pairs, onsite)


def to_matrix(space: BlockIrreps, coefficients: Coefficients, graph: Graph, oriented: OrientedPairs) -> BlockMatrix:
    """The inverse of `to_coefficients`."""
    matrix = empty_matrix(space.basis, graph.numbers, graph.pairs, space.spin)
    values = torch.zeros(space.spin.n_channels, matrix.values.shape[1], dtype=torch.float64)
    for group, layout_values in coefficients.pairs.items():
        if not len(layout_values):
            continue
        layout = space.pair_layout(group)
        left, right = _into_frames(space, oriented, group)
        in_frame = layout.to_blocks(layout_values.double().flatten(1))
        in_frame = in_frame.unflatten(1, (len(values), left.shape[1], right.shape[1]))
        turn = _turn_spin(space, oriented, group)
        if turn is not None:
            in_frame = (turn.mT @ in_frame.flatten(2)).unflatten(2, in_frame.shape[2:])
        blocks = _flip(space, oriented, group, left.mT[:, None] @ in_frame @ right[:, None])
        values[:, torch.as_tensor(_locate(space, matrix, oriented, group))] = blocks.movedim(1, 0)
    for s, onsite in coefficients.onsite.items():
        if not len(onsite):
            continue
        layout = space.onsite_layout(s)
        where = torch.as_tensor(_locate_onsite(space, matrix, oriented, s))
        blocks = layout.to_blocks(onsite.double().flatten(1)).reshape(len(where), len(values), *where.shape[1:])
        values[:, where] = blocks.movedim(1, 0)
    return matrix.with_values(space.spin.from_channels(values.numpy()))
