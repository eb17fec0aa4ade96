"""Predictions of labelled samples by a model, for an evaluation."""

from collections.abc import Sequence
from typing import Any, Protocol

from ase import Atoms

from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample, kind_of_prior
from harmose.errors import ModelError
from harmose.evaluate.evaluation import NETWORK_ALONE, Prediction
from harmose.evaluate.metrics import Predictor, RotationError, rotation_errors
from harmose.uncertainty.prediction import Uncertainty


class StageModel(Predictor, Protocol):
    """The part of `harmose.Model` that an evaluation uses."""

    @property
    def card(self) -> Any: ...

    @property
    def stages(self) -> tuple[str, ...]: ...

    def bounds_many(
        self,
        structures: Sequence[Atoms],
        priors: Sequence[BlockMatrix | None] | None,
        overlaps: Sequence[BlockMatrix | None],
        predicted: Sequence[BlockMatrix],
    ) -> Sequence[Uncertainty | None]: ...


def predict_samples(
    model: StageModel, samples: Sequence[Sample], network_alone: StageModel | None = None
) -> list[Prediction]:
    """Predict samples with all stages of a model, in one pass, with error bounds if the model is calibrated.

    Args:
        model: the model to evaluate.
        samples: labelled samples. They are returned with the energy zero that the model has learned.
        network_alone: a model without a regression, whose predictions become the stage "network".

    Raises:
        ModelError: `network_alone` has a regression or another energy zero, or a model does not cover a sample.
    """
    samples = [model.card.target.sample(sample) for sample in samples]
    structures, priors = [_named_structure(sample) for sample in samples], [_prior(sample, model) for sample in samples]
    stages = dict(model.predict_stages(structures, priors))
    bounds = model.bounds_many(structures, priors, [sample.overlap for sample in samples], list(stages.values())[-1])
    if network_alone is not None:
        check_network_alone(network_alone, model)
        stages[NETWORK_ALONE] = network_alone.predict_stages(structures, priors, ("full",))["full"]
    by_sample = (dict(zip(stages, matrices)) for matrices in zip(*stages.values(), strict=True))
    return [Prediction(*each) for each in zip(samples, by_sample, bounds, strict=True)]


def _prior(sample: Sample, model: StageModel) -> BlockMatrix | None:
    """Return the H0 of a sample; None if the model's is of another kind, so that it computes its own."""
    return sample.prior if kind_of_prior(sample.provenance) == kind_of_prior(model.card.settings) else None


def _named_structure(sample: Sample) -> Atoms:
    """Return the structure of a sample, so that errors about it name the sample."""
    structure = sample.structure.copy()
    structure.info["source"] = f"sample {sample.name}"
    return structure


def evaluate_rotations(
    model: StageModel,
    samples: Sequence[Sample],
    n_rotations: int,
    network_alone: StageModel | None = None,
) -> dict[str, RotationError]:
    """Rotation errors of all stages on the structures of these samples; empty without rotations."""
    if not n_rotations:
        return {}
    structures = [_named_structure(sample) for sample in samples]
    priors = [_prior(sample, model) for sample in samples]
    errors = rotation_errors(model, structures, n_rotations, stages=model.stages, priors=priors)
    if network_alone is not None:
        errors[NETWORK_ALONE] = rotation_errors(network_alone, structures, n_rotations, priors=priors)["full"]
    return errors


def check_network_alone(other: StageModel, model: StageModel) -> None:
    """Raise `ModelError` unless `other` is a model without a regression and with the energy zero of `model`."""
    if "regression" in other.stages:
        raise ModelError(
            "--network-alone: expected a model that was trained with regression: none, got one with a regression"
        )
    if other.card.target.fermi != model.card.target.fermi:
        zeros = f"{model.card.energy_zero}, as the model's, got {other.card.energy_zero}"
        raise ModelError(f"--network-alone: expected a model with the energy zero {zeros}")
