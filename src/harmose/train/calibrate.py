"""Calibration: bounds of a model's errors, from samples that it was not trained on (`harmose.uncertainty`)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from ase import Atoms

from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.core.moments import original_name
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import ModelError
from harmose.inference.model import Model
from harmose.inference.pipeline import environments
from harmose.inference.prior import check_prior
from harmose.physics.eigen import eigenvalues
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import Coefficients
from harmose.representation.concatenation import SampleTargets, TargetSettings, assemble, compute_targets
from harmose.train.dataset import MEMORY, LeftOutPredictions, ValidationSet, chunks, load_dataset
from harmose.train.fit import Fit, fit_to_samples, load_targets
from harmose.train.prepared import fits_into_memory
from harmose.train.reversals import StoreWithReversals, with_reversals
from harmose.uncertainty.calibration import (
    Calibration,
    HeldOutSample,
    OrbitalErrors,
    fit_blocks,
    fit_orbitals,
    widen_blocks,
    widen_orbitals,
)
from harmose.uncertainty.features import ErrorFeatures, error_features
from harmose.uncertainty.llpr import fit_last_layer
from harmose.uncertainty.orbitals import orbital_energies, orbital_errors
from harmose.uncertainty.prediction import mean_errors

FEW_GROUPS = 20
"""Below this number of held-out groups, training samples are added, as predicted by a regression fitted to all others."""
MOST_ADDED = 40
"""Largest number of training samples that are added."""
HALVES = (0.5, 1.0, 2.0, 4.0, 8.0, np.inf)
"""Standard deviations of the last layer at which a stage counts half, to choose from; in units of the 95 % quantile on the
validation samples."""
TOLERANCE = 0.005
"""Share by which the validation error may grow for an earlier fade."""
MOST_TRAINING = 1000
"""Largest number of training samples that the last layer's covariance is computed from."""


@dataclass(frozen=True, eq=False)
class _Prediction:
    """A sample, its H as predicted by a model that was not fitted to it, and features of the errors."""

    group: str
    sample: Sample
    h: BlockMatrix
    features: ErrorFeatures

    @property
    def error(self) -> np.ndarray:
        """Return the mean |dH| of every block in eV (B,)."""
        return mean_errors(self.h, self.sample.hamiltonian)


def calibrated(
    model: Model,
    store: Store,
    validation: ValidationSet,
    training: Sequence[str],
    left_out: LeftOutPredictions | None = None,
    target: TargetSettings | None = None,
    known: Model | None = None,
) -> Model:
    """Return the model with bounds that its errors on the validation samples keep as often as stated.

    `training`: names of the samples that it was trained on. `left_out`: gives predictions of some of them (of `target`) by a
    regression fitted to the others, used where there are few validation samples. The network has been trained on them, so that
    its share is left out there, and the bounds are a little wide. `known`: a model that this one corrects for a few structures;
    its bounds are kept, since they still hold for all others, and widened where the validation samples need it.
    """
    seen = {_composition(store[name].structure) for name in training}
    predictions = [
        x for k in range(len(validation.parts)) for x in _validation_predictions(model, store, validation, k, seen)
    ]
    if known is not None and known.calibration is not None:
        return _widened(model, known, known.calibration, predictions)
    n_validation = len(predictions)
    if left_out is not None and len({x.group for x in predictions}) < FEW_GROUPS:
        of = target or model.card.target
        predictions += _training_predictions(model, store, training, of, left_out)
    fitted = fit_blocks([HeldOutSample(x.group, x.features, x.error) for x in predictions])
    spectra = ((x.group, _orbital_errors(x, fitted.spreads(x.features))) for x in predictions)
    fitted = fit_orbitals(fitted, [(group, each) for group, each in spectra if each is not None])
    about = {
        "samples": n_validation,
        "left_out_training_samples": len(predictions) - n_validation,
        "groups": fitted.n_groups,
        "highest_confidence": fitted.highest,
    }
    return replace(model, calibration=fitted, card=replace(model.card, calibration=about))


def _widened(model: Model, known: Model, calibration: Calibration, predictions: Sequence[_Prediction]) -> Model:
    """Return the model with the bounds of a calibration, widened where predictions of validation samples need it."""
    fitted = widen_blocks(calibration, [HeldOutSample(x.group, x.features, x.error) for x in predictions])
    spectra = ((x.group, _orbital_errors(x, fitted.spreads(x.features))) for x in predictions)
    fitted = widen_orbitals(fitted, [(group, each) for group, each in spectra if each is not None])
    about = {**known.card.calibration, "further_samples": len(predictions)}
    return replace(model, calibration=fitted, card=replace(model.card, calibration=about))


def calibrated_on(
    model: Model, store: Store, training: Sequence[str], names: Sequence[str], refit: bool = False
) -> Model:
    """Calibrate a trained model on the samples `names`; `training`: those that it was trained on.

    `refit`: also fit the regression once more, for leave-one-out predictions of training samples where `names` are few.
    """
    if refit and model.regression is not None and model.regression.corrections:
        raise ModelError(
            "refit: expected a model that was trained from the beginning, got one with a correction of another model"
        )
    target = replace(model.card.target, fermi=model.card.energy_zero == "fermi_of_labels")
    if target.moments:
        store, training = StoreWithReversals(store), with_reversals(training)
    validation = ValidationSet(store, names, Fit(model.normalizer, model.domain, model.regression), target)
    parts = (compute_targets(model.space, samples, target) for samples in chunks(store, training[:MOST_TRAINING]))
    model = with_last_layer(model, validation, map(separate_graphs, parts))
    left_out = None
    if refit and model.card.regression != "none":
        training = _some(store, training)
        targets = load_targets(store, training, target, space=model.space)
        fit = fit_to_samples(targets, model.card.regression)
        left_out = load_dataset(store, training, fit, target, targets).left_out
    return calibrated(model, store, validation, training, left_out, target)


def _some(store: Store, names: Sequence[str]) -> list[str]:
    """Return the samples, or evenly from all as many as can be fitted in memory."""
    n = len(names)
    while not fits_into_memory(store, names, MEMORY):
        n = n * 3 // 4
        names = [names[int(k)] for k in np.linspace(0, len(names) - 1, n)]
    return list(names)


def with_last_layer(model: Model, validation: ValidationSet, batches: Iterable[GraphBatch]) -> Model:
    """Return the model whose network fades by the variance of its last layer; `batches`: graphs of the training set.

    Each stage fades as soon as that does not make the error on the validation samples worse by more than `TOLERANCE`.
    """
    if model.network is None:
        return model
    layer = fit_last_layer(model.network, batches)
    steps = [(layer.std(model.network, part.batch.to(model.device))) for part in validation.parts]
    largest = float(np.quantile(np.concatenate([x for pair in steps for x in pair]), 0.95))
    half = np.full(2, np.inf)
    for k, stage in enumerate(("stage1", "full")):
        errors = []
        for factor in HALVES:
            half[k] = max(factor * largest, 1e-6)
            tried = replace(model, last_layer=replace(layer, half=half.copy()))
            errors.append(validation.mae(partial(_output, tried, stage)))
        chosen = np.flatnonzero(np.array(errors) <= (1 + TOLERANCE) * min(errors))[0]
        half[k] = max(HALVES[chosen] * largest, 1e-6)
    return replace(model, last_layer=replace(layer, half=half))


def separate_graphs(part: SampleTargets) -> GraphBatch:
    """Return the concatenated graph of some samples as a batch of several structures."""
    sample = torch.as_tensor(part.concatenated.atom_sample[part.concatenated.oriented.atom_order])
    return replace(part.batch, sample=sample, n_samples=part.concatenated.n_samples)


def _composition(atoms: Atoms) -> str:
    return atoms.get_chemical_formula()


def _output(model: Model, stage: str, batch: GraphBatch) -> Coefficients | None:
    """Return the network's output of a stage."""
    return model.outputs(batch.to(model.device), (stage,)).stages[stage]


def _validation_predictions(
    model: Model, store: Store, validation: ValidationSet, k: int, compositions_seen: set[str]
) -> list[_Prediction]:
    """Predict the samples of a part; those of a composition that training does not have form one group."""
    part = validation.parts[k]
    outputs = model.outputs(part.batch.to(model.device), ("full",))
    matrix = validation.matrix(k, outputs.stages["full"])
    std = outputs.last_layer_std, validation.regression[k].std
    predictions = _predictions(model, store, part, matrix, validation.scales[k], *std)
    formulas = (_composition(x.sample.structure) for x in predictions)
    return [x if f in compositions_seen else replace(x, group=f) for x, f in zip(predictions, formulas)]


def _training_predictions(
    model: Model, store: Store, training: Sequence[str], target: TargetSettings, left_out: LeftOutPredictions
) -> list[_Prediction]:
    """Take some training samples, evenly from all, as predicted by a regression fitted to the others."""
    chosen = np.unique(np.linspace(0, len(training) - 1, MOST_ADDED).astype(int))
    part = load_targets(store, [training[int(k)] for k in chosen], target, space=model.space)
    scales, found = model.normalizer.scales(part.concatenated.oriented), left_out(chosen, part)
    matrix = assemble(model.space, part.concatenated, None, found.values, scales)
    last_layer_std = model.outputs(part.batch.to(model.device), ("stage1",)).last_layer_std
    return _predictions(model, store, part, matrix, scales, last_layer_std, found.std)


def _predictions(
    model: Model,
    store: Store,
    part: SampleTargets,
    matrix: BlockMatrix,
    scales: Coefficients,
    last_layer_std: tuple[np.ndarray, np.ndarray],
    regression_std: np.ndarray,
) -> list[_Prediction]:
    """Complete the predicted matrices of a part."""
    whole, space = part.concatenated, model.space
    samples = [store[name] for name in part.names]
    matrices = whole.split(matrix, [build_graph(sample.structure, space.basis) for sample in samples])
    ood = model.domain.scores(environments(model.regression, space, whole.oriented))
    features = error_features(space, whole, scales, ood, last_layer_std, regression_std).split(whole)
    priors = [_prior(sample, like) if model.card.needs_prior else None for sample, like in zip(samples, matrices)]
    completed = model.complete(matrices, [sample.structure for sample in samples], priors)
    labels = map(model.card.target.sample, samples)
    return [_Prediction(original_name(x.name), x, h, f) for x, h, f in zip(labels, completed, features, strict=True)]


def _prior(sample: Sample, like: BlockMatrix) -> BlockMatrix | None:
    """Return the sample's H0 in the model's basis set, which may have further elements."""
    return None if sample.prior is None else check_prior(sample.prior, like)


def _orbital_errors(x: _Prediction, spreads: np.ndarray) -> OrbitalErrors | None:
    """Compare the sample's orbital energies; None without S, or without a molecule's number of electrons."""
    sample = x.sample
    periodic = sample.structure.pbc.any()
    if sample.overlap is None or (sample.n_electrons is None and not periodic):
        return None
    energies = orbital_energies(x.h, sample.overlap, spreads, None if periodic else sample.n_electrons)
    return orbital_errors(energies, np.sort(eigenvalues(sample.hamiltonian, sample.overlap), axis=None))
