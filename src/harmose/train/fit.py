"""The fit before the network is trained, by linear algebra: regression, normalizer and training domain."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from harmose.core.species import symbol_of
from harmose.data.store import Store
from harmose.errors import FormatError
from harmose.inference.card import RegressionKind
from harmose.inference.checkpoint import with_prefix, write_tensors
from harmose.inference.pipeline import environments, fitted_values
from harmose.kernel_regression import state as regression_state
from harmose.kernel_regression import training_domain
from harmose.kernel_regression.fit import Advance, fit_regression, ignore
from harmose.kernel_regression.model import FadedValues, KernelRegression
from harmose.kernel_regression.training import Training
from harmose.kernel_regression.training_domain import TrainingDomain, fit_training_domain
from harmose.representation import normalizer as normalizer_state
from harmose.representation.block_irreps import BlockIrreps, Coefficients, map_coefficients
from harmose.representation.concatenation import SampleTargets, TargetSettings, compute_targets
from harmose.representation.normalizer import Normalizer, fit_normalizer
from harmose.train.reversals import training_space

FILE = "fit.safetensors"
"""Name of the file in the folder of a training."""

MANY_FORMULAS = 10
"""From this number of formulas on, samples are different molecules rather than geometries of a few."""


@dataclass(frozen=True)
class Fit:
    """The parts of a model that are fitted by linear algebra, without gradient steps.

    Attributes:
        normalizer: scales of the network's outputs.
        domain: statistics of the training set's environments.
        regression: None with `regression: none`.
        leave_one_out: predictions of the regression in eV for each training sample by a fit to all others; None where the
            network is trained on what the regression itself leaves.
    """

    normalizer: Normalizer
    domain: TrainingDomain
    regression: KernelRegression | None = None
    leave_one_out: FadedValues | None = None

    @property
    def space(self) -> BlockIrreps:
        """Irreps of the blocks."""
        return self.normalizer.space

    def values(self, targets: SampleTargets) -> FadedValues:
        """Return the values in eV that network outputs are added to, and how far the regression has faded."""
        graph = environments(self.regression, self.space, targets.concatenated.oriented, targets.charges)
        return fitted_values(self.regression, self.normalizer, graph)


def load_targets(
    store: Store,
    names: Sequence[str],
    target: TargetSettings,
    advance: Callable[[int], None] = ignore,
    space: BlockIrreps | None = None,
) -> SampleTargets:
    """Read samples and compute their targets; `FormatError` for none. `advance` is called with 1 after each sample.

    `space`: irreps of the blocks; default: those of the store's elements.
    """
    if not names:
        raise FormatError(f"{store.path}: expected training samples, got none")
    samples = []
    for name in names:
        samples.append(store[name])
        advance(1)
    return compute_targets(training_space(store, names, target) if space is None else space, samples, target)


def check_elements(space: BlockIrreps, species: Iterable[int], where: object) -> None:
    """Raise `FormatError` unless the training samples have all elements of a space, given the species that they have."""
    missing = sorted({*range(len(space.elements))} - {*map(int, species)})
    if missing:
        names = ", ".join(symbol_of(space.elements[k]) for k in missing)
        raise FormatError(
            f"{where}: expected training samples with every element of the store, got none with {names}: add some, or make a store "
            "of the others"
        )


def fit_to_samples(
    targets: SampleTargets,
    kind: RegressionKind = "kernel",
    sparse_points: int | None = None,
    progress: Advance = ignore,
) -> Fit:
    """Fit regression, normalizer and training domain to samples.

    Where there are many molecules, all geometries of one molecule are left out together. `sparse_points`: largest number of
    sparse points for each pair type; 0: three-centre terms alone.
    """
    space, whole = targets.space, targets.concatenated
    check_elements(space, np.unique(whole.oriented.species), "training set")
    many_molecules = targets.n_formulas >= MANY_FORMULAS
    owner = targets.groups if many_molecules else targets.originals
    owners = owner[whole.pair_sample], owner[whole.atom_sample]
    graph = environments(None, space, whole.oriented, targets.charges)
    domain = fit_training_domain(graph, owners[1])
    if kind == "none":
        return Fit(fit_normalizer(space, whole.oriented, targets.coefficients, with_shift=True), domain)
    training = Training(
        space, whole.oriented, targets.coefficients, *owners, many_molecules, targets.charges, sparse_points
    )
    regression, leave_one_out = fit_regression(training, kind, advance=progress)
    residual = map_coefficients(lambda target, value: target - value, targets.coefficients, leave_one_out.values)
    normalizer = fit_normalizer(space, whole.oriented, residual)
    return Fit(normalizer, domain, regression, leave_one_out if kind == "kernel" else None)


def write_fit(file: Path, fit: Fit) -> None:
    """Write a fit; `read_fit` is the inverse."""
    parts = {"normalizer": normalizer_state.to_state(fit.normalizer), "domain": training_domain.to_state(fit.domain)}
    if fit.regression is not None:
        parts["regression"] = regression_state.to_state(fit.regression)
    if fit.leave_one_out is not None:
        values, weights, std = fit.leave_one_out
        pairs = {f"pairs.{a}_{b}": x for (a, b), x in values.pairs.items()}
        onsite = {f"onsite.{s}": x for s, x in values.onsite.items()}
        parts["leave_one_out"] = pairs | onsite | {"weights": torch.as_tensor(weights), "std": torch.as_tensor(std)}
    write_tensors(file, {f"{part}.{name}": x for part, state in parts.items() for name, x in state.items()})


def read_fit(file: Path, space: BlockIrreps) -> Fit:
    """Read a fit; `FormatError` or `ModelError` for a damaged file."""
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise FormatError(f"{file}: expected the state of a training, got a damaged file ({error})") from None
    parts = {name: with_prefix(tensors, f"{name}.") for name in ("normalizer", "domain", "regression", "leave_one_out")}
    return Fit(
        normalizer_state.from_state(space, parts["normalizer"]),
        training_domain.from_state(space, parts["domain"]),
        regression_state.from_state(space, parts["regression"]) if parts["regression"] else None,
        _leave_one_out(file, space, parts["leave_one_out"]) if parts["leave_one_out"] else None,
    )


def _leave_one_out(file: Path, space: BlockIrreps, state: dict[str, Tensor]) -> FadedValues:
    try:
        values = Coefficients(
            {(a, b): state[f"pairs.{a}_{b}"] for a, b in space.groups},
            {s: state[f"onsite.{s}"] for s in range(len(space.shell_types))},
        )
        return FadedValues(values, state["weights"].numpy(), state["std"].numpy())
    except KeyError as error:
        raise FormatError(f"{file}: expected the state of a training, got none of {error}") from None
