"""Many structures as one graph of unconnected parts, and the targets of samples as coefficients."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import Graph, build_graph
from harmose.core.moments import original_name
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
from harmose.spin import TIME_REVERSAL_TOLERANCE, Spin, time_reversal_error

MAX_ECP_FRACTION = 0.1
"""Molecules with a larger fraction of their electrons in effective core potentials have no usable charges."""


def block_irreps(basis: BasisSet, spin: Spin = Spin.NONE, moments: tuple[tuple[int, int], ...] = ()) -> BlockIrreps:
    """Return all irreps of the blocks of a basis set: L = 0 ... 2 l_max, and one degree more for spinors.

    `moments`: as in `BlockIrreps`.
    """
    return BlockIrreps(basis, 2 * basis.l_max + max(channel.degree for channel in spin.channels), spin, moments)


@dataclass(frozen=True)
class ConcatenatedGraph:
    """Several structures as one graph of unconnected parts.

    Attributes:
        graph: all atoms, structure after structure, and all pairs.
        oriented: the same pairs, oriented.
        atom_sample: structure of each atom (N,).
        pair_sample: structure of each pair (P,).
        n_samples: number of structures.
    """

    graph: Graph
    oriented: OrientedPairs
    atom_sample: np.ndarray
    pair_sample: np.ndarray
    n_samples: int

    @property
    def pair_counts(self) -> np.ndarray:
        """Number of pairs of each structure in each group (n_samples, n_groups)."""
        return self._counts(self.pair_sample, self.oriented.pairs.values())

    @property
    def atom_counts(self) -> np.ndarray:
        """Number of atoms of each structure of each shell type (n_samples, n_types)."""
        return self._counts(self.atom_sample, self.oriented.atoms.values())

    def _counts(self, owner: np.ndarray, parts: Iterable[np.ndarray]) -> np.ndarray:
        return np.stack([np.bincount(owner[part], minlength=self.n_samples) for part in parts], axis=1)

    def values(self, operators: Sequence[BlockMatrix]) -> np.ndarray:
        """Return the values (n_components, size) of one operator of each structure, in the order of this graph's blocks."""
        parts = [(m.values, m.offsets[len(m.numbers)]) for m in operators]
        return np.concatenate([v[:, :n] for v, n in parts] + [v[:, n:] for v, n in parts], axis=1)

    def matrix(self, space: BlockIrreps, values: np.ndarray) -> BlockMatrix:
        """Return the operator with these values."""
        return BlockMatrix(space.basis, self.graph.numbers, self.graph.pairs, values, space.spin)

    def per_value(self, per_sample: np.ndarray, matrix: BlockMatrix) -> np.ndarray:
        """Repeat numbers of structures (n_samples,) for each value of a matrix (size,)."""
        return np.repeat(per_sample[np.concatenate([self.atom_sample, self.pair_sample])], np.diff(matrix.offsets))

    def split(self, matrix: BlockMatrix, graphs: Sequence[Graph]) -> list[BlockMatrix]:
        """Return the blocks of each structure: the inverse of `values`."""
        if len(graphs) == 1:
            return [matrix]
        n_atoms, n_pairs = (np.cumsum([0, *sizes]) for sizes in zip(*((g.n_atoms, g.n_pairs) for g in graphs)))
        onsite, pairs, v = matrix.offsets[n_atoms], matrix.offsets[len(self.atom_sample) + n_pairs], matrix.values
        return [
            BlockMatrix(matrix.basis, g.numbers, g.pairs, np.concatenate([v[:, a:b], v[:, c:d]], axis=1), matrix.spin)
            for g, a, b, c, d in zip(graphs, onsite, onsite[1:], pairs, pairs[1:])
        ]


def concatenate(space: BlockIrreps, graphs: Sequence[Graph]) -> ConcatenatedGraph:
    """Concatenate graphs; atoms and pairs stay in order."""
    starts = np.cumsum([0, *(g.n_atoms for g in graphs)])
    shift = np.array([1, 1, 0, 0, 0])
    graph = Graph(
        np.concatenate([g.numbers for g in graphs]),
        np.concatenate([g.pairs + start * shift for g, start in zip(graphs, starts)]),
        np.concatenate([g.vectors for g in graphs]),
        _joined([g.moment_signs for g in graphs]),
    )
    number = np.arange(len(graphs))
    atoms = np.repeat(number, [g.n_atoms for g in graphs])
    return ConcatenatedGraph(
        graph, space.orient(graph), atoms, np.repeat(number, [g.n_pairs for g in graphs]), len(graphs)
    )


def _joined(signs: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [x for x in signs if x is not None]
    return np.concatenate(known) if known and len(known) == len(signs) else None


@dataclass(frozen=True)
class TargetSettings:
    """Target of a model, and operators that it reads.

    Attributes:
        prior: learn H - H0 instead of H.
        fermi: learn H relative to the Fermi level of the label.
        operators: names of operators that the network or the loss reads: "prior" (H0), "overlap" (S), and "density" (density
            matrix of H0 and its charges, `harmose.physics.charges`), which the regression reads, too.
        moments: True if species are told apart by the sign of their initial magnetic moment.
    """

    prior: bool = False
    fermi: bool = False
    operators: tuple[str, ...] = ()
    moments: bool = False

    def sample(self, sample: Sample) -> Sample:
        """Return the sample with H relative to the energy zero of the target."""
        return relative_to_fermi_level(sample) if self.fermi else sample

    def matrix(self, sample: Sample) -> BlockMatrix:
        """Return the target in eV; `FormatError` without the H0, `MatrixError` without the Fermi level that it needs."""
        h = self.sample(sample).hamiltonian
        return h - self.operator(sample, "prior") if self.prior else h

    @property
    def reads_charges(self) -> bool:
        """True if the charges of H0 are read."""
        return "density" in self.operators

    def charge_state(self, sample: Sample) -> ChargeState:
        """Return the density matrix and the charges of H0; `FormatError` without H0, S or the number of electrons."""
        n = sample.n_electrons
        if n is None:
            raise FormatError(
                f"sample {sample.name}: expected the number of electrons, for the density of H0, got none"
            )
        prior, overlap = self.operator(sample, "prior"), self.operator(sample, "overlap")
        return molecule_charge_state(sample.structure, prior, overlap, n, f"sample {sample.name}")

    def operator(self, sample: Sample, name: str) -> BlockMatrix:
        """Return H0 ("prior") or S ("overlap") of a sample, with the spin of H; `FormatError` for a sample without."""
        operator = sample.prior if name == "prior" else sample.overlap
        if operator is None:
            title = {"prior": "a prior H0", "overlap": "an overlap S"}[name]
            raise FormatError(f"sample {sample.name}: expected {title}, which the configuration asks for, got none")
        return with_spin(operator, sample.spin)


def molecule_charge_state(
    atoms: Atoms, prior: BlockMatrix, overlap: BlockMatrix, n_electrons: float, where: str
) -> ChargeState:
    """Return the `charge_state` of a molecule; `FormatError` for a crystal, a spin, or many electrons in core potentials.

    `where`: begins the error.
    """
    if atoms.pbc.any() or prior.spin is not Spin.NONE:
        kind = f"pbc {atoms.pbc.tolist()}" if atoms.pbc.any() else f"spin {prior.spin}"
        raise FormatError(f"{where}: expected a molecule without spin, for the density of H0, got {kind}")
    if abs(atoms.numbers.sum() - n_electrons) > MAX_ECP_FRACTION * atoms.numbers.sum():
        raise FormatError(
            f"{where}: expected all {atoms.numbers.sum()} electrons, for the density of H0, got {n_electrons:g}: the others "
            f"are in effective core potentials"
        )
    return charge_state(prior, overlap, atoms.positions, n_electrons)


def with_spin(operator: BlockMatrix, spin: Spin) -> BlockMatrix:
    """Return an operator without spin, such as S, as one with a spin: the same for up and down."""
    if operator.spin is spin:
        return operator
    diagonal = {Spin.NONE: [1.0], Spin.COLLINEAR: [1.0, 1.0], Spin.SPINOR: [1.0, 0.0, 0.0, 1.0]}[spin]
    values = (np.array(diagonal)[:, None] * np.real(operator.values[:1])).astype(spin.dtype)
    return BlockMatrix(operator.basis, operator.numbers, operator.pairs, values, spin)


def sample_graph(sample: Sample, space: BlockIrreps) -> Graph:
    """Return the graph of a sample.

    Raises `MatrixError` unless H has the spin of the space and exactly the blocks of the graph (readers add zero blocks that a
    code left out, `io.assembly`). H of spinors must be symmetric under time reversal, since structures do not determine
    magnetic moments.
    """
    graph = build_graph(sample.structure, space.basis)
    if sample.spin is not space.spin:
        raise MatrixError(f"sample {sample.name}: expected spin {space.spin}, got {sample.spin}")
    if space.spin is Spin.SPINOR and (odd := time_reversal_error(sample.hamiltonian.values)) > TIME_REVERSAL_TOLERANCE:
        raise MatrixError(
            f"sample {sample.name}: expected H symmetric under time reversal, as without magnetic moments, "
            f"got a part of {odd:.2g} eV that is not; only collinear models read moments"
        )
    if np.array_equal(sample.hamiltonian.pairs, graph.pairs):
        return graph
    stored, expected = (set(map(tuple, np.asarray(p).tolist())) for p in (sample.hamiltonian.pairs, graph.pairs))
    outside, missing = sorted(stored - expected), sorted(expected - stored)
    which = f"a block {outside[0]} outside the graph" if outside else f"no block {missing[0]} of the graph"
    raise MatrixError(f"sample {sample.name}: expected the blocks within the basis set's radii, got {which}")


@dataclass(frozen=True)
class SampleTargets:
    """Targets of samples before normalization.

    Attributes:
        space: irreps of the blocks.
        names: names of the samples.
        concatenated: their graphs.
        batch: the same for the network.
        coefficients: of the target in eV, float64.
        target: the target as one operator of the concatenated graph, in eV.
        groups: group of each sample (n,); geometries of one molecule have the same number.
        charges: charge features, if the target reads them.
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
        """Number of different compositions."""
        whole = self.concatenated
        elements = np.unique(whole.graph.numbers, return_inverse=True)[1]
        return len(np.unique(compositions(whole.atom_sample, elements, whole.n_samples), axis=0))

    @property
    def originals(self) -> np.ndarray:
        """Number of each sample (n,); a sample and the same one with reversed moments have the same number."""
        return np.unique([original_name(name) for name in self.names], return_inverse=True)[1]


def compositions(sample: np.ndarray, species: np.ndarray, n_samples: int) -> np.ndarray:
    """Count the atoms of each species in each sample (n_samples, n_species), from sample and species of atoms (N,)."""
    counts = np.zeros((n_samples, species.max(initial=-1) + 1), dtype=np.int64)
    np.add.at(counts, (sample, species), 1)
    return counts


def compute_targets(space: BlockIrreps, samples: Sequence[Sample], target: TargetSettings) -> SampleTargets:
    """Compute the graphs and the coefficients of samples; errors as in `TargetSettings` and `sample_graph`."""
    concatenated = concatenate(space, [sample_graph(sample, space) for sample in samples])
    matrix = concatenated.matrix(space, concatenated.values([target.matrix(sample) for sample in samples]))
    charges = None
    if target.reads_charges:
        states = [target.charge_state(sample) for sample in samples]
        priors = [target.operator(sample, "prior") for sample in samples]
        charges = concatenated_charges(space, concatenated, states, priors)
    names = [name for name in target.operators if name != "density"]
    operators = {name: [target.operator(sample, name) for sample in samples] for name in names}
    groups = [str(sample.provenance.get("group", original_name(sample.name))) for sample in samples]
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
    """Return the coefficients of one operator of each structure, in its own unit."""
    return to_coefficients(space, concatenated.matrix(space, concatenated.values(operators)), concatenated.oriented)


def concatenated_charges(
    space: BlockIrreps, concatenated: ConcatenatedGraph, states: Sequence[ChargeState], priors: Sequence[BlockMatrix]
) -> ChargeFeatures:
    """Return the charge features of structures from their charge states and H0."""
    density = concatenated_coefficients(space, concatenated, [state.density for state in states])
    charge, potential = (np.concatenate([getattr(s, name) for s in states]) for name in ("charge", "potential"))
    return ChargeFeatures(density, concatenated_coefficients(space, concatenated, priors), charge, potential)


def concatenated_batch(
    space: BlockIrreps,
    concatenated: ConcatenatedGraph,
    operators: Mapping[str, Sequence[BlockMatrix]] | None = None,
    charges: ChargeFeatures | None = None,
    dtype: torch.dtype = torch.float32,
) -> GraphBatch:
    """Return the graph as a batch for the network, with the coefficients of operators (one matrix for each structure) and P."""
    coefficients = {
        name: concatenated_coefficients(space, concatenated, matrices) for name, matrices in (operators or {}).items()
    }
    if charges is not None:
        coefficients["density"] = charges.density
    rounded = {name: map_coefficients(lambda x: x.to(dtype), c) for name, c in coefficients.items()}
    sample = torch.as_tensor(concatenated.atom_sample[concatenated.oriented.atom_order])
    batch = graph_batch(space, concatenated.graph, concatenated.oriented, dtype)
    return replace(batch, sample=sample, n_samples=concatenated.n_samples, operators=rounded)


def n_elements(concatenated: ConcatenatedGraph, matrix: BlockMatrix) -> np.ndarray:
    """Count the elements of the whole matrix of each structure (n_samples,)."""
    ones = np.full(matrix.values.shape[1], len(matrix.values))
    return element_sums(concatenated, matrix, ones).round().astype(np.int64)


def element_sums(concatenated: ConcatenatedGraph, matrix: BlockMatrix, values: np.ndarray) -> np.ndarray:
    """Sum `values` of stored elements (size,) over the whole matrix of each structure (n_samples,)."""
    owner = np.concatenate([concatenated.atom_sample, concatenated.pair_sample])
    sums = np.add.reduceat(values, matrix.offsets[:-1]) * matrix.multiplicity
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
