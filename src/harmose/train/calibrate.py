"""The end of a training: bounds of the model's errors, from samples that it has not seen (`harmose.uncertainty`)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.inference.model import Model
from harmose.physics.eigen import eigenvalues
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import Coefficients, to_matrix
from harmose.representation.concatenation import (
    SampleTargets,
    TargetSettings,
    compositions,
    compute_targets,
    denormalize,
)
from harmose.train.dataset import ValidationSet, chunks, fit_to_store, load_targets
from harmose.uncertainty.calibration import Compared, Held, fit_blocks, fit_orbitals
from harmose.uncertainty.features import ErrorFeatures, error_features
from harmose.uncertainty.llpr import LastLayer, fit_last_layer
from harmose.uncertainty.orbitals import compared, levels
from harmose.uncertainty.prediction import mean_errors

FEW = 20
"""Held-out groups below which training samples are added, as the closed-form fit to all others predicts them."""
MOST = 40
"""Training samples that are added at most."""
MOST_TRAINING = 1000
"""Training samples that tell what the networks have seen."""


@dataclass(frozen=True, eq=False)
class _Predicted:
    """A sample, its H as the model says without having seen it, and what tells how wrong that may be."""

    group: str
    sample: Sample
    h: BlockMatrix
    features: ErrorFeatures

    @property
    def error(self) -> np.ndarray:
        """Mean |dH| of every block in eV (B,)."""
        return mean_errors(self.h, self.sample.hamiltonian)


def calibrated(
    model: Model,
    store: Store,
    reference: ValidationSet,
    training: Sequence[str],
    batches: Iterable[GraphBatch],
    left_out: Coefficients | None = None,
    target: TargetSettings | None = None,
) -> Model:
    """The model with bounds that its errors of the samples of `reference` keep as often as they say.

    `training`: the samples it was trained on, `batches` their graphs. `left_out`: what the closed form says of each of them
    (of its `target`) without having seen it, used where `reference` has few. The networks have seen them, so that their share is left out
    there, and the bounds are a little wide.
    """
    known: set[tuple[int, ...]] = set()
    rigidity = fit_last_layer(model.network, _noting(batches, known))
    held = [x for k in range(len(reference.parts)) for x in _of_reference(model, store, reference, k, rigidity, known)]
    n_reference = len(held)
    if left_out is not None and len({x.group for x in held}) < FEW:
        held += _of_training(model, store, training, target or model.card.target, left_out, rigidity)
    found = fit_blocks([Held(x.group, x.features, x.error) for x in held], rigidity)
    spectra = ((x.group, _levels(model, x, found.spreads(x.features))) for x in held)
    found = fit_orbitals(found, [(group, each) for group, each in spectra if each is not None])
    about = {
        "samples": n_reference,
        "left_out_training_samples": len(held) - n_reference,
        "groups": found.n_groups,
        "highest_level": found.highest,
    }
    return replace(model, calibration=found, card=replace(model.card, calibration=about))


def calibrated_on(
    model: Model, store: Store, training: Sequence[str], names: Sequence[str], refit: bool = False
) -> Model:
    """A trained model, calibrated on the samples `names`; `training`: those that it was trained on.

    Where `names` are few, `refit` fits the closed form once more to learn what it says of each training sample unseen.
    """
    target = replace(model.card.target, fermi=model.card.energy_zero == "fermi_of_labels")
    reference = ValidationSet(store, names, model.regression, target)
    space = model.regression.space
    batches = (
        graphs_of(compute_targets(space, samples, target)) for samples in chunks(store, training[:MOST_TRAINING])
    )
    left_out = fit_to_store(store, training, target)[1] if refit else None
    return calibrated(model, store, reference, training, batches, left_out, target)


def graphs_of(part: SampleTargets) -> GraphBatch:
    """The graph of some samples, measured as one, as that of several."""
    sample = torch.as_tensor(part.concatenated.atom_sample[part.concatenated.oriented.atom_order])
    return replace(part.batch, sample=sample, n_samples=part.concatenated.n_samples)


def _noting(batches: Iterable[GraphBatch], known: set[tuple[int, ...]]) -> Iterator[GraphBatch]:
    """The batches, whose compositions go into `known`."""
    for batch in batches:
        counts = compositions(batch.sample.numpy(), batch.species.numpy(), batch.n_samples)
        known.update(map(_composition, counts))
        yield batch


def _composition(counts: np.ndarray) -> tuple[int, ...]:
    """Of one structure, without the species at the end that it does not have."""
    return tuple(np.trim_zeros(counts, "b").tolist())


def _of_reference(
    model: Model, store: Store, reference: ValidationSet, k: int, rigidity: LastLayer, known: set[tuple[int, ...]]
) -> list[_Predicted]:
    """Samples of a composition that training has not seen are one group: they may be of one molecule."""
    part, (values, scales) = reference.parts[k], reference.closed_form[k]
    with torch.no_grad():
        found = model.network(part.batch.to(next(model.network.parameters()).device))
    restored = denormalize(found, values, scales)
    predicted = _predicted(model, store, part, restored, scales, rigidity)
    species = (_composition(np.bincount(model.regression.space.species(x.h.numbers))) for x in predicted)
    return [x if s in known else replace(x, group=str(s)) for x, s in zip(predicted, species)]


def _of_training(
    model: Model,
    store: Store,
    training: Sequence[str],
    target: TargetSettings,
    left_out: Coefficients,
    rigidity: LastLayer,
) -> list[_Predicted]:
    """Some training samples, evenly from all, as the closed-form fit to the others says."""
    part = load_targets(store, training, target)
    return _predicted(model, store, part, left_out, model.regression.scales(part.concatenated.oriented), rigidity, MOST)


def _predicted(
    model: Model,
    store: Store,
    part: SampleTargets,
    learned: Coefficients,
    scales: Coefficients,
    rigidity: LastLayer,
    most: int | None = None,
) -> list[_Predicted]:
    """Samples of a part, all or evenly from all; `learned`: what the model says of them, in eV."""
    concatenated, space = part.concatenated, model.regression.space
    samples = [store[name] for name in part.names]
    matrix = to_matrix(space, learned, concatenated.graph, concatenated.oriented)
    matrices = concatenated.split(matrix, [build_graph(sample.structure, space.basis) for sample in samples])
    features = error_features(model.regression, model.network, rigidity, concatenated, part.batch, scales).split(
        concatenated
    )
    chosen = range(len(samples)) if most is None else np.unique(np.linspace(0, len(samples) - 1, most).astype(int))
    samples = [samples[k] for k in chosen]
    priors = [sample.prior if model.card.needs_prior else None for sample in samples]
    found = model.completed([matrices[k] for k in chosen], [sample.structure for sample in samples], priors)
    labels = map(model.card.target.sample, samples)
    return [_Predicted(x.name, x, h, features[k]) for x, h, k in zip(labels, found, chosen, strict=True)]


def _levels(model: Model, x: _Predicted, spreads: np.ndarray) -> Compared | None:
    """Errors and spreads of the sample's orbital energies; None without S, or a molecule's number of electrons."""
    sample = x.sample
    periodic = sample.structure.pbc.any()
    if sample.overlap is None or (sample.n_electrons is None and not periodic):
        return None
    found = levels(x.h, sample.overlap, spreads, None if periodic else sample.n_electrons)
    return compared(found, np.sort(eigenvalues(sample.hamiltonian, sample.overlap), axis=None))
