"""The data of a training: the fit of the regression, normalized samples, and the sets that errors are measured on."""

from dataclasses import dataclass, replace

from harmose.data.store import Store
from harmose.representation.concatenation import TargetSettings
from harmose.train.checks import training_names
from harmose.train.config import TrainConfig
from harmose.train.dataset import Dataset, ValidationSet, load_dataset
from harmose.train.fit import FILE, Fit, read_fit
from harmose.train.log import Log
from harmose.train.reference_orbitals import ReferenceOrbitalTable
from harmose.train.regression_cache import FitSettings, fit_or_load, fit_space
from harmose.train.reversals import StoreWithReversals, with_reversals
from harmose.train.start import Start

TRAINING_ERRORS = 30
"""Largest number of training samples whose errors are measured."""


@dataclass(frozen=True)
class TrainingData:
    """Data of a training.

    Attributes:
        fit: regression, normalizer and training domain.
        dataset: normalized training samples.
        validation: samples that choose the weights.
        training_errors: a few training samples, whose errors are logged beside.
        orbitals: reference orbitals of the training samples, for losses that need them.
    """

    fit: Fit
    dataset: Dataset
    validation: ValidationSet
    training_errors: ValidationSet
    orbitals: ReferenceOrbitalTable | None


def prepare(config: TrainConfig, store: Store, log: Log, resumed: bool, start: Start | None = None) -> TrainingData:
    """Fit the regression, unless an earlier run did (`resumed`), and normalize the samples; `start`: the model to start from."""
    names, targets, moments = training_names(store, config), None, config.inputs.moments
    target = TargetSettings(config.prior == "H0", config.energy_zero == "fermi_of_labels", moments=moments)
    few = names[: min(TRAINING_ERRORS, config.validation_samples)]
    if moments:
        store, names = StoreWithReversals(store), with_reversals(names)
    blind = config.loss.shift_blind
    operators = (*config.inputs.operators, *(["overlap"] if blind else []))
    target = replace(target, operators=tuple(dict.fromkeys(operators)))
    if not resumed:
        settings = FitSettings(config.regression, config.sparse_points)
        folders = config.out, config.regression_cache
        text, targets = fit_or_load(store, names, target, settings, *folders, log.show, start)
        log.say(text)
    # Read back in any case: a resumed run must see the same numbers, to their order in memory.
    fit = read_fit(config.out / FILE, fit_space(store, names, target, start))
    dataset = load_dataset(store, names, fit, target, int(config.memory), targets)
    chosen = store.splits[config.val_split][: config.validation_samples]
    return TrainingData(
        fit,
        dataset,
        ValidationSet(store, chosen, fit, target, blind),
        ValidationSet(store, few, fit, target, blind),
        _reference_orbitals(store, dataset, log) if config.loss.needs_orbitals else None,
    )


def _reference_orbitals(store: Store, dataset: Dataset, log: Log) -> ReferenceOrbitalTable:
    names, done = dataset.names, 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        log.show("orbitals", done / len(names), f"{done} of {len(names)} samples")

    return ReferenceOrbitalTable(store, names, dataset.fit.space, dataset.target, advance)
