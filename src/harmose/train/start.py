"""Training that starts from a model: its network goes on from the model's weights, its regression is kept, corrected or refitted.

A correction (`harmose.kernel_regression.correction`) is a second regression, of what the whole model leaves of the new samples. It
fades to zero away from them, so that other structures keep the predictions of the model.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from harmose.core.sample import kind_of_prior
from harmose.core.species import symbol_of
from harmose.data.store import Store
from harmose.errors import BasisError, ConfigError, ModelError
from harmose.inference import checkpoint
from harmose.inference.card import Card
from harmose.inference.model import Model
from harmose.inference.pipeline import environments, fitted_values
from harmose.kernel_regression.correction import summed_fades
from harmose.kernel_regression.fit import fit_correction
from harmose.kernel_regression.model import FadedValues, KernelRegression
from harmose.kernel_regression.training import Training
from harmose.kernel_regression.training_domain import TrainingDomain, fit_training_domain
from harmose.nn.two_stage import add
from harmose.representation.block_irreps import BlockIrreps, Coefficients, map_coefficients
from harmose.representation.concatenation import SampleTargets
from harmose.representation.normalizer import Normalizer, denormalize
from harmose.train.config import InitRegression, TrainConfig, card_keys
from harmose.train.fit import MANY_FORMULAS, Fit, fit_to_samples
from harmose.train.part_files import Change, Changed

LABEL_KEYS = ("code", "functional", "basis", "potential")
"""Settings of labels that must be those of the model, where both say them."""


@dataclass(frozen=True)
class Start:
    """The model that a training starts from.

    Attributes:
        model: the model.
        name: its name or folder, as it was given.
        digest: SHA-256 of its weights.
        regression: what becomes of its regression: "correct", "keep" or "refit".
    """

    model: Model
    name: str
    digest: str
    regression: InitRegression

    @property
    def card_entry(self) -> dict[str, Any]:
        """Entry about this model in the card of the new one (`Card.init`)."""
        card = self.model.card
        entry = {"model": self.name, "weights": self.digest, "regression": self.regression}
        entry |= {"training_set": card.training_set, "n_train": card.n_train}
        return entry | ({"init": dict(card.init)} if card.init else {})


def load_start(config: TrainConfig) -> Start | None:
    """Load the model of the key `init`; None without. Errors as in `harmose.load`, and `ConfigError` where keys contradict it."""
    if config.init is None:
        return None
    model = checkpoint.load(config.init)
    weights = (checkpoint.located(config.init) / checkpoint.WEIGHTS).read_bytes()
    regression = config.init_regression or ("keep" if model.regression is None else "correct")
    _check_keys(config, model)
    if model.regression is None and regression != "keep":
        raise ConfigError(
            f"init_regression: expected keep, since the model {config.init} has no regression, got {regression}"
        )
    if model.network is None and regression != "correct":
        nothing = "nothing to train" if regression == "keep" else "nothing of it is left: leave out init"
        raise ConfigError(
            f"init_regression: expected correct, since the model {config.init} has no network, got {regression} ({nothing})"
        )
    return Start(model, config.init, hashlib.sha256(weights).hexdigest(), regression)


def _check_keys(config: TrainConfig, model: Model) -> None:
    """Raise `ConfigError` for the first key that contradicts the model's card."""
    configured, wanted = _flat(config.model_dump(mode="json")), _flat(card_keys(model.card))
    for key, value in wanted.items():
        if configured.get(key) != value:
            raise ConfigError(
                f"{key}: expected {value}, as in the model {config.init}, got {configured.get(key)}; leave the key out"
            )


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in content.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return out


def check_kind_of_prior(card: Card, store: Store) -> None:
    """Raise `ModelError` if the H0 of a store is of another kind than that which the model adds or reads."""
    if card.reads_prior:
        learned, stored = kind_of_prior(card.settings), kind_of_prior(store.metadata)
        if learned != stored:
            raise ModelError(
                f"{store.path}: expected an H0 of kind {learned}, as the model's, got {stored}: "
                f"`harmose data prior STORE OUT --kind {learned}` computes it"
            )


def check_start(start: Start, store: Store) -> None:
    """Raise `ModelError` or `BasisError` for a store whose labels are not of the kind that the model learned."""
    card, where = start.model.card, str(store.path)
    if card.spin is not store.spin:
        raise ModelError(f"{where}: expected labels of spin {card.spin}, as the model {start.name}, got {store.spin}")
    for key in LABEL_KEYS:
        learned, stored = card.settings.get(key), store.metadata.get(key)
        if learned is not None and stored is not None and learned != stored:
            raise ModelError(f"{where}: expected labels of {key} {learned}, as the model {start.name}, got {stored}")
    check_kind_of_prior(card, store)
    unknown = [z for z in store.basis.elements if z not in card.basis.elements]
    if unknown:
        raise ModelError(
            f"{where}: expected elements of the model {start.name} ({', '.join(card.symbols)}), got {symbol_of(unknown[0])}: "
            "a model with further elements is trained from the beginning"
        )
    if store.basis.restricted(store.basis.elements) != card.basis.restricted(store.basis.elements):
        raise BasisError(
            f"{where}: expected the basis set of the model {start.name}, {card.basis!r}, got {store.basis!r}"
        )


def check_kinds(start: Start, space: BlockIrreps) -> None:
    """Raise `ModelError` for samples with moments of other signs than the model's training set; `space`: of the samples."""
    other = {*space.moments} - {*start.model.space.moments}
    if other:
        z, sign = sorted(other)[0]
        raise ModelError(
            f"expected moments as in the training set of the model {start.name}, got sign {sign} of {symbol_of(z)}"
        )


def start_fit(
    start: Start, targets: SampleTargets, sparse_points: int | None, progress: Callable[[float], None]
) -> Fit:
    """Return the fit of a training on these samples that starts from a model.

    The scales stay those of the model, since its network was trained with them. Raises `ModelError` for pairs of elements that
    the model does not know, unless the regression is refitted, and for a refit without some elements of the model.
    """
    model = start.model
    if start.regression == "refit":
        return _refitted(start, fit_to_samples(targets, model.card.regression, sparse_points, progress))
    _check_pairs(start, targets)
    whole, many = targets.concatenated, targets.n_formulas >= MANY_FORMULAS
    owner = targets.groups if many else targets.originals
    owners = owner[whole.pair_sample], owner[whole.atom_sample]
    graph = environments(model.regression, model.space, whole.oriented, targets.charges)
    domain = fit_training_domain(graph, owners[1])
    if start.regression == "keep" or model.regression is None:
        return started_fit(start, None, domain, None)
    before = fitted_values(model.regression, model.normalizer, graph)
    residual = _residual(model, targets, before)
    charges = targets.charges if model.regression.reads_charges else None
    training = Training(model.space, whole.oriented, residual, *owners, many, charges, sparse_points)
    correction, left_out = fit_correction(training, model.regression.mean_density, advance=progress)
    return replace(started_fit(start, None, domain, correction), leave_one_out=_sum(before, left_out))


def started_fit(
    start: Start, normalizer: Normalizer | None, domain: TrainingDomain, regression: KernelRegression | None
) -> Fit:
    """Return the fit of a training that starts from a model.

    Args:
        start: the model.
        normalizer: fitted to the samples, where the regression is refitted.
        domain: of the samples.
        regression: refitted to the samples, or the correction; None where the model keeps its regression.
    """
    model = start.model
    if start.regression == "refit":
        assert normalizer is not None
        return _refitted(start, Fit(normalizer, domain, regression))
    domain = model.domain.extended(domain)
    if regression is None or model.regression is None:
        return Fit(model.normalizer, domain, model.regression)
    corrections = (*model.regression.corrections, regression)
    return Fit(model.normalizer, domain, replace(model.regression, corrections=corrections))


def start_change(start: Start) -> Change | None:
    """Return what changes the targets of samples that are prepared in parts; None where the regression is refitted."""
    if start.regression == "refit":
        return None

    def change(targets: SampleTargets) -> Changed:
        model = start.model
        _check_pairs(start, targets)
        graph = environments(model.regression, model.space, targets.concatenated.oriented, targets.charges)
        before = fitted_values(model.regression, model.normalizer, graph)
        learned = map_coefficients(torch.sub, targets.coefficients, before.values)
        fitted = learned if start.regression == "keep" else _residual(model, targets, before)
        return Changed(fitted, learned, before.weights, before.std)

    return change


def _residual(model: Model, targets: SampleTargets, before: FadedValues) -> Coefficients:
    """Return what the whole model leaves of some targets; `before`: values of its regression."""
    outputs = model.outputs(targets.batch.to(model.device), ("full",)).stages["full"]
    predicted = denormalize(outputs, before.values, model.normalizer.scales(targets.concatenated.oriented))
    return map_coefficients(torch.sub, targets.coefficients, predicted)


def _sum(before: FadedValues, correction: FadedValues) -> FadedValues:
    """Return the values of the regression with those of a correction, both faded."""
    fades = summed_fades((before.weights, before.std), (correction.weights, correction.std))
    return FadedValues(add(before.values, correction.values), *fades)


def _check_pairs(start: Start, targets: SampleTargets) -> None:
    known, oriented = start.model.normalizer.pair_scale, targets.concatenated.oriented
    new = [k for k in np.unique(oriented.pair_type).tolist() if k not in known]
    if new:
        raise ModelError(
            f"expected pairs of elements that the model {start.name} knows, got {targets.space.pair_name(new[0])}: train on the "
            "samples of both (`harmose data merge`), from the beginning or with init_regression=refit"
        )


def _refitted(start: Start, fit: Fit) -> Fit:
    """Return the fit with the model's scales where it has them."""
    model = start.model
    missing = [k for k in model.normalizer.onsite_scale if k not in fit.normalizer.onsite_scale]
    if missing:
        raise ModelError(
            f"init_regression: expected samples with all elements of the model {start.name} for a refit, got none with "
            f"{symbol_of(model.space.elements[missing[0]])}: merge its training set with the new one (`harmose data merge`)"
        )
    known = model.normalizer.pair_scale
    scales = {k: known.get(k, scale) for k, scale in fit.normalizer.pair_scale.items()}
    return replace(fit, normalizer=replace(model.normalizer, pair_scale=scales))
