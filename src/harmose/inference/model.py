"""`Model`: a trained model, as `harmose.load` returns it."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from ase import Atoms

from harmose.core.blocks import BlockMatrix, empty_matrix
from harmose.errors import BasisError, ModelError, OutsideDomain
from harmose.inference.energy_zero import check_energy_zero
from harmose.inference.partition.predict import predict_in_parts
from harmose.inference.pipeline import STAGES, ModelInput, Outputs, Pipeline
from harmose.inference.scores import Limits, Scores
from harmose.physics.ghosts import warn_of_ghosts
from harmose.uncertainty.calibration import Calibration
from harmose.uncertainty.features import ErrorFeatures, error_features
from harmose.uncertainty.orbitals import OrbitalEnergies, orbital_energies
from harmose.uncertainty.prediction import Uncertainty, expected_error


class Predictions(NamedTuple):
    """Predicted H in eV by stage, one for each structure, and the scores of each structure."""

    stages: dict[str, list[BlockMatrix]]
    scores: list[Scores]


@dataclass(frozen=True)
class Model(Pipeline):
    """A trained model: H = H0 + regression + stage 1 + stage 2, each summand optional.

    Attributes:
        card: what the model is for, and where it comes from.
        normalizer: scales of the network's outputs.
        regression: kernel regression of blocks, or None.
        network: both stages of the network, or None.
        domain: statistics of the training set's environments.
        last_layer: standard deviation of the network's last layer, by which its outputs fade; None: they never do.
        calibration: bounds of the model's errors, or None.
        radial: radial functions of the basis set, for S; None: those that PySCF has under its name, if any.
        prior_tables: tables of a tabulated H0 by name (`io.pyscf.pair_tables`), or None.
    """

    calibration: Calibration | None = None

    def __repr__(self) -> str:
        from_ = [name for name in ("prior", "regression", "network") if getattr(self, name) is not None]
        return (
            f"Model({' + '.join(from_)}; {self.card.functional or 'functional unknown'}/{self.card.basis.name}, "
            f"{', '.join(self.card.symbols)}, spin {self.card.spin.value}, {self.card.n_train} training samples)"
        )

    @property
    def is_calibrated(self) -> bool:
        """True if the model can state bounds of its errors (`uncertainty`)."""
        return self.calibration is not None and self.calibration.highest is not None

    def predict(
        self,
        atoms: Atoms,
        prior: BlockMatrix | None = None,
        stage: str = "full",
        partition: Literal["auto", "off"] | int = "auto",
        memory: float | None = None,
        scheduler: str | None = None,
        folder: str | Path | None = None,
        energy_zero: str | None = None,
        log: Callable[[str], object] | None = None,
    ) -> BlockMatrix:
        """Predict the Hamiltonian of a structure of any size.

        A large structure is predicted in parts, with the same numbers to rounding and within a given memory.

        Args:
            atoms: structure, positions in angstrom.
            prior: H0 in eV, for a model that reads it; default: computed with PySCF.
            stage: "full", or a partial sum: "regression" (H0 + regression) or "stage1" (+ stage 1); or what the regression
                fades to far from the training set: "pairs" (H0 + functions of distances) or "prior" (H0, or mean blocks).
            partition: number of pairs of atoms in each part; "auto" predicts structures with more than 20,000 pairs
                in parts, "off" none.
            memory: bytes that a prediction in parts may use; default: most of the free memory.
            scheduler: address of a Dask scheduler whose workers share the parts.
            folder: folder for temporary files of a prediction in parts.
            energy_zero: "labels" or "fermi_of_prediction"; default: that of the model's card. Finding the Fermi level of
                many thousand atoms takes longer than predicting H; "labels" skips it.
            log: function called with a line that states the memory of a prediction in parts.

        Returns:
            H in eV, relative to the energy zero.

        Raises:
            ModelError: the card does not cover the structure, or the model cannot do what is asked.
            StructureError: the structure has no meaning, for example two atoms in one place.
            ConfigError: `partition` or `memory` cannot be used.

        Warns:
            OutsideDomain: an atom or a pair of atoms is unlike those of the training set.

        Examples:
            >>> from ase.build import molecule
            >>> import harmose
            >>> h = harmose.load("water-pbe-def2svp").predict(molecule("H2O"))
            >>> h.dense().shape
            (24, 24)
        """
        zero = check_energy_zero(energy_zero, self.card.energy_zero)
        if stage not in self.all_stages:
            raise ModelError(f"stage: expected one of {', '.join(self.all_stages)}, got {stage!r}")
        parts = predict_in_parts(self, atoms, stage, partition, memory, scheduler, folder, zero, log)
        if parts is None:
            predicted = self._predict([atoms], None if prior is None else [prior], (stage,), energy_zero)
            h, scores = predicted.stages[stage][0], predicted.scores[0]
        else:
            h, scores, features = parts
            scores = scores._replace(expected_error=self._expected_error(features, stage != "regression"))
        self._warn([scores], stacklevel=3)
        return h

    def predict_many(
        self,
        structures: Sequence[Atoms],
        priors: Sequence[BlockMatrix | None] | None = None,
        stage: str = "full",
        energy_zero: str | None = None,
    ) -> list[BlockMatrix]:
        """Predict the Hamiltonians of several structures in one pass of the network.

        Args:
            structures: structures, positions in angstrom.
            priors: H0 in eV of each structure; None where it is to be computed.
            stage: as in `predict`.
            energy_zero: as in `predict`.

        Returns:
            H in eV of each structure.

        Raises:
            ModelError, StructureError: as in `predict`.

        Examples:
            >>> from ase.build import molecule
            >>> import harmose
            >>> water = molecule("H2O")
            >>> len(harmose.load("water-pbe-def2svp").predict_many([water, water]))
            2
        """
        predicted = self._predict(structures, priors, (stage,), energy_zero)
        self._warn(predicted.scores, stacklevel=3)
        return predicted.stages[stage]

    def predict_stages(
        self,
        structures: Sequence[Atoms],
        priors: Sequence[BlockMatrix | None] | None = None,
        stages: Sequence[str] | None = None,
        energy_zero: str | None = None,
    ) -> dict[str, list[BlockMatrix]]:
        """Predict several stages of the model in one pass.

        Args:
            structures: structures, positions in angstrom.
            priors: H0 in eV of each structure; None where it is to be computed.
            stages: some of "prior", "pairs", "regression", "stage1", "full"; default: the last three, as far as the model
                has them.
            energy_zero: as in `predict`.

        Returns:
            By stage, H in eV of each structure.

        Raises:
            ModelError, StructureError: as in `predict`.

        Examples:
            >>> from ase.build import molecule
            >>> import harmose
            >>> list(harmose.load("water-pbe-def2svp").predict_stages([molecule("H2O")]))
            ['regression', 'stage1', 'full']
        """
        stages = self.stages if stages is None else (stages,) if isinstance(stages, str) else stages
        predicted = self._predict(structures, priors, stages, energy_zero)
        self._warn(predicted.scores, stacklevel=3)
        return predicted.stages

    def uncertainty(
        self,
        atoms: Atoms,
        prior: BlockMatrix | None = None,
        overlap: BlockMatrix | None = None,
        confidence: float | None = None,
    ) -> Uncertainty:
        """Predict a Hamiltonian with bounds of its errors.

        Args:
            atoms: structure, positions in angstrom.
            prior: H0 in eV; default: computed where the model reads it.
            overlap: S, for bounds of orbital energies; default: computed where radial functions are known.
            confidence: probability with which the bounds hold; default: 0.9, or less where the model supports less.

        Returns:
            H with bounds in eV.

        Raises:
            ModelError: the model has no calibration, or does not support the confidence; and as in `predict`.

        Warns:
            OutsideDomain: as in `predict`.
            GhostLevels: there are levels up to the LUMO that no DFT Hamiltonian has (`harmose.physics.ghosts`).

        Examples:
            >>> from ase.build import molecule
            >>> import harmose
            >>> u = harmose.load("water-pbe-def2svp").uncertainty(molecule("H2O"))
            >>> u.outside, u.confidence
            (False, 0.9)
        """
        return self._uncertainties([atoms], [prior], [overlap], confidence)[0]

    def uncertainty_many(
        self,
        structures: Sequence[Atoms],
        priors: Sequence[BlockMatrix | None] | None = None,
        overlaps: Sequence[BlockMatrix | None] | None = None,
        confidence: float | None = None,
        predicted: Sequence[BlockMatrix] | None = None,
    ) -> list[Uncertainty]:
        """Predict several Hamiltonians with bounds of their errors.

        Args:
            structures: structures, positions in angstrom.
            priors: H0 in eV of each structure, or None.
            overlaps: S of each structure, or None.
            confidence: as in `uncertainty`.
            predicted: H of each structure, where it has been predicted before.

        Returns:
            H with bounds in eV of each structure.

        Raises:
            ModelError: as in `uncertainty`.

        Examples:
            >>> from ase.build import molecule
            >>> import harmose
            >>> len(harmose.load("water-pbe-def2svp").uncertainty_many([molecule("H2O")]))
            1
        """
        return self._uncertainties(structures, priors, overlaps, confidence, predicted)

    def bounds_many(
        self,
        structures: Sequence[Atoms],
        priors: Sequence[BlockMatrix | None] | None,
        overlaps: Sequence[BlockMatrix | None],
        predicted: Sequence[BlockMatrix],
    ) -> list[Uncertainty | None]:
        """Return `uncertainty_many` of predicted matrices; None for each structure if the model has no calibration.

        Args:
            structures: structures, positions in angstrom.
            priors: H0 of each structure in eV; None: computed if the model reads it.
            overlaps: S of each structure; None: computed.
            predicted: predicted H of each structure in eV.

        Returns:
            One result for each structure; None for each if the model has no calibration.
        """
        if not self.is_calibrated:
            return [None] * len(structures)
        return [*self.uncertainty_many(structures, priors, overlaps, predicted=predicted)]

    def expected_errors(self, structures: Sequence[Atoms]) -> list[float]:
        """Estimate the mean absolute error of H of each structure without predicting it, to rank many structures.

        Args:
            structures: structures, positions in angstrom.

        Returns:
            Expected mean absolute errors in eV.

        Raises:
            ModelError: the model has no calibration, or its card does not cover a structure.

        Examples:
            >>> from ase.build import molecule
            >>> import harmose
            >>> [error] = harmose.load("water-pbe-def2svp").expected_errors([molecule("H2O")])
            >>> 0 < error < 1e-4
            True
        """
        calibration = self._calibration()
        if not structures:
            return []
        inputs = self.inputs(structures)
        basis, spin = self.space.basis, self.space.spin
        zeros = [empty_matrix(basis, g.numbers, g.pairs, spin) for g in inputs.graphs]
        pairs = zip(zeros, self._error_features(inputs, self.outputs(inputs.batch, ("stage1",))), strict=True)
        return [expected_error(like, calibration, features) for like, features in pairs]

    def _predict(
        self,
        structures: Sequence[Atoms],
        priors: Sequence[BlockMatrix | None] | None,
        stages: Sequence[str],
        energy_zero: str | None,
    ) -> Predictions:
        if not set(stages) <= set(self.all_stages):
            wrong = next(s for s in stages if s not in self.all_stages)
            lacks = ", since the model has no regression" if wrong in STAGES else ""
            raise ModelError(f"stage: expected one of {', '.join(self.all_stages)}, got {wrong!r}{lacks}")
        zero = check_energy_zero(energy_zero, self.card.energy_zero)
        if not structures:
            return Predictions({stage: [] for stage in stages}, [])
        inputs = self.inputs(structures, priors, zero)
        return self._finish(inputs, self.outputs(inputs.batch, stages), zero)

    def _uncertainties(
        self,
        structures: Sequence[Atoms],
        priors: Sequence[BlockMatrix | None] | None,
        overlaps: Sequence[BlockMatrix | None] | None,
        confidence: float | None,
        predicted: Sequence[BlockMatrix] | None = None,
    ) -> list[Uncertainty]:
        """Return `uncertainty_many`; warnings point at the caller of the public method that calls this one."""
        calibration = self._calibration()
        confidence = calibration.confidence(confidence)
        if not structures:
            return []
        inputs = self.inputs(structures, priors)
        outputs = self.outputs(inputs.batch, ("full",))
        features, warns = self._error_features(inputs, outputs), predicted is None
        scores, out = self._scores(inputs, outputs, features), []
        if predicted is None:
            predicted = self._finish(inputs, outputs, scores=scores).stages["full"]
            self._warn(scores, stacklevel=4)
        overlaps = [None] * len(structures) if overlaps is None else overlaps
        for h, atoms, s, own, score in zip(predicted, structures, overlaps, features, scores, strict=True):
            energies = self._orbital_energies(h, atoms, s, calibration.spreads(own))
            if warns and energies is not None:
                warn_of_ghosts(energies.ghosts, stacklevel=3)
            ghosts = [] if energies is None or not energies.ghosts else [energies.ghosts.describe()]
            reasons = (*score.reasons, *ghosts)
            out.append(Uncertainty(h, confidence, own, calibration, energies, reasons, tuple(score.unused)))
        return out

    def _finish(
        self, inputs: ModelInput, outputs: Outputs, energy_zero=None, scores: list[Scores] | None = None
    ) -> Predictions:
        parts = inputs.structures, inputs.priors, inputs.overlaps, energy_zero
        stages = {stage: self.complete(m, *parts) for stage, m in self.evaluate(inputs, outputs).items()}
        return Predictions(stages, self._scores(inputs, outputs) if scores is None else scores)

    def _scores(
        self, inputs: ModelInput, outputs: Outputs, features: list[ErrorFeatures] | None = None
    ) -> list[Scores]:
        """Return the scores of each structure; `features`: its `_error_features`, where they are known already."""
        whole, order = inputs.concatenated, inputs.concatenated.oriented.pair_order
        unknown = ~self.normalizer.covers(whole.oriented)
        std, weight = np.zeros(len(order)), np.ones(len(order))
        evaluated, out = any(c is not None for c in outputs.stages.values()), []
        if evaluated and self.last_layer is not None:
            std[order], weight[order] = outputs.last_layer_std[1], outputs.weights[1][0]
        weight[unknown] = 1.0  # said already
        owner = np.concatenate([whole.atom_sample, whole.pair_sample])
        if features is None and self._knows_expected_errors(evaluated):
            features = self._error_features(inputs, outputs)
        if features is None:
            scores, expected = self.domain.scores(inputs.neighbourhoods), [0.0] * whole.n_samples
            ood = [scores[whole.atom_sample == k] for k in range(whole.n_samples)]
        else:
            ood, expected = zip(
                *((x.atom_ood_score, self._expected_error(x, evaluated)) for x in features), strict=True
            )
        excess = self.domain.contact_excess(inputs.neighbourhoods)
        for k in range(whole.n_samples):
            pairs, blocks = whole.pair_sample == k, owner == k
            fitted = inputs.regression.std[blocks], inputs.regression.weights[blocks]
            own = std[pairs], self._limits, *fitted, weight[pairs], unknown[pairs], expected[k]
            own = *own, excess[whole.atom_sample == k]
            out.append(Scores(ood[k], *own))
        return out

    def _knows_expected_errors(self, evaluated: bool) -> bool:
        """True if there is a calibration that holds.

        It is with the network's standard deviations, if there is one: without the network `evaluated` it does not hold.
        """
        return self.calibration is not None and (evaluated or self.last_layer is None)

    def _expected_error(self, features: ErrorFeatures, evaluated: bool) -> float:
        """Return the expected mean |dH| of a structure in eV; zero where it is not known."""
        if self.calibration is None or not self._knows_expected_errors(evaluated):
            return 0.0
        return self.calibration.expected_of_matrix(features)

    @property
    def _limits(self) -> Limits:
        c = self.calibration
        return Limits() if c is None else Limits(*c.std_limits, c.error_limit, c.usual_error)

    def _warn(self, scores: Sequence[Scores], stacklevel: int) -> None:
        for each in scores:
            limited = each._replace(limits=self._limits)
            if limited.outside:
                warnings.warn(limited.describe(), OutsideDomain, stacklevel=stacklevel)

    def _calibration(self) -> Calibration:
        if self.calibration is None:
            raise ModelError("uncertainty: the model was not calibrated: `harmose calibrate MODEL STORE` does it")
        return self.calibration

    def _error_features(self, inputs: ModelInput, outputs: Outputs) -> list[ErrorFeatures]:
        whole = inputs.concatenated
        scales, ood = self.normalizer.scales(whole.oriented), self.domain.scores(inputs.neighbourhoods)
        std = inputs.regression.std
        return error_features(self.space, whole, scales, ood, outputs.last_layer_std, std).split(whole)

    def _orbital_energies(
        self, h: BlockMatrix, atoms: Atoms, s: BlockMatrix | None, spreads: np.ndarray
    ) -> OrbitalEnergies | None:
        try:
            s = self.overlap(h, atoms) if s is None else s
        except BasisError:  # without radial functions
            return None
        try:
            n_electrons = self.n_electrons(atoms)
        except ModelError:  # labels do not say how many electrons there are
            if not atoms.pbc.any():
                return None
            n_electrons = None
        return orbital_energies(h, s, spreads, n_electrons)
