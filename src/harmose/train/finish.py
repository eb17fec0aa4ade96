"""The end of a training: the model with its card, its errors on the validation samples, and its calibration."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata

import numpy as np
import torch
from ase.data import chemical_symbols

from harmose.core.moments import original_name
from harmose.core.radial import RadialBasis
from harmose.core.sample import kind_of_prior
from harmose.data.store import Store
from harmose.inference.card import Card
from harmose.inference.electrons import training_electrons
from harmose.inference.model import Model
from harmose.io import pyscf
from harmose.nn.two_stage import TwoStage
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import BlockIrreps, Coefficients
from harmose.train.calibrate import MOST_TRAINING, calibrated, with_last_layer
from harmose.train.checks import label_settings, training_functions
from harmose.train.config import TrainConfig
from harmose.train.log import Log
from harmose.train.prepare import TrainingData
from harmose.train.start import Start

SAMPLES_AT_ONCE = 20
"""Number of training samples that are read together for the calibration."""
TITLES = {"regression": "regression alone", "stage1": "with stage 1", "full": "with stage 2"}


def finished_model(
    config: TrainConfig,
    store: Store,
    data: TrainingData,
    network: TwoStage | None,
    log: Log,
    start: Start | None = None,
) -> Model:
    """Return the model with its card, calibrated unless the configuration says no; print its validation errors.

    `network`: as it was trained; None: that of the model that the training started from, if any.
    """
    keeps_network = network is None and start is not None
    if keeps_network and start is not None:
        network = start.model.network
    card, fit, radial = _card(config, store, data, network, start), data.fit, _radial(config, store, start)
    model = Model(
        card,
        fit.normalizer,
        fit.regression,
        network,
        fit.domain,
        radial=radial,
        prior_tables=_prior_tables(card, start),
    )
    if keeps_network and start is not None:  # so that it fades elsewhere as before
        model = replace(model, last_layer=start.model.last_layer)
    else:
        dataset, n = data.dataset, min(len(data.dataset), MOST_TRAINING)
        chosen = np.linspace(0, len(dataset) - 1, n).astype(int)
        parts = np.array_split(chosen, -(-n // SAMPLES_AT_ONCE))
        model = with_last_layer(model, data.validation, (dataset.batch(part).graph for part in parts))
    stages = model.stages if network is not None else ("regression",)
    errors = {stage: data.validation.mae(_predict(model, stage)) for stage in stages}
    metrics = {f"mae_val_{stage}": value for stage, value in errors.items()}
    if network is None:  # the regression is all that there is
        metrics |= {f"mae_val_{stage}": errors["regression"] for stage in ("stage1", "full")}
    model = replace(model, card=replace(model.card, metrics=metrics))
    shown = ", ".join(f"{log.error(value)} {log.unit} {TITLES[stage]}" for stage, value in errors.items())
    log.say(f"validation, {len(data.validation.names)} samples: H MAE {shown}")
    if not config.calibrate:
        return model
    known = start.model if keeps_network and start is not None and start.regression != "refit" else None
    return _calibrated(data, model, log, known)


def _radial(config: TrainConfig, store: Store, start: Start | None) -> RadialBasis | None:
    """Return the radial functions that the model keeps: those of the model that the training started from, if it has them."""
    if start is not None and start.model.radial is not None:
        return start.model.radial
    return training_functions(store, config) if start is None or store.basis == start.model.card.basis else None


def _prior_tables(card: Card, start: Start | None) -> Mapping[str, np.ndarray] | None:
    """Return the tables of a tabulated H0, for a model that computes one."""
    if not (card.reads_prior and card.code == "pyscf" and kind_of_prior(card.settings) == "tabulated"):
        return None
    if start is not None and set(start.model.card.elements) >= set(card.elements):
        return start.model.prior_tables
    functional, basis = card.settings["functional"], card.settings["basis"]
    return pyscf.pair_tables.pair_tables(functional, basis, card.elements).to_arrays()


def _predict(model: Model, stage: str) -> Callable[[GraphBatch], Coefficients | None]:
    return lambda batch: model.outputs(batch.to(model.device), (stage,)).stages[stage]


def _calibrated(data: TrainingData, model: Model, log: Log, known: Model | None) -> Model:
    """Fit bounds of the model's errors to the validation samples; `known`: a model whose bounds are kept, and widened."""
    log.show("calibrating", 0.0, f"{len(data.validation.names)} samples")
    dataset = data.dataset
    return calibrated(model, dataset.store, data.validation, dataset.names, dataset.left_out, dataset.target, known)


def _card(
    config: TrainConfig, store: Store, data: TrainingData, network: torch.nn.Module | None, start: Start | None
) -> Card:
    names, space = list(dict.fromkeys(map(original_name, data.dataset.names))), data.fit.space
    digests = sorted(hashlib.blake2b(store.record(n), digest_size=32).digest() for n in names)
    charges, unpaired = training_electrons((store[n].structure for n in names), store.spin)
    periodic, settings = bool(store[names[0]].structure.pbc.any()), label_settings(store, names)
    if start is not None:
        before = start.model.card
        periodic, settings = periodic or before.periodic, {**settings, **before.settings}
        charges = tuple(sorted({*charges, *before.charges}))
        both = unpaired, before.unpaired
        unpaired = None if both[0] is None or both[1] is None else tuple(sorted({*both[0], *both[1]}))
    return Card(
        basis=space.basis,
        spin=store.spin,
        network=None if network is None else config.network,
        l_max=space.l_max,
        regression=config.regression,
        needs_prior=data.dataset.target.prior,
        inputs=config.inputs,
        moments=_moments(space),
        energy_zero=config.energy_zero,
        overlap_filter=config.overlap_filter,
        periodic=periodic,
        charges=charges,
        unpaired=unpaired,
        settings=settings,
        training_set=hashlib.sha256(b"".join(digests)).hexdigest(),
        n_train=len(names),
        init={} if start is None else start.card_entry,
        n_parameters=0 if network is None else sum(p.numel() for p in network.parameters()),
        seed=config.seed,
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        harmose=_version(),
    )


def _moments(space: BlockIrreps) -> dict[str, tuple[int, ...]]:
    """Return the signs of moments that are species by symbol, ascending; empty where moments are no input."""
    signs: dict[str, tuple[int, ...]] = {}
    for z, sign in sorted(space.moments):
        signs[chemical_symbols[z]] = (*signs.get(chemical_symbols[z], ()), sign)
    return signs


def _version() -> str:
    try:
        return metadata.version("harmose")
    except metadata.PackageNotFoundError:
        return "unknown"
