"""Several samples as one graph of unconnected parts, and their matrices as coefficients in eV, float64."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import Graph, build_graph
from harmose.core.sample import Sample, relative_to_fermi_level
from harmose.errors import FormatError, MatrixError
from harmose.physics.charges import ChargeState, charge_state
from harmose.representation.batch import GraphBatch, graph_batch
from harmose.representation.block_irreps import (
    BlockIrreps,
    Coefficients,
    OrientedPairs,
    map_coefficients,
    to_coefficients,
    to_matrix,
)
from harmose.representation.charge_features import ChargeFeatures
from harmose.representation.normalizer import denormalize
from harmose.spin import Spin, magnetic_part

MAGNETIC = 1e-3
"""eV: a spinor H whose part that is odd under time reversal is smaller has none, but for rounding in the calculation."""


def block_irreps(basis: BasisSet, spin: Spin = Spin.NONE) -> BlockIrreps:
    """All degrees that blocks of this basis set couple to: L = 0 ... 2 l_max, and one more with vectors of spin."""
    return BlockIrreps(basis, 2 * basis.l_max + max(channel.degree for channel in spin.channels), spin)


@dataclass(frozen=True)
class ConcatenatedGraph:
    """Several structures as one graph of unconnected parts. atom_sample (N,), pair_sample (P,): whose each one is."""

    graph: Graph
    oriented: OrientedPairs
    atom_sample: np.ndarray
    pair_sample: np.ndarray
    n_samples: int

    @property
    def pair_counts(self) -> np.ndarray:
        """Pairs of each sample in each group (n_samples, n_groups)."""
        return self._counts(self.pair_sample, self.oriented.pairs.values())

    @property
    def atom_counts(self) -> np.ndarray:
        """Atoms of each sample of each signature (n_samples, n_signatures)."""
        return self._counts(self.atom_sample, self.oriented.atoms.values())

    def _counts(self, owner: np.ndarray, parts: Iterable[np.ndarray]) -> np.ndarray:
        return np.stack([np.bincount(owner[part], minlength=self.n_samples) for part in parts], axis=1)

    def values(self, operators: Sequence[BlockMatrix]) -> np.ndarray:
        """Values (n_components, size) of one operator of each structure, in the joined graph's block order."""
        parts = [(m.values, m.offsets[len(m.numbers)]) for m in operators]
        return np.concatenate([v[:, :n] for v, n in parts] + [v[:, n:] for v, n in parts], axis=1)

    def matrix(self, space: BlockIrreps, values: np.ndarray) -> BlockMatrix:
        """The joined operator."""
        return BlockMatrix(space.basis, self.graph.numbers, self.graph.pairs, values, space.spin)

    def of_values(self, of_samples: np.ndarray, matrix: BlockMatrix) -> np.ndarray:
        """Something of each sample, for each value of the joined matrix (size,)."""
        return np.repeat(of_samples[np.concatenate([self.atom_sample, self.pair_sample])], np.diff(matrix.offsets))

    def split(self, matrix: BlockMatrix, graphs: Sequence[Graph]) -> list[BlockMatrix]:
        """The inverse of `values`: the joined operator's blocks of each structure."""
        if len(graphs) == 1:
            return [matrix]
        n_atoms, n_pairs = (np.cumsum([0, *sizes]) for sizes in zip(*((g.n_atoms, g.n_pairs) for g in graphs)))
        onsite, pairs, v = matrix.offsets[n_atoms], matrix.offsets[len(self.atom_sample) + n_pairs], matrix.values
        return [
            BlockMatrix(matrix.basis, g.numbers, g.pairs, np.concatenate([v[:, a:b], v[:, c:d]], axis=1), matrix.spin)
            for g, a, b, c, d in zip(graphs, onsite, onsite[1:], pairs, pairs[1:])
        ]


def concatenate(space: BlockIrreps, graphs: Sequence[Graph]) -> ConcatenatedGraph:
    """Atoms of one structure after the other, pairs too; orientations of `space`."""
    starts = np.cumsum([0, *(g.n_atoms for g in graphs)])
    shift = np.array([1, 1, 0, 0, 0])
    graph = Graph(
        np.concatenate([g.numbers for g in graphs]),
        np.concatenate([g.pairs + start * shift for g, start in zip(graphs, starts)]),
        np.concatenate([g.vectors for g in graphs]),
    )
    number = np.arange(len(graphs))
    atoms = np.repeat(number, [g.n_atoms for g in graphs])
    return ConcatenatedGraph(
        graph, space.orient(graph), atoms, np.repeat(number, [g.n_pairs for g in graphs]), len(graphs)
    )


CORE = 0.1
"""Where more of a molecule's electrons than this share are hidden in cores, its charges cannot be counted."""


@dataclass(frozen=True)
class TargetSettings:
    """What is learned of a sample: H, in the gauge in which its Fermi level is zero with `fermi`; less H0 with `prior`.

    `operators` are those that the network or the loss reads besides: H0 ("prior"), S ("overlap"), and the density matrix of
    H0 ("density", `harmose.physics.charges`), which the closed form reads too.
    """

    prior: bool = False
    fermi: bool = False
    operators: tuple[str, ...] = ()

    def sample(self, sample: Sample) -> Sample:
        """The sample in the target's gauge."""
        return relative_to_fermi_level(sample) if self.fermi else sample

    def of(self, sample: Sample) -> BlockMatrix:
        """`FormatError` for a sample without H0, S or Fermi level where it is needed."""
        h = self.sample(sample).hamiltonian
        if not self.prior:
            return h
        return h - self.operator(sample, "prior")

    @property
    def reads_charges(self) -> bool:
        """Whether what the electrons of H0 do is to be known."""
        return "density" in self.operators

    def state(self, sample: Sample) -> ChargeState:
        """What the electrons of the sample's H0 do; `FormatError` where H0, S or their number are not known."""
        n = sample.n_electrons
        if n is None:
            raise FormatError(
                f"sample {sample.name}: expected the number of electrons, for the density of H0, got none"
            )
        prior, overlap = self.operator(sample, "prior"), self.operator(sample, "overlap")
        return molecule_charge_state(sample.structure, prior, overlap, n, f"sample {sample.name}")

    def operator(self, sample: Sample, name: str) -> BlockMatrix:
        """H0 ("prior") or S ("overlap") of a sample, as an operator of H's spin; `FormatError` where it has none."""
        found = sample.prior if name == "prior" else sample.overlap
        if found is None:
            what = {"prior": "a prior H0", "overlap": "an overlap S"}[name]
            raise FormatError(f"sample {sample.name}: expected {what}, which the configuration asks for, got none")
        return with_spin(found, sample.spin)


def molecule_charge_state(
    atoms: Atoms, prior: BlockMatrix, overlap: BlockMatrix, n_electrons: float, where: str
) -> ChargeState:
    """`charge_state` of a molecule of closed shells whose electrons are all in its basis set; `FormatError` else."""
    if atoms.pbc.any() or prior.spin is not Spin.NONE:
        kind = f"pbc {atoms.pbc.tolist()}" if atoms.pbc.any() else f"spin {prior.spin}"
        raise FormatError(f"{where}: expected a molecule without spin, for the density of H0, got {kind}")
    if abs(atoms.numbers.sum() - n_electrons) > CORE * atoms.numbers.sum():
        raise FormatError(
            f"{where}: expected all {atoms.numbers.sum()} electrons, for the density of H0, got {n_electrons:g}: the others "
            f"are in effective core potentials"
        )
    return charge_state(prior, overlap, atoms.positions, n_electrons)


def with_spin(operator: BlockMatrix, spin: Spin) -> BlockMatrix:
    """An operator that knows no spin, such as S, as one of `spin`: the same for up and down, nothing between them."""
    if operator.spin is spin:
        return operator
    diagonal = {Spin.NONE: [1.0], Spin.COLLINEAR: [1.0, 1.0], Spin.SPINOR: [1.0, 0.0, 0.0, 1.0]}[spin]
    values = (np.array(diagonal)[:, None] * np.real(operator.values[:1])).astype(spin.dtype)
    return BlockMatrix(operator.basis, operator.numbers, operator.pairs, values, spin)


def sample_graph(sample: Sample, space: BlockIrreps) -> Graph:
    """The sample's graph; `MatrixError` that names the sample unless its matrix is of the space's spin, has exactly the
    graph's blocks and, if of spinors, is symmetric under time reversal: structures say nothing of magnetic moments.

    A block that a code leaves out because it is zero has been filled in, or refused, by its reader (`io.assembly`).
    """
    graph = build_graph(sample.structure, space.basis)
    if sample.spin is not space.spin:
        raise MatrixError(f"sample {sample.name}: expected spin {space.spin}, got {sample.spin}")
    if space.spin is Spin.SPINOR:
        odd = float(np.abs(magnetic_part(sample.hamiltonian.values)).max(initial=0.0))
        if odd > MAGNETIC:
            raise MatrixError(f"sample {sample.name}: expected H symmetric under time reversal, as without magnetic "
                              f"moments, got a part of {odd:.2g} eV that is not")  # fmt: skip
    if np.array_equal(sample.hamiltonian.pairs, graph.pairs):
        return graph
    stored, known = (set(map(tuple, np.asarray(p).tolist())) for p in (sample.hamiltonian.pairs, graph.pairs))
    outside, missing = sorted(stored - known), sorted(known - stored)
    which = f"a block {outside[0]} outside the graph" if outside else f"no block {missing[0]} of the graph"
    raise MatrixError(f"sample {sample.name}: expected the blocks within the basis set's radii, got {which}")


@dataclass(frozen=True)
class SampleTargets:
    """Samples before normalisation: `coefficients` of the target in eV, float64, and the target itself.

    `groups` (n,): samples of one molecule share a number; `charges` where the target reads them.
    """

    space: BlockIrreps
    names: tuple[str, ...]
    concatenated: ConcatenatedGraph
    batch: GraphBatch
    coefficients: Coefficients
    target: BlockMatrix
    groups: np.ndarray
    charges: ChargeFeatures | None = None

    @property
    def n_formulas(self) -> int:
        """How many sums of atoms the samples have."""
        concatenated = self.concatenated
        return len(
            np.unique(
                compositions(concatenated.atom_sample, concatenated.oriented.species, concatenated.n_samples), axis=0
            )
        )


def compositions(sample: np.ndarray, species: np.ndarray, n_samples: int) -> np.ndarray:
    """Atoms of each species in each sample (n_samples, n_species), from the sample and species of each atom (N,)."""
    counts = np.zeros((n_samples, species.max(initial=-1) + 1), dtype=np.int64)
    np.add.at(counts, (sample, species), 1)
    return counts


def compute_targets(space: BlockIrreps, samples: Sequence[Sample], target: TargetSettings) -> SampleTargets:
    """Graphs and coefficients of some samples at once."""
    concatenated = concatenate(space, [sample_graph(sample, space) for sample in samples])
    matrix = concatenated.matrix(space, concatenated.values([target.of(sample) for sample in samples]))
    charges = None
    if target.reads_charges:
        states = [target.state(sample) for sample in samples]
        charges = concatenated_charges(
            space, concatenated, states, [target.operator(sample, "prior") for sample in samples]
        )
    operators = {
        name: [target.operator(sample, name) for sample in samples] for name in target.operators if name != "density"
    }
    groups = [str(sample.provenance.get("group", sample.name)) for sample in samples]
    return SampleTargets(
        space,
        tuple(sample.name for sample in samples),
        concatenated,
        concatenated_batch(space, concatenated, operators, charges),
        to_coefficients(space, matrix, concatenated.oriented),
        matrix,
        np.unique(groups, return_inverse=True)[1],
        charges,
    )


def concatenated_coefficients(
    space: BlockIrreps, concatenated: ConcatenatedGraph, operators: Sequence[BlockMatrix]
) -> Coefficients:
    """Of one operator of each structure, in its own unit."""
    return to_coefficients(space, concatenated.matrix(space, concatenated.values(operators)), concatenated.oriented)


def concatenated_charges(
    space: BlockIrreps, concatenated: ConcatenatedGraph, states: Sequence[ChargeState], priors: Sequence[BlockMatrix]
) -> ChargeFeatures:
    """What the closed form reads of the electrons of H0."""
    density = concatenated_coefficients(space, concatenated, [state.density for state in states])
    charge, potential = (np.concatenate([getattr(s, name) for s in states]) for name in ("charge", "potential"))
    return ChargeFeatures(density, concatenated_coefficients(space, concatenated, priors), charge, potential)


def concatenated_batch(
    space: BlockIrreps,
    concatenated: ConcatenatedGraph,
    operators: Mapping[str, Sequence[BlockMatrix]] | None = None,
    charges: ChargeFeatures | None = None,
) -> GraphBatch:
    """What the network reads: the graph and the coefficients of each operator's matrices (one for each structure) and, where
    they are known, of the density of the electrons."""
    found = {
        name: concatenated_coefficients(space, concatenated, matrices) for name, matrices in (operators or {}).items()
    }
    found |= {} if charges is None else {"density": charges.density}
    rounded = {name: map_coefficients(lambda c: c.float(), coefficients) for name, coefficients in found.items()}
    return replace(graph_batch(space, concatenated.graph, concatenated.oriented), operators=rounded)


def n_elements(concatenated: ConcatenatedGraph, matrix: BlockMatrix) -> np.ndarray:
    """Matrix elements of each sample, a block that stands for its reverse as well counted twice (n_samples,)."""
    return (
        element_sums(concatenated, matrix, np.full(matrix.values.shape[1], len(matrix.values))).round().astype(np.int64)
    )


def element_sums(concatenated: ConcatenatedGraph, matrix: BlockMatrix, values: np.ndarray) -> np.ndarray:
    """Sum of `values` (size,) over the elements of each sample, off-site ones twice (n_samples,)."""
    owner = np.concatenate([concatenated.atom_sample, concatenated.pair_sample])
    weight = np.concatenate([np.ones(len(concatenated.atom_sample)), np.full(len(concatenated.pair_sample), 2.0)])
    sums = np.add.reduceat(values, matrix.offsets[:-1]) * weight
    return np.bincount(owner, weights=sums, minlength=concatenated.n_samples)


def assemble(
    space: BlockIrreps,
    concatenated: ConcatenatedGraph,
    outputs: Coefficients | None,
    offsets: Coefficients,
    scales: Coefficients,
) -> BlockMatrix:
    """Return the blocks in eV of `outputs * scales + offsets`; of the offsets alone without outputs."""
    coefficients = denormalize(outputs, offsets, scales)
    return to_matrix(space, coefficients, concatenated.graph, concatenated.oriented)
