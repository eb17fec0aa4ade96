"""Blocks of an operator as irreducible representations (irreps) of O(3), the numbers that models learn, and back.

Blocks between two atoms become irreps in the frame of their edge, on-site blocks irreps in the global frame (`layout`). Both
changes of basis are orthonormal. They are made once for a sample, in float64, so that a model needs neither rotations of blocks
nor Clebsch-Gordan products. Pairs whose elements have the same shells share a layout; they form a group.

Spin adds irreps and nothing else: a block consists of the real channels of its spin (`harmose.spin`), whose vectors rotate with
the orbitals.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor

from harmose.core.basis import BasisSet, n_orbitals
from harmose.core.blocks import BlockMatrix, empty_matrix
from harmose.core.graph import Graph
from harmose.errors import ModelError
from harmose.representation.layout import OnsiteLayout, PairLayout, onsite_layout, pair_layout, shells_frames
from harmose.so3.wigner import edge_wigner
from harmose.spin import Spin

MOMENTS = {1: "moment up", -1: "moment down", 0: "no moment"}
"""Words for the sign of a moment."""


@dataclass(frozen=True)
class BlockIrreps:
    """The irreps of all blocks of a basis set.

    Species are elements, numbered by (shells, atomic number). A pair points from the lower to the higher species, so that a
    block (i, j) may enter transposed. A pair type is an unordered pair of species, a shell type a tuple of l, a group a pair of
    shell types.

    With magnetic moments as input, atoms of an element whose initial moments point up, down, or vanish are different species.

    Attributes:
        basis: the basis set.
        l_max: largest degree L of the irreps.
        spin: spin of the operators.
        moments: the pairs of atomic number and sign of the initial moment (1, -1 or 0) that are species; empty where moments
            are no input.
    """

    basis: BasisSet
    l_max: int
    spin: Spin = Spin.NONE
    moments: tuple[tuple[int, int], ...] = ()

    @cached_property
    def kinds(self) -> tuple[tuple[int, int], ...]:
        """Atomic number of each species, and the sign of its moment, 0 where moments are no input."""
        kinds, degrees = self.moments or [(z, 0) for z in self.basis.elements], self.basis.degrees
        return tuple(sorted(kinds, key=lambda kind: (len(degrees(kind[0])), degrees(kind[0]), *kind)))

    @cached_property
    def elements(self) -> tuple[int, ...]:
        """Atomic number of each species."""
        return tuple(z for z, _ in self.kinds)

    @cached_property
    def shell_types(self) -> tuple[tuple[int, ...], ...]:
        """Tuple of l of each shell type, in the order of the species."""
        return tuple(dict.fromkeys(self.basis.degrees(z) for z in self.elements))

    @cached_property
    def shell_type(self) -> np.ndarray:
        """Shell type of each species."""
        return np.array([self.shell_types.index(self.basis.degrees(z)) for z in self.elements])

    def species(self, numbers: np.ndarray, moment_signs: np.ndarray | None = None) -> np.ndarray:
        """Return the species of atoms (N,), from atomic numbers and, if they are species, the signs of their moments.

        Raises `BasisError` for an element that the basis set lacks, `ModelError` for moments that the training set lacks.
        """
        self.basis.reach(numbers)  # raises the error
        numbers, signs = np.asarray(numbers), np.zeros(len(numbers), dtype=np.int64)
        if self.moments and len(numbers):
            if moment_signs is None:
                raise ModelError("expected initial magnetic moments of the atoms, which the model reads, got none")
            signs = np.asarray(moment_signs)
        table = np.full((max(self.basis.elements) + 1, 3), -1)
        z, sign = np.array(self.kinds).T
        table[z, sign + 1] = np.arange(len(self.kinds))
        species = table[numbers, signs + 1]
        if (species < 0).any():
            self._raise_unknown(int(numbers[species < 0][0]), int(signs[species < 0][0]))
        return species

    def _raise_unknown(self, number: int, sign: int) -> None:
        learned = " or ".join(MOMENTS[sign] for z, sign in self.kinds if z == number) or "no such atom"
        raise ModelError(
            f"expected initial magnetic moments of the training set for {chemical_symbols[number]} ({learned}), got {MOMENTS[sign]}"
        )

    def pair_type(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return the pair type of two species, low <= high."""
        return low * len(self.elements) + high

    @cached_property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """All pairs of shell types (a, b), a <= b."""
        n = len(self.shell_types)
        return tuple((a, b) for a in range(n) for b in range(a, n))

    def group(self, low: int, high: int) -> tuple[int, int]:
        """Return the group of two species, low <= high."""
        return int(self.shell_type[low]), int(self.shell_type[high])

    def is_symmetric(self, pair_type: int) -> bool:
        """Return True if a pair type is that of two like atoms."""
        low, high = divmod(pair_type, len(self.elements))
        return low == high

    def pair_name(self, pair_type: int) -> str:
        """Return the atomic numbers of a pair type, such as "1-8", and their moments where these are species."""
        kinds = [self.kinds[s] for s in divmod(pair_type, len(self.elements))]
        return "-".join(f"{z} ({MOMENTS[sign]})" if self.moments else str(z) for z, sign in kinds)

    def pair_layout(self, group: tuple[int, int]) -> PairLayout:
        """Return the layout of blocks between atoms of two shell types."""
        return pair_layout(self.shell_types[group[0]], self.shell_types[group[1]], self.l_max, self.spin)

    def onsite_layout(self, shell_type: int) -> OnsiteLayout:
        """Return the layout of on-site blocks of a shell type."""
        return onsite_layout(self.shell_types[shell_type], self.l_max, self.spin)

    def orient(self, graph: Graph) -> "OrientedPairs":
        """Return the pairs of a graph, each turned to point from the lower to the higher species."""
        species = self.species(graph.numbers, graph.moment_signs)
        first, second = graph.pairs[:, 0], graph.pairs[:, 1]
        swapped = species[first] > species[second]
        first, second = np.where(swapped, second, first), np.where(swapped, first, second)
        vectors = np.where(swapped[:, None], -graph.vectors, graph.vectors)
        low, high = self.shell_type[species[first]], self.shell_type[species[second]]
        pairs = {(a, b): np.flatnonzero((low == a) & (high == b)) for a, b in self.groups}
        pair_type = self.pair_type(species[first], species[second])
        atoms = {s: np.flatnonzero(self.shell_type[species] == s) for s in range(len(self.shell_types))}
        return OrientedPairs(species, first, second, vectors, swapped, pair_type, pairs, atoms)


@dataclass(frozen=True)
class OrientedPairs:
    """The P pairs of a graph, from the lower to the higher species, in the graph's order.

    Attributes:
        species: species of each atom (N,).
        first: first atom of each pair (P,).
        second: second atom of each pair (P,).
        vectors: from the first to the second atom (P, 3), angstrom.
        swapped: True where the pair points against the graph's (P,), so that its block enters transposed.
        pair_type: type of each pair (P,).
        pairs: by group, numbers of its pairs.
        atoms: by shell type, numbers of its atoms.
    """

    species: np.ndarray
    first: np.ndarray
    second: np.ndarray
    vectors: np.ndarray
    swapped: np.ndarray
    pair_type: np.ndarray
    pairs: Mapping[tuple[int, int], np.ndarray]
    atoms: Mapping[int, np.ndarray]

    def wigner(self, degree: int) -> Tensor:
        """Return D(degree) of the rotations that take the vectors to +z, float64 (P, 2l+1, 2l+1); computed once."""
        if degree not in self._wigner:
            self._wigner[degree] = torch.from_numpy(edge_wigner(degree, self.vectors))
        return self._wigner[degree]

    @cached_property
    def _wigner(self) -> dict[int, Tensor]:
        return {}

    def forget_rotations(self) -> None:
        """Free the memory of the matrices that `wigner` has computed."""
        self._wigner.clear()

    def coefficients(
        self,
        of_pairs: Callable[[tuple[int, int], np.ndarray], Tensor],
        of_atoms: Callable[[int, np.ndarray], Tensor],
    ) -> "Coefficients":
        """Return the values of two functions: of each group and its pairs, and of each shell type and its atoms."""
        return Coefficients(
            {group: of_pairs(group, pairs) for group, pairs in self.pairs.items()},
            {shell_type: of_atoms(shell_type, atoms) for shell_type, atoms in self.atoms.items()},
        )

    @property
    def pair_order(self) -> np.ndarray:
        """All pairs (P,), group after group."""
        return np.concatenate(list(self.pairs.values()))

    @property
    def atom_order(self) -> np.ndarray:
        """All atoms (N,), shell type after shell type."""
        return np.concatenate(list(self.atoms.values()))


@dataclass(frozen=True)
class Coefficients:
    """Irreps of an operator, in its unit, or anything of the same shape.

    Attributes:
        pairs: by group, in the edge frames (P_group, S, K).
        onsite: by shell type, in the global frame (N_type, (l_max+1)^2, K).
    """

    pairs: dict[tuple[int, int], Tensor]
    onsite: dict[int, Tensor]


def map_coefficients(function: Callable[..., Tensor], *c: Coefficients) -> Coefficients:
    """Apply a function of tensors to each group and each shell type."""
    return Coefficients(
        {g: function(*(x.pairs[g] for x in c)) for g in c[0].pairs},
        {s: function(*(x.onsite[s] for x in c)) for s in c[0].onsite},
    )


def _block_frames(space: BlockIrreps, oriented: OrientedPairs, group: tuple[int, int]) -> list[Tensor]:
    """Rotations of the orbitals of both atoms into the frames of a group's pairs."""
    pairs = torch.as_tensor(oriented.pairs[group])
    wigner = [oriented.wigner(l)[pairs] for l in range(space.basis.l_max + 1)]
    frames = {s: shells_frames(space.shell_types[s], wigner) for s in set(group)}
    return [frames[s] for s in group]


def _channel_frames(space: BlockIrreps, oriented: OrientedPairs, group: tuple[int, int]) -> Tensor | None:
    """Rotations of the channels into the frames of a group's pairs (P_group, C, C); None if all channels are scalars."""
    degrees = tuple(channel.degree for channel in space.spin.channels)
    if not any(degrees):
        return None
    pairs = torch.as_tensor(oriented.pairs[group])
    return shells_frames(degrees, [oriented.wigner(l)[pairs] for l in range(max(degrees) + 1)])


def _sign_adjoints(space: BlockIrreps, oriented: OrientedPairs, group: tuple[int, int], blocks: Tensor) -> Tensor:
    """Blocks (P_group, C, n_a, n_b), those that enter transposed times the signs of their channels."""
    signs = [channel.adjoint for channel in space.spin.channels for _ in range(2 * channel.degree + 1)]
    if min(signs) > 0:
        return blocks
    swapped = torch.as_tensor(oriented.swapped[oriented.pairs[group]])[:, None]
    return blocks * torch.where(swapped, torch.tensor(signs), 1)[:, :, None, None]


def _pair_places(space: BlockIrreps, matrix: BlockMatrix, oriented: OrientedPairs, group: tuple[int, int]) -> Tensor:
    """Positions in `matrix.values` of a group's blocks, transposed where they enter so (P_group, n_a, n_b)."""
    pairs = oriented.pairs[group]
    n_a, n_b = (n_orbitals(space.shell_types[s]) for s in group)
    place = np.arange(n_a * n_b)
    place = np.where(oriented.swapped[pairs][:, None, None], place.reshape(n_b, n_a).T, place.reshape(n_a, n_b))
    return torch.as_tensor(matrix.offsets[len(oriented.species) + pairs][:, None, None] + place)


def _onsite_places(space: BlockIrreps, matrix: BlockMatrix, oriented: OrientedPairs, shell_type: int) -> Tensor:
    """Positions in `matrix.values` of the on-site blocks of a shell type (N_type, n, n)."""
    n = n_orbitals(space.shell_types[shell_type])
    place = np.arange(n * n).reshape(n, n)
    return torch.as_tensor(matrix.offsets[oriented.atoms[shell_type]][:, None, None] + place)


def to_coefficients(space: BlockIrreps, matrix: BlockMatrix, oriented: OrientedPairs) -> Coefficients:
    """Return the irreps of the blocks of an operator, float64."""
    values, pairs, onsite = torch.as_tensor(matrix.spin.to_channels(matrix.values)), {}, {}
    for group in space.groups:
        layout = space.pair_layout(group)
        blocks = values[:, _pair_places(space, matrix, oriented, group)].movedim(0, 1)
        left, right = _block_frames(space, oriented, group)
        blocks = left[:, None] @ _sign_adjoints(space, oriented, group, blocks) @ right.mT[:, None]
        turn = _channel_frames(space, oriented, group)
        blocks = blocks.flatten(1) if turn is None else (turn @ blocks.flatten(2)).flatten(1)
        pairs[group] = layout.to_coefficients(blocks).unflatten(1, (layout.n_slots, layout.n_irreps))
    for s in range(len(space.shell_types)):
        layout = space.onsite_layout(s)
        blocks = values[:, _onsite_places(space, matrix, oriented, s)].movedim(0, 1).flatten(1)
        onsite[s] = layout.to_coefficients(blocks).unflatten(1, layout.mask.shape)
    return Coefficients(pairs, onsite)


def to_matrix(space: BlockIrreps, coefficients: Coefficients, graph: Graph, oriented: OrientedPairs) -> BlockMatrix:
    """Return the operator with these irreps: the inverse of `to_coefficients`."""
    matrix = empty_matrix(space.basis, graph.numbers, graph.pairs, space.spin)
    values = torch.zeros(space.spin.n_channels, matrix.values.shape[1], dtype=torch.float64)
    for group, irreps in coefficients.pairs.items():
        if not len(irreps):
            continue
        left, right = _block_frames(space, oriented, group)
        blocks = space.pair_layout(group).to_blocks(irreps.double().flatten(1))
        blocks = blocks.unflatten(1, (len(values), left.shape[1], right.shape[1]))
        turn = _channel_frames(space, oriented, group)
        if turn is not None:
            blocks = (turn.mT @ blocks.flatten(2)).unflatten(2, blocks.shape[2:])
        blocks = _sign_adjoints(space, oriented, group, left.mT[:, None] @ blocks @ right[:, None])
        values[:, _pair_places(space, matrix, oriented, group)] = blocks.movedim(1, 0)
    for s, irreps in coefficients.onsite.items():
        if len(irreps):
            places = _onsite_places(space, matrix, oriented, s)
            blocks = space.onsite_layout(s).to_blocks(irreps.double().flatten(1))
            values[:, places] = blocks.reshape(len(places), len(values), *places.shape[1:]).movedim(1, 0)
    return matrix.with_values(space.spin.from_channels(values.numpy()))
