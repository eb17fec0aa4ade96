"""The prediction pipeline, from structures to Hamiltonians; every command and every table goes through it.

inputs                              graphs, edge frames, and what the model reads besides: H0, S, charges
outputs   = stage 1, stage 2        normalized coefficients of the network
coefficients = outputs * scale + regression
blocks    = inverse of the change to irreps in edge frames
H         = blocks, filtered by the overlap, + H0, relative to the energy zero
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from harmose.core.blocks import BlockMatrix, empty_matrix
from harmose.core.graph import Graph, build_graph, pair_vectors
from harmose.core.moments import exchanged, mean_of_reversed, with_reversed_moments
from harmose.core.radial import RadialBasis
from harmose.core.structure import check_atoms
from harmose.errors import ModelError
from harmose.inference.card import Card, EnergyZero
from harmose.inference.electrons import check_electrons
from harmose.inference.energy_zero import n_electrons, relative_to_own_fermi_level
from harmose.inference.prior import Prior, check_prior
from harmose.io.basis_sets import radial_functions
from harmose.kernel_regression.model import FadedValues, KernelRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.training_domain import TrainingDomain
from harmose.nn.ops.saturation import times
from harmose.nn.stage1.baseline import Stage1Output
from harmose.nn.two_stage import TwoStage, add
from harmose.physics.integrals.overlap import Overlaps
from harmose.physics.overlap_filter import filter_correction
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import BlockIrreps, Coefficients, OrientedPairs
from harmose.representation.charge_features import ChargeFeatures
from harmose.representation.concatenation import (
    ConcatenatedGraph,
    assemble,
    concatenate,
    concatenated_batch,
    concatenated_charges,
    molecule_charge_state,
    with_spin,
)
from harmose.representation.normalizer import Normalizer
from harmose.uncertainty.llpr import LastLayer

STAGES = ("regression", "stage1", "full")
"""Partial sums of the model: H0 + regression; + stage 1; + stage 2."""
SIMPLER = ("prior", "pairs")
"""Simpler models that the regression fades to: H0 alone (without H0: means of on-site scalars), and H0 + functions of the distance."""

Watch = Callable[[str], AbstractContextManager[object]]
"""Stopwatch: `with watch(step): ...` times a step of the pipeline."""


def no_watch(_: str) -> AbstractContextManager[None]:
    """Time nothing."""
    return nullcontext()


@dataclass(frozen=True)
class ModelInput:
    """Everything that a model reads of some structures.

    Attributes:
        structures: the structures.
        graphs: pairs of atoms within each other's reach, of each structure.
        concatenated: all graphs as one.
        batch: the same as tensors for the network, on its device.
        neighbourhoods: the same for the regression and the training domain.
        priors: H0 in eV of each structure; None where the model neither adds nor reads it.
        overlaps: S of each structure; None where the model does not need it.
        regression: values of the regression, or the shifts, in eV, and how far it has faded.
    """

    structures: Sequence[Atoms]
    graphs: list[Graph]
    concatenated: ConcatenatedGraph
    batch: GraphBatch
    neighbourhoods: Neighbourhoods
    priors: Sequence[BlockMatrix | None]
    overlaps: Sequence[BlockMatrix] | None
    regression: FadedValues


@dataclass(frozen=True)
class Outputs:
    """Outputs of the network.

    Attributes:
        stages: normalized coefficients by stage; None where the network adds nothing.
        last_layer_std: standard deviations of the last layer for atoms (N,) and pairs (P,), in the order of the batch; ones
            without a network or a calibration.
        weights: weights with which the outputs of stage 1 and stage 2 count, for atoms (2, N) and pairs (2, P).
    """

    stages: dict[str, Coefficients | None]
    last_layer_std: tuple[np.ndarray, np.ndarray]
    weights: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Pipeline:
    """The summands of a model, H = H0 + regression + stage 1 + stage 2, and how they are evaluated.

    Attributes:
        card: what the model is for; decides about H0, overlap filter and energy zero.
        normalizer: scales of the network's outputs.
        regression: kernel regression of blocks, or None.
        network: both stages of the network, or None.
        domain: statistics of the training set's environments.
        last_layer: standard deviation of the network's last layer, by which its outputs fade; None: they never do.
        radial: radial functions of the basis set, for S; None: those that PySCF has under its name, if any.
        prior_tables: tables of a tabulated H0 by name (`io.pyscf.pair_tables`), or None.
    """

    card: Card
    normalizer: Normalizer
    regression: KernelRegression | None = None
    network: TwoStage | None = None
    domain: TrainingDomain = field(default_factory=TrainingDomain)
    last_layer: LastLayer | None = None
    radial: RadialBasis | None = field(default=None, kw_only=True)
    prior_tables: Mapping[str, np.ndarray] | None = field(default=None, kw_only=True)

    @property
    def space(self) -> BlockIrreps:
        """Irreps of the model's blocks."""
        return self.normalizer.space

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return torch.device("cpu") if self.network is None else next(self.network.parameters()).device

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages that the model can predict: "regression" only with a regression."""
        return STAGES if self.regression is not None else STAGES[1:]

    @property
    def all_stages(self) -> tuple[str, ...]:
        """`stages`, after the simpler models that a regression fades to: "prior" and "pairs"."""
        has_simpler = self.regression is not None and bool(self.regression.distances)
        return (*(SIMPLER if has_simpler else ()), *self.stages)

    @cached_property
    def prior(self) -> Prior | None:
        """Computes H0; None for a model that neither adds nor reads it."""
        return Prior(self.card.code, self.card.settings, self.prior_tables) if self.card.reads_prior else None

    @cached_property
    def overlaps(self) -> Overlaps:
        """Overlap integrals of the model's basis set; `BasisError` where its radial functions are not known."""
        return Overlaps(radial_functions(self.space.basis) if self.radial is None else self.radial)

    def inputs(
        self,
        structures: Sequence[Atoms],
        priors: Sequence[BlockMatrix | None] | None = None,
        energy_zero: EnergyZero | None = None,
        watch: Watch = no_watch,
    ) -> ModelInput:
        """Compute everything that the model reads of some structures.

        Args:
            structures: structures, positions in angstrom.
            priors: H0 in eV of each structure; None where PySCF is to compute it.
            energy_zero: energy zero of the prediction; default: that of the card.
            watch: stopwatch for the steps.

        Returns:
            The inputs of all structures.

        Raises:
            ModelError: the card does not cover a structure.
            StructureError: a structure has no meaning.
        """
        card, space = self.card, self.space
        with watch("graph"):
            graphs = self.graphs(structures)
            whole = concatenate(space, graphs)
            self.normalizer.check_covers(whole.oriented, all_pairs=not card.needs_prior)
        with watch("prior"):
            computed = self._priors(structures, priors, graphs)
        with watch("overlap"):
            needs_overlap = card.overlap_filter or card.inputs.overlap or card.inputs.density
            needs_overlap = needs_overlap or (energy_zero or card.energy_zero) == "fermi_of_prediction"
            overlaps = [self.overlaps.of(graph) for graph in graphs] if needs_overlap else None
        with watch("frames"):
            charges = self._charges(structures, whole, computed, overlaps) if card.inputs.density else None
            operators = {}
            if card.inputs.prior:
                operators["prior"] = computed
            if card.inputs.overlap and overlaps is not None:
                operators["overlap"] = [with_spin(s, space.spin) for s in overlaps]
            batch = concatenated_batch(space, whole, operators, charges).to(self.device)
        with watch("regression"):
            neighbourhoods = self.neighbourhoods(whole, charges)
            fitted = fitted_values(self.regression, self.normalizer, neighbourhoods)
        return ModelInput(structures, graphs, whole, batch, neighbourhoods, computed, overlaps, fitted)

    def graphs(self, structures: Sequence[Atoms]) -> list[Graph]:
        """Check structures against the card, and return their graphs.

        Args:
            structures: structures, positions in angstrom.

        Returns:
            Pairs of atoms within each other's reach, of each structure.

        Raises:
            ModelError: the card does not cover the elements, the periodicity, the charge or the spin of a structure.
            StructureError: a structure has no meaning.
        """
        wheres = self.check(structures)
        return [build_graph(atoms, self.space.basis, where) for atoms, where in zip(structures, wheres, strict=True)]

    def check(self, structures: Sequence[Atoms]) -> list[str]:
        """Check structures against the card, and return what each is called in errors; errors as in `graphs`.

        Args:
            structures: structures, positions in angstrom.

        Returns:
            The source or the number of each structure.
        """
        wheres = []
        for k, atoms in enumerate(structures):
            where = str(atoms.info.get("source", f"structure {k}" if len(structures) > 1 else "structure"))
            check_atoms(atoms, where)
            unknown = sorted(set(atoms.numbers.tolist()) - set(self.card.elements))
            if unknown:
                elements = ", ".join(chemical_symbols[z] for z in self.card.elements)
                raise ModelError(
                    f"{where}: expected elements of the training set ({elements}), got {chemical_symbols[unknown[0]]}"
                )
            if atoms.pbc.any() and not self.card.periodic:
                pbc = atoms.pbc.tolist()
                raise ModelError(f"{where}: expected a molecule, as in the model's training set, got pbc {pbc}")
            check_electrons(self.card, atoms, where)
            wheres.append(where)
        return wheres

    def neighbourhoods(self, graph: ConcatenatedGraph, charges: ChargeFeatures | None = None) -> Neighbourhoods:
        """Return the atomic environments of a graph, for the regression and the training domain.

        Args:
            graph: one or several structures.
            charges: charges and density matrix of H0, for a model that reads them.

        Returns:
            The environments, computed when they are needed.
        """
        return environments(self.regression, self.space, graph.oriented, charges)

    def outputs(self, batch: GraphBatch, stages: Sequence[str], watch: Watch = no_watch) -> Outputs:
        """Evaluate the network.

        Args:
            batch: graphs, on the network's device.
            stages: names among `STAGES`.
            watch: stopwatch for the steps.

        Returns:
            Normalized coefficients by stage; None for "regression", and for a model without a network.
        """
        out: dict[str, Coefficients | None] = dict.fromkeys(stages)
        if self.network is None or not {"stage1", "full"} & set(stages):
            ones = np.ones((2, batch.n_atoms)), np.ones((2, batch.n_pairs))
            return Outputs(out, (ones[0][0], ones[1][0]), ones)
        with torch.inference_mode():
            with watch("stage1"):
                first = self.network.stage1(batch)
                std, weights = self.network_weights(batch, first)
                own = weighted(first.h1, batch, weights, 0)
            if "stage1" in stages:
                out["stage1"] = own
            if "full" in stages and self.network.stage2.is_untrained:
                out["full"] = own
            elif "full" in stages:
                with watch("stage2"):
                    out["full"] = add(own, weighted(self.network.stage2(batch, first), batch, weights, 1))
        return Outputs(out, std, weights)

    def network_weights(
        self, batch: GraphBatch, first: Stage1Output
    ) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Return standard deviations of the last layer and weights of the network, as in `Outputs`.

        Args:
            batch: graphs.
            first: output of stage 1 for them.

        Returns:
            Standard deviations of atoms and pairs, and weights of both stages for atoms and pairs.
        """
        std = np.ones(batch.n_atoms), np.ones(batch.n_pairs)
        weights = np.ones((2, batch.n_atoms)), np.ones((2, batch.n_pairs))
        if self.last_layer is not None:
            layer, edges = self.last_layer, first.edges.scalars
            std = (
                layer.atom_std(first.atoms.proper[:, 0], batch.species),
                layer.pair_std(edges, first.graph.pair_type),
            )
            weights = layer.weights(std[0]), layer.weights(std[1])
        known = np.isin(batch.pair_type.cpu().numpy(), list(self.normalizer.pair_scale))
        return std, (weights[0], weights[1] * known)

    def evaluate(self, inputs: ModelInput, outputs: Outputs, watch: Watch = no_watch) -> dict[str, list[BlockMatrix]]:
        """Turn network outputs into blocks, without H0 and in the labels' energy zero.

        Args:
            inputs: inputs of the structures.
            outputs: outputs of the network for them.
            watch: stopwatch for the steps.

        Returns:
            By stage, one matrix in eV for each structure. A model that reads moments returns the mean of the prediction
            and of that for reversed moments, with up and down exchanged.
        """
        matrices = self._evaluate(inputs, outputs, watch)
        if not self.card.inputs.moments:
            return matrices
        flipped = [with_reversed_moments(atoms) for atoms in inputs.structures]
        priors = [None if prior is None else exchanged(prior) for prior in inputs.priors]
        other = self.inputs(flipped, priors, "labels", watch)
        others = self._evaluate(other, self.outputs(other.batch, tuple(matrices), watch), watch)
        return {stage: list(map(mean_of_reversed, own, others[stage])) for stage, own in matrices.items()}

    def _evaluate(self, inputs: ModelInput, outputs: Outputs, watch: Watch) -> dict[str, list[BlockMatrix]]:
        """`evaluate` for the moments as they are."""
        whole = inputs.concatenated
        with watch("regression"):
            offsets, scales = self._offsets(inputs, tuple(outputs.stages)), self.normalizer.scales(whole.oriented)
        with watch("blocks"):
            return {
                stage: whole.split(assemble(self.space, whole, c, offsets[stage], scales), inputs.graphs)
                for stage, c in outputs.stages.items()
            }

    def _offsets(self, inputs: ModelInput, stages: Sequence[str]) -> dict[str, Coefficients]:
        """Coefficients in eV that the network's outputs are added to, by stage."""
        out, graph = dict.fromkeys(stages, inputs.regression.values), inputs.neighbourhoods
        if "pairs" in out and self.regression is not None:
            out["pairs"] = self.regression.simple_values(graph)
        if "prior" in out and self.regression is not None:
            out["prior"] = self.normalizer.shifts(graph.oriented)  # zeros beside a regression
            if not self.card.needs_prior:
                atoms = graph.oriented.atoms.items()
                means = {s: self.regression.mean_values(graph, s, rows) for s, rows in atoms}
                out["prior"] = Coefficients(out["prior"].pairs, means)
        return out

    def complete(
        self,
        matrices: Sequence[BlockMatrix],
        structures: Sequence[Atoms],
        priors: Sequence[BlockMatrix | None],
        overlaps: Sequence[BlockMatrix] | None = None,
        energy_zero: EnergyZero | None = None,
    ) -> list[BlockMatrix]:
        """Turn predicted matrices into Hamiltonians: filter, add H0, shift to E_F, as set in the card.

        Args:
            matrices: predicted matrices in eV, one for each structure.
            structures: structures, positions in angstrom.
            priors: H0 in eV of each structure, or None.
            overlaps: S of each structure; computed where it is needed and missing.
            energy_zero: energy zero of the result; default: that of the card.

        Returns:
            H in eV of each structure.

        Raises:
            BasisError: S is needed, and the radial functions of the basis set are not known.
            ModelError: the Fermi level is needed, and the number of electrons is not known.
        """
        zero = energy_zero or self.card.energy_zero
        if overlaps is None and (self.card.overlap_filter or zero == "fermi_of_prediction"):
            overlaps = [self.overlap(m, atoms) for m, atoms in zip(matrices, structures, strict=True)]
        if self.card.overlap_filter and overlaps is not None:
            pairs = zip(matrices, overlaps, strict=True)
            matrices = [filter_correction(m, s, self.card.overlap_filter) for m, s in pairs]
        if self.card.needs_prior:
            matrices = [m if prior is None else m + prior for m, prior in zip(matrices, priors, strict=True)]
        if zero == "fermi_of_prediction" and overlaps is not None:
            parts = zip(matrices, overlaps, structures, strict=True)
            matrices = [relative_to_own_fermi_level(h, s, a, self.n_electrons(a)) for h, s, a in parts]
        return list(matrices)

    def overlap(self, like: BlockMatrix, atoms: Atoms) -> BlockMatrix:
        """Return the overlap of a structure.

        Args:
            like: a matrix with the blocks that S is to have.
            atoms: the structure, positions in angstrom.

        Returns:
            S, without unit.

        Raises:
            BasisError: the radial functions of the basis set are not known.
        """
        return self.overlaps.of(Graph(like.numbers, like.pairs, pair_vectors(atoms, like.pairs)))

    def n_electrons(self, atoms: Atoms) -> float:
        """Return the number of electrons of a structure, counted as in the labels.

        Args:
            atoms: the structure.

        Returns:
            Number of electrons in the cell.

        Raises:
            ModelError: the labels do not say how electrons are counted.
        """
        return n_electrons(self.card.settings, self.card.basis, self.card.spin, atoms)

    def _priors(
        self, structures: Sequence[Atoms], priors: Sequence[BlockMatrix | None] | None, graphs: Sequence[Graph]
    ) -> list[BlockMatrix | None]:
        prior = self.prior
        if prior is None:
            return [None] * len(structures)
        space, computed = self.space, []
        for atoms, given, graph in zip(structures, priors or [None] * len(structures), graphs, strict=True):
            like = empty_matrix(space.basis, graph.numbers, graph.pairs, space.spin)
            computed.append(prior.compute(atoms, like) if given is None else check_prior(given, like))
        return computed

    def _charges(
        self,
        structures: Sequence[Atoms],
        whole: ConcatenatedGraph,
        priors: Sequence[BlockMatrix | None],
        overlaps: Sequence[BlockMatrix] | None,
    ) -> ChargeFeatures:
        """Charges and density matrix of H0; the basis set holds all electrons."""
        states = [
            molecule_charge_state(atoms, prior, s, _all_electrons(atoms), str(atoms.symbols))
            for atoms, prior, s in zip(structures, priors, overlaps or (), strict=True)
            if prior is not None
        ]
        return concatenated_charges(self.space, whole, states, [p for p in priors if p is not None])


def environments(
    regression: KernelRegression | None,
    space: BlockIrreps,
    oriented: OrientedPairs,
    charges: ChargeFeatures | None = None,
) -> Neighbourhoods:
    """Return the atomic environments of a graph, as the regression and the training domain read them."""
    return Neighbourhoods(space, oriented, charges, None if regression is None else regression.mean_density)


def fitted_values(
    regression: KernelRegression | None, normalizer: Normalizer, neighbourhoods: Neighbourhoods
) -> FadedValues:
    """Return the coefficients in eV that network outputs are added to: of the regression, or the normalizer's shifts."""
    if regression is not None:
        return regression.faded(neighbourhoods)
    ones = np.ones(len(neighbourhoods.oriented.species) + neighbourhoods.n_pairs)
    return FadedValues(normalizer.shifts(neighbourhoods.oriented), ones, ones)


def weighted(c: Coefficients, batch: GraphBatch, weights: tuple[np.ndarray, np.ndarray], stage: int) -> Coefficients:
    """Multiply the coefficients of a batch by the weights of stage 1 (0) or stage 2 (1)."""
    of_atoms, of_pairs = (torch.as_tensor(x[stage]) for x in weights)
    return times(
        c,
        {group: of_pairs[batch.pair_slice(k)] for k, group in enumerate(c.pairs)},
        {shell_type: of_atoms[batch.atom_slice(shell_type)] for shell_type in c.onsite},
    )


def _all_electrons(atoms: Atoms) -> float:
    return float(atoms.numbers.sum()) - float(atoms.info.get("charge", 0))
