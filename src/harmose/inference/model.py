"""`Model`: a trained network with the closed-form part and the card; `predict(atoms)` gives H."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from harmose.core.blocks import BlockMatrix, empty_matrix
from harmose.core.graph import Graph, build_graph, pair_vectors
from harmose.core.structure import check_atoms
from harmose.errors import BasisError, ModelError, OutsideDomain
from harmose.inference.card import Card
from harmose.inference.energy_zero import at_own_fermi_level, n_electrons
from harmose.io.basis_sets import radial_functions
from harmose.kernel_regression.model import KernelRegression
from harmose.kernel_regression.training_domain import LIMIT
from harmose.nn.stage1.baseline import Stage1Output
from harmose.nn.two_stage import TwoStage, add
from harmose.physics.integrals.overlap import Overlaps
from harmose.physics.overlap_filter import filtered
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import to_matrix
from harmose.representation.charge_features import ChargeFeatures
from harmose.representation.concatenation import (
    ConcatenatedGraph,
    concatenate,
    concatenated_batch,
    concatenated_charges,
    denormalize,
    molecule_charge_state,
    with_spin,
)
from harmose.uncertainty.calibration import Calibration
from harmose.uncertainty.features import ErrorFeatures, error_features
from harmose.uncertainty.orbitals import Levels, levels
from harmose.uncertainty.prediction import Uncertainty, expected_error

STAGES = ("stage1", "full")


@dataclass(frozen=True)
class Model:
    """A network with its baseline and its card: `predict(atoms)` gives H."""

    network: TwoStage
    regression: KernelRegression
    card: Card
    calibration: Calibration | None = None
    """Of its errors; None for a model of an older version."""

    @property
    def is_calibrated(self) -> bool:
        """Whether predictions have bounds of their errors (`uncertainty`)."""
        return self.calibration is not None and self.calibration.highest is not None

    @cached_property
    def overlaps(self) -> Overlaps:
        """S in the model's basis set; `BasisError` where its radial functions are not known."""
        return Overlaps(radial_functions(self.regression.space.basis))

    def predict(self, atoms: Atoms, prior: BlockMatrix | None = None, stage: str = "full") -> BlockMatrix:
        """H in eV. `stage` is "full" or "stage1"; a model that needs H0 computes it with PySCF unless it is given.

        Raises `ModelError` for what the card does not cover, `StructureError` for a structure without meaning.
        """
        return self.predict_many([atoms], None if prior is None else [prior], stage)[0]

    def predict_many(
        self, structures: Sequence[Atoms], priors: Sequence[BlockMatrix | None] | None = None, stage: str = "full"
    ) -> list[BlockMatrix]:
        """`predict` for several structures in one pass of the network."""
        return self.predict_stages(structures, priors, (stage,))[stage]

    def predict_stages(
        self,
        structures: Sequence[Atoms],
        priors: Sequence[BlockMatrix | None] | None = None,
        stages: Sequence[str] = STAGES,
    ) -> dict[str, list[BlockMatrix]]:
        """`predict_many` of several stages in one pass: by stage, one H in eV for each structure."""
        if not set(stages) <= set(STAGES):
            raise ModelError(f"stage: expected full or stage1, got {next(s for s in stages if s not in STAGES)!r}")
        if not structures:
            return {stage: [] for stage in stages}
        asked = ModelInput(self, structures, priors)
        concatenated = asked.concatenated
        with torch.inference_mode():
            first = self.network.stage1(asked.batch)
            found = {"stage1": first.h1}
            if "full" in stages:
                found["full"] = add(first.h1, self.network.stage2(asked.batch, first))
        try:
            graph = self.regression.neighbourhoods(concatenated.oriented, asked.electrons)
            values, scales = self.regression.values_of(graph), self.regression.scales(concatenated.oriented)
            restored = {stage: denormalize(found[stage], values, scales) for stage in stages}
            self._warn(concatenated, first, self.regression.ood_score_of(graph))
        except (KeyError, ValueError, IndexError) as error:
            raise ModelError(f"the model's baseline does not belong to its card ({error})") from None
        matrices = {
            stage: concatenated.split(
                to_matrix(self.regression.space, c, concatenated.graph, concatenated.oriented), asked.graphs
            )
            for stage, c in restored.items()
        }
        given = asked.priors if self.card.needs_prior else [None] * len(structures)
        overlaps = asked.overlaps if self._reads_overlaps else None
        return {stage: self.completed(each, structures, given, overlaps) for stage, each in matrices.items()}

    @property
    def _reads_overlaps(self) -> bool:
        """Whether `completed` does."""
        return self.card.energy_zero == "fermi_of_prediction" or self.card.overlap_filter > 0

    def completed(
        self,
        matrices: Sequence[BlockMatrix],
        structures: Sequence[Atoms],
        priors: Sequence[BlockMatrix | None],
        overlaps: Sequence[BlockMatrix] | None = None,
    ) -> list[BlockMatrix]:
        """What was learned of each structure as its H: with H0, filtered before, or moved to its own Fermi level, as the card says.

        `overlaps`: S of each structure, computed where it is needed and not given.
        """
        if overlaps is None and self._reads_overlaps:
            overlaps = [self._overlap(m, atoms) for m, atoms in zip(matrices, structures, strict=True)]
        if self.card.energy_zero == "fermi_of_prediction":
            electrons = [self._n_electrons(atoms) for atoms in structures]
            parts = zip(matrices, overlaps or (), structures, electrons, strict=True)
            return [at_own_fermi_level(*each) for each in parts]
        if self.card.overlap_filter:
            matrices = [filtered(m, s, self.card.overlap_filter) for m, s in zip(matrices, overlaps or (), strict=True)]
        return [m if prior is None else m + prior for m, prior in zip(matrices, priors, strict=True)]

    def uncertainty(
        self,
        atoms: Atoms,
        prior: BlockMatrix | None = None,
        overlap: BlockMatrix | None = None,
        level: float | None = None,
    ) -> Uncertainty:
        """A prediction with bounds of its errors, at level 0.9 unless another is asked (or the model supports less).

        `overlap`: S for the bounds of orbital energies; computed where the basis set's radial functions are known.
        Raises `ModelError` for a model without calibration, for a level that it does not support, and as `predict`.
        """
        return self.uncertainty_many([atoms], [prior], [overlap], level)[0]

    def uncertainty_many(
        self,
        structures: Sequence[Atoms],
        priors: Sequence[BlockMatrix | None] | None = None,
        overlaps: Sequence[BlockMatrix | None] | None = None,
        level: float | None = None,
        predicted: Sequence[BlockMatrix] | None = None,
    ) -> list[Uncertainty]:
        """`uncertainty` for several structures; `predicted`: their H where they have been predicted already."""
        calibration = self._calibration()
        level = calibration.level(level)
        asked = ModelInput(self, structures, priors)
        predicted = self.predict_many(structures, asked.priors) if predicted is None else predicted
        overlaps = [None] * len(structures) if overlaps is None else overlaps
        found = []
        for h, atoms, s, features in zip(predicted, structures, overlaps, self._traits(asked), strict=True):
            levels = self._levels(h, atoms, s, calibration.spreads(features))
            found.append(Uncertainty(h, level, features, calibration, levels))
        return found

    def bounds_many(
        self,
        structures: Sequence[Atoms],
        priors: Sequence[BlockMatrix | None] | None,
        overlaps: Sequence[BlockMatrix | None],
        predicted: Sequence[BlockMatrix],
    ) -> list[Uncertainty | None]:
        """`uncertainty_many` of what has been predicted; None for each structure where the model states no bounds."""
        if not self.is_calibrated:
            return [None] * len(structures)
        return [*self.uncertainty_many(structures, priors, overlaps, predicted=predicted)]

    def expected_errors(self, structures: Sequence[Atoms]) -> list[float]:
        """What the mean absolute error of each structure's H is expected to be, in eV, without predicting it: for ranking many."""
        calibration, asked = self._calibration(), ModelInput(self, structures)
        return [
            expected_error(like, calibration, features)
            for like, features in zip(asked.matrices, self._traits(asked), strict=True)
        ]

    def _calibration(self) -> Calibration:
        if self.calibration is None:
            raise ModelError("uncertainty: the model was not calibrated: `harmose calibrate MODEL STORE` does it")
        return self.calibration

    def _traits(self, asked: "ModelInput") -> list[ErrorFeatures]:
        if not asked.structures:
            return []
        rigidity = self._calibration().rigidity
        return error_features(self.regression, self.network, rigidity, asked.concatenated, asked.batch).split(
            asked.concatenated
        )

    def _levels(self, h: BlockMatrix, atoms: Atoms, s: BlockMatrix | None, spreads: np.ndarray) -> Levels | None:
        try:
            s = self._overlap(h, atoms) if s is None else s
        except BasisError:  # without radial functions
            return None
        try:
            electrons = None if atoms.pbc.any() else self._n_electrons(atoms)
        except ModelError:  # of a molecule whose labels do not say
            return None
        return levels(h, s, spreads, electrons)

    def _overlap(self, like: BlockMatrix, atoms: Atoms) -> BlockMatrix:
        """S with the blocks of a structure's H."""
        return self.overlaps.of(Graph(like.numbers, like.pairs, pair_vectors(atoms, like.pairs)))

    def _n_electrons(self, atoms: Atoms) -> float:
        return n_electrons(self.card.settings, self.card.basis, self.card.spin, atoms)

    def _warn(self, concatenated: ConcatenatedGraph, first: Stage1Output, ood_score: np.ndarray) -> None:
        rigidity = np.zeros(len(concatenated.pair_sample))
        if self.calibration is not None:
            _, edges, graph = first
            rigidity[concatenated.oriented.pair_order] = self.calibration.rigidity.of_pairs(edges.scalars, graph.kind)
        if not self._is_outside(ood_score, rigidity):
            return
        for k in range(concatenated.n_samples):
            self.warn_outside(
                ood_score[concatenated.atom_sample == k], rigidity[concatenated.pair_sample == k], stacklevel=6
            )

    def warn_outside(self, ood_score: np.ndarray, rigidity: np.ndarray, stacklevel: int = 2) -> None:
        """`OutsideDomain`, one line, for a structure with an atom or a pair unlike those of the training set.

        novelty (N,) of its atoms, rigidity (P,) of its pairs (`uncertainty.rigidity`; zero where it is not known).
        """
        if self._is_outside(ood_score, rigidity):
            warnings.warn(_outside(ood_score, rigidity, self._rigidity_limit), OutsideDomain, stacklevel=stacklevel)

    def _is_outside(self, ood_score: np.ndarray, rigidity: np.ndarray) -> bool:
        return ood_score.max(initial=0.0) > LIMIT or rigidity.max(initial=0.0) > self._rigidity_limit

    @property
    def _rigidity_limit(self) -> float:
        return np.inf if self.calibration is None else self.calibration.rigidity_limit


class ModelInput:
    """Structures that a model is asked about, and what is known of them: each piece is worked out once, when it is needed.

    `given`: H0 of each structure, computed with PySCF where it is None. Raises what `Model.predict` raises.
    """

    def __init__(
        self, model: Model, structures: Sequence[Atoms], given: Sequence[BlockMatrix | None] | None = None
    ) -> None:
        self.model, self.card, self.space, self.structures = model, model.card, model.regression.space, structures
        self.given = [None] * len(structures) if given is None else given
        self.device = next(model.network.parameters()).device
        for atoms in structures:
            self._check(atoms)

    @cached_property
    def graphs(self) -> list[Graph]:
        return [build_graph(atoms, self.space.basis) for atoms in self.structures]

    @cached_property
    def matrices(self) -> list[BlockMatrix]:
        """Of zeros, with the blocks that H has."""
        return [empty_matrix(self.space.basis, g.numbers, g.pairs, self.space.spin) for g in self.graphs]

    @cached_property
    def concatenated(self) -> ConcatenatedGraph:
        return concatenate(self.space, self.graphs)

    @property
    def priors(self) -> Sequence[BlockMatrix | None]:
        """H0 of each structure; None where the model neither reads nor adds it."""
        reads = self.card.needs_prior or self.card.inputs.prior or self.card.inputs.density
        return self.known_priors if reads else [None] * len(self.structures)

    @cached_property
    def known_priors(self) -> list[BlockMatrix]:
        return [self._prior(*each) for each in zip(self.structures, self.given, self.matrices, strict=True)]

    @cached_property
    def overlaps(self) -> list[BlockMatrix]:
        """S of each structure, computed."""
        return [self.model.overlaps.of(graph) for graph in self.graphs]

    @cached_property
    def electrons(self) -> ChargeFeatures | None:
        """What the electrons of each H0 do, where the model reads it: all of them are in the basis set."""
        if not self.card.inputs.density:
            return None
        states = [
            molecule_charge_state(atoms, prior, s, _all_electrons(atoms), str(atoms.symbols))
            for atoms, prior, s in zip(self.structures, self.known_priors, self.overlaps, strict=True)
        ]
        return concatenated_charges(self.space, self.concatenated, states, self.known_priors)

    @cached_property
    def batch(self) -> GraphBatch:
        """What the network reads."""
        operators = {}
        if self.card.inputs.prior:
            operators["prior"] = self.known_priors
        if self.card.inputs.overlap:
            operators["overlap"] = [with_spin(s, self.space.spin) for s in self.overlaps]
        return concatenated_batch(self.space, self.concatenated, operators, self.electrons).to(self.device)

    def _check(self, atoms: Atoms) -> None:
        check_atoms(atoms)
        unknown = sorted(set(atoms.numbers.tolist()) - set(self.card.elements))
        if unknown:
            known = ", ".join(chemical_symbols[z] for z in self.card.elements)
            raise ModelError(
                f"expected elements among {known}, which the model knows, got {chemical_symbols[unknown[0]]}"
            )
        if atoms.pbc.any() and not self.card.periodic:
            raise ModelError(f"expected a molecule, as in the model's training set, got pbc {atoms.pbc.tolist()}")

    def _prior(self, atoms: Atoms, prior: BlockMatrix | None, like: BlockMatrix) -> BlockMatrix:
        if prior is None:
            from harmose.io.pyscf.pyscf import PySCFSettings
            from harmose.io.pyscf.pyscf import prior as compute

            if self.card.code not in ("pyscf", None):
                raise ModelError(f"this model needs the prior H0 of {self.card.code}: give it as `prior`")
            known = {f.name for f in fields(PySCFSettings)}
            prior = compute(
                atoms, PySCFSettings(**{k: v for k, v in self.card.settings.items() if k in known}), like.basis
            )
        if prior.basis.restricted(set(atoms.numbers.tolist())) != like.basis.restricted(set(atoms.numbers.tolist())):
            raise ModelError(
                f"expected a prior in basis {like.basis.name} with the model's shells, got {prior.basis.name}"
            )
        if not (np.array_equal(prior.numbers, like.numbers) and np.array_equal(prior.pairs, like.pairs)):
            raise ModelError("expected a prior of the same structure, got one with other atoms or blocks")
        if prior.spin is not like.spin:
            raise ModelError(f"expected a prior of spin {like.spin}, as the model's, got {prior.spin}")
        return like.with_values(prior.values)


def _all_electrons(atoms: Atoms) -> float:
    return float(atoms.numbers.sum()) - float(atoms.info.get("charge", 0))


def _outside(ood_score: np.ndarray, rigidity: np.ndarray, limit: float) -> str:
    parts = []
    if ood_score.max(initial=0.0) > LIMIT:
        parts.append(
            f"the surroundings of {(ood_score > LIMIT).sum()} of {len(ood_score)} atoms are up to {ood_score.max():.1f} times as "
            f"far from those of the training set as any that it held out (most: atom {ood_score.argmax()})"
        )
    if rigidity.max(initial=0.0) > limit:
        parts.append(f"the network extrapolates for {(rigidity > limit).sum()} of {len(rigidity)} pairs of atoms")
    return f"outside the training domain: {'; '.join(parts)}; expect larger errors"
