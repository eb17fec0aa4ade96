"""The data of a training: the fit of the regression, normalized samples, and the sets that errors are measured on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from harmose.core.files import write_file
from harmose.data.store import Store
from harmose.errors import ConfigError, FormatError, HarmoseError
from harmose.kernel_regression.model import KernelRegression
from harmose.kernel_regression.training_domain import TrainingDomain
from harmose.representation.block_irreps import BlockIrreps
from harmose.representation.concatenation import TargetSettings
from harmose.representation.normalizer import Normalizer
from harmose.train.checks import training_names
from harmose.train.config import TrainConfig
from harmose.train.dataset import Dataset, ValidationSet, load_dataset
from harmose.train.fit import FILE, Fit, read_fit
from harmose.train.log import Log
from harmose.train.prepared import Preparation, fits_into_memory, is_prepared, open_prepared, prepare_in_parts
from harmose.train.prepared_sets import size_of
from harmose.train.reference_orbitals import ReferenceOrbitalTable
from harmose.train.regression_cache import FitSettings, digest, fit_or_load, fit_space, prepared_folder
from harmose.train.reversals import StoreWithReversals, with_reversals
from harmose.train.start import Start, start_change, started_fit
from harmose.train.state import DATA

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
    names, moments = training_names(store, config), config.inputs.moments
    target = TargetSettings(config.prior == "H0", config.energy_zero == "fermi_of_labels", moments=moments)
    few = names[: min(TRAINING_ERRORS, config.validation_samples)]
    if moments:
        store, names = StoreWithReversals(store), with_reversals(names)
    blind = config.loss.shift_blind
    operators = (*config.inputs.operators, *(["overlap"] if blind else []))
    target = replace(target, operators=tuple(dict.fromkeys(operators)))
    samples = _TrainingSamples(config, store, names, target, start)
    prepare_them = _in_memory if fits_into_memory(store, names, int(config.memory)) else _in_parts
    fit, dataset = prepare_them(samples, log, resumed)
    chosen = store.splits[config.val_split][: config.validation_samples]
    return TrainingData(
        fit,
        dataset,
        ValidationSet(store, chosen, fit, target, blind),
        ValidationSet(store, few, fit, target, blind),
        _reference_orbitals(store, dataset, log) if config.loss.needs_orbitals else None,
    )


@dataclass(frozen=True)
class _TrainingSamples:
    """The samples `names` of a store, with reversed moments where they are read, and what is learned of them."""

    config: TrainConfig
    store: Store
    names: Sequence[str]
    target: TargetSettings
    start: Start | None

    @property
    def settings(self) -> FitSettings:
        """Settings of the fit."""
        init = None if self.start is None else (self.start.digest, self.start.regression)
        return FitSettings(self.config.regression, self.config.sparse_points, init)

    @property
    def space(self) -> BlockIrreps:
        """Irreps of the blocks."""
        return fit_space(self.store, self.names, self.target, self.start)


def _in_memory(samples: _TrainingSamples, log: Log, resumed: bool) -> tuple[Fit, Dataset]:
    """Fit the regression to all samples at once, and keep them in memory."""
    config, about = samples.config, (samples.store, samples.names, samples.target)
    _check_same_data(config.out, digest(*about, samples.settings, ()), resumed)
    targets = None
    if not resumed:
        folders = config.out, config.regression_cache
        text, targets = fit_or_load(*about, samples.settings, *folders, log.show, samples.start)
        log.say(text)
    # Read back in any case: a resumed run must see the same numbers, to their order in memory.
    fit = read_fit(config.out / FILE, samples.space)
    return fit, load_dataset(samples.store, samples.names, fit, samples.target, targets)


def _in_parts(samples: _TrainingSamples, log: Log, resumed: bool) -> tuple[Fit, Dataset]:
    """Fit the regression to one part of the samples after the other, and keep them in files."""
    config, store, names = samples.config, samples.store, samples.names
    target, start = samples.target, samples.start
    space, memory, settings = samples.space, int(config.memory), samples.settings
    folder = prepared_folder(store, config.regression_cache, names, target, settings, memory)
    _check_same_data(config.out, folder.name, resumed)
    if not is_prepared(folder):
        log.say(
            f"{len(names)} samples do not fit into memory ({memory / 1e9:g} GB): they are prepared in parts in {folder}"
        )
        kind = settings.kind if start is None else {"correct": "correction"}.get(start.regression, start.regression)
        kind = start.model.card.regression if start is not None and kind == "refit" else kind
        what = Preparation(
            store,
            names,
            space,
            target,
            kind,
            config.sparse_points,
            memory,
            torch.get_num_threads(),
            None if start is None else start_change(start),
            None if start is None or start.model.regression is None else start.model.regression.mean_density,
        )
        prepare_in_parts(what, folder, partial(_fit_of, start), log.show)
    hint = f" (`harmose data cache {config.data} --remove` deletes them)" if config.regression_cache is None else ""
    log.say(f"{len(names)} samples prepared in parts: {size_of(folder) / 1e9:.2f} GB in {folder}{hint}")
    try:
        return open_prepared(folder, store, space, target)
    except HarmoseError as error:
        raise FormatError(f"{error}: remove {folder}, and the same command prepares it again") from None


def _check_same_data(out: Path, found: str, resumed: bool) -> None:
    """Keep the digest of what is learned; `ConfigError` for a training that goes on with other samples or another fit."""
    file = out / DATA
    if not resumed:
        write_file(file, found)
    elif file.exists() and file.read_text() != found:
        raise ConfigError(
            f"out: {out} holds a training on other labels, or one whose regression was fitted otherwise (another memory, or "
            "another version of harmose): choose another folder, or overwrite=true"
        )


def _fit_of(
    start: Start | None, normalizer: Normalizer | None, domain: TrainingDomain, regression: KernelRegression | None
) -> Fit:
    """Return the fit of samples that were prepared in parts."""
    if start is not None:
        return started_fit(start, normalizer, domain, regression)
    assert normalizer is not None
    return Fit(normalizer, domain, regression)


def _reference_orbitals(store: Store, dataset: Dataset, log: Log) -> ReferenceOrbitalTable:
    names, done = dataset.names, 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        log.show("orbitals", done / len(names), f"{done} of {len(names)} samples")

    return ReferenceOrbitalTable(store, names, dataset.fit.space, dataset.target, advance)
