"""Bounds of a model's errors, fitted to samples that were held out (equations in docs/uncertainty.md).

The error of a block is estimated from its error features (`ErrorFeatures`) r, n, v, u, d, and its bound at a confidence is

    sigma = r max(n, n0)^p max(v, v0)^q max(u, u0)^s exp(t d)  (1)
    bound = f(block type, confidence) sigma                    (2)

Above n1, v1 and u1, the largest values of the calibration, the powers are at least one. p, q, s >= 0 and t are least squares of
log(error / r) within block types; f are split-conformal (`conformal`). The bound of an orbital energy with spread s in eV
(`orbitals`) is

    bound = f(orbital kind, confidence) s^g                    (3)

with g >= 0 fitted likewise for each kind, since the errors of the blocks of a structure add up more or less coherently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import scipy

from harmose.errors import ModelError
from harmose.kernel_regression.training_domain import OOD_LIMIT
from harmose.uncertainty import conformal
from harmose.uncertainty.features import ErrorFeatures, concatenate
from harmose.uncertainty.orbitals import ORBITAL_KINDS

CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
DEFAULT_CONFIDENCE = 0.9
MAX_POWER = 2.0
"""Bound of p, q, t and g: larger ones have no support in data far from the training domain."""
FLOOR_QUANTILE = 0.05
"""n0, v0 and u0 are this quantile of n, v and u in the calibration; smaller values do not shrink a bound further."""
UNUSUAL = 4.0
"""A structure whose expected error is so many times the usual one is outside the training domain, ..."""
INSIDE = 0.98
"""... but this share of the calibration's samples is inside."""
ERROR_FLOOR = 1e-9
"""eV. Smaller errors are rounding."""

OrbitalErrors = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""By orbital kind, absolute errors and spreads in eV of the energies of a sample (`orbitals.orbital_errors`)."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Factors and powers of this module's equations; C block types, K orbital kinds, Q confidences.

    Attributes:
        powers: p, q, s, t of equation 1 (4,).
        feature_floors: n0, v0, u0 of equation 1 (3,).
        feature_limits: n1, v1, u1, largest n, v and u of the calibration (3,).
        block_types: block types of the calibration (C,), ascending, as in `ErrorFeatures`.
        block_factors: f of equation 2 (C + 1, Q); the last row is for all other block types.
        orbital_factors: f of equation 3 (K, Q); infinite where the calibration has no such energy.
        orbital_powers: g of equation 3 (K,).
        orbital_limits: largest spread of the calibration (K,), eV; above it the power is at least one.
        mean_scores: mean of error / sigma by block type (C + 1,); the last one is for all other block types.
        n_groups: number of independent samples; it limits the confidence that the factors support.
        usual_error, error_limit: median expected error of H of the calibration's samples, and that above which a structure is
            outside the training domain, in eV.
        confidences: tabulated confidences (Q,), ascending.
    """

    powers: np.ndarray
    feature_floors: np.ndarray
    feature_limits: np.ndarray
    block_types: np.ndarray
    block_factors: np.ndarray
    orbital_factors: np.ndarray
    orbital_powers: np.ndarray
    orbital_limits: np.ndarray
    mean_scores: np.ndarray
    n_groups: int
    usual_error: float = np.inf
    error_limit: float = np.inf
    confidences: np.ndarray = field(default_factory=lambda: np.array(CONFIDENCES))

    def spreads(self, features: ErrorFeatures) -> np.ndarray:
        """Return sigma of each block (B,) in eV (equation 1)."""
        sigma = np.exp(_log_features(features, self.feature_floors) @ self.powers) * features.size
        for x, limit, power in zip(_growing(features), self.feature_limits, self.powers):
            sigma = sigma * np.maximum(x / limit, 1.0) ** max(1.0 - power, 0.0)
        return sigma

    @property
    def std_limits(self) -> tuple[float, float]:
        """Largest v and u inside the training domain: of v at least 1, which no edge of the training set exceeds."""
        v, u = OOD_LIMIT * self.feature_limits[1:]
        return max(float(v), 1.0), float(u)

    def outside(self, features: ErrorFeatures) -> bool:
        """True if the out-of-domain score of an atom, v of an edge or u of a block exceeds its limit."""
        v_limit, u_limit = self.std_limits
        return bool(
            features.atom_ood_score.max(initial=0.0) > OOD_LIMIT
            or features.last_layer_std.max(initial=0.0) > v_limit
            or features.regression_std.max(initial=0.0) > u_limit
            or self.expected_of_matrix(features) > self.error_limit
        )

    def block_bounds(self, features: ErrorFeatures, confidence: float) -> np.ndarray:
        """Return bounds of the mean |dH| of each block (B,) in eV (equation 2)."""
        return self.block_factors[self._row(features), self._column(confidence)] * self.spreads(features)

    def expected(self, features: ErrorFeatures) -> np.ndarray:
        """Return the expected mean |dH| of each block (B,) in eV."""
        return self.mean_scores[self._row(features)] * self.spreads(features)

    def expected_of_matrix(self, features: ErrorFeatures) -> float:
        """Return the expected mean |dH| over all elements of the matrix in eV."""
        return float(np.average(self.expected(features), weights=features.elements))

    def _row(self, features: ErrorFeatures) -> np.ndarray:
        """Row of `block_factors` for each block (B,)."""
        place = np.searchsorted(self.block_types, features.block_type).clip(max=len(self.block_types) - 1)
        return np.where(self.block_types[place] == features.block_type, place, len(self.block_types))

    def orbital_bounds(self, kind: str, spreads: np.ndarray, confidence: float) -> np.ndarray:
        """Return bounds in eV of energies of one of `ORBITAL_KINDS` with these spreads in eV (equation 3)."""
        k = ORBITAL_KINDS.index(kind)
        return self.orbital_factors[k, self._column(confidence)] * self._orbital_sizes(k, spreads)

    def _orbital_sizes(self, k: int, spreads: np.ndarray) -> np.ndarray:
        """Return s^g for orbital kind k, with a power of at least one above the limit."""
        power, spreads = self.orbital_powers[k], np.maximum(spreads, ERROR_FLOOR)
        beyond = np.maximum(spreads / self.orbital_limits[k], 1.0) ** max(1.0 - power, 0.0)
        return spreads**power * beyond

    @property
    def supported(self) -> np.ndarray:
        """Confidences that the number of independent samples supports, ascending."""
        return self.confidences[np.isfinite(self.block_factors[-1])]

    @property
    def highest(self) -> float | None:
        """Highest supported confidence, or None."""
        return float(self.supported.max()) if len(self.supported) else None

    def confidence(self, requested: float | None) -> float:
        """Return the requested confidence, by default 0.9 or the highest supported one below.

        Raises:
            ModelError: the calibration does not support the confidence.
        """
        highest = self.highest
        if highest is None or not 0 < (highest if requested is None else requested) <= highest:
            supported = "none" if highest is None else f"confidences up to {highest:g}"
            raise ModelError(
                f"uncertainty: the model was calibrated on {self.n_groups} independent samples, which support "
                f"{supported}; got {DEFAULT_CONFIDENCE if requested is None else requested:g}"
            )
        return min(DEFAULT_CONFIDENCE, highest) if requested is None else requested

    def _column(self, confidence: float) -> int:
        """Column of the lowest tabulated confidence that is not below."""
        return int(np.searchsorted(self.confidences, confidence - 1e-9).clip(max=len(self.confidences) - 1))


@dataclass(frozen=True, eq=False)
class HeldOutSample:
    """A sample that the model was not trained on.

    Attributes:
        group: samples of one group depend on each other and count as one test.
        features: error features of its blocks.
        error: mean |dH| of each block (B,) in eV.
    """

    group: str
    features: ErrorFeatures
    error: np.ndarray


def fit_blocks(samples: Sequence[HeldOutSample]) -> Calibration:
    """Fit equations 1 and 2; factors of orbital energies stay infinite until `fit_orbitals`."""
    features = concatenate([x.features for x in samples])
    group, error = _with_groups([(x.group, x.error) for x in samples])
    growing = _growing(features)
    floors = np.maximum(np.quantile(growing, FLOOR_QUANTILE, axis=1), 1e-6)
    logs, type_number = _log_features(features, floors), np.unique(features.block_type, return_inverse=True)[1]
    y = np.log(np.maximum(error, ERROR_FLOOR) / features.size)
    powers = _fit_powers(y, logs, type_number, group, [0.0, 0.0, 0.0, -MAX_POWER])
    scores = error / np.maximum(np.exp(logs @ powers) * features.size, ERROR_FLOOR)
    block_types, confidences = np.unique(features.block_type), np.array(CONFIDENCES)
    factors, mean = conformal.bounds(scores, group, confidences), _mean_score(scores, group)
    rows = [features.block_type == k for k in block_types]
    none, ones = np.full((len(ORBITAL_KINDS), len(confidences)), np.inf), np.ones(len(ORBITAL_KINDS))
    fitted = Calibration(
        powers,
        feature_floors=floors,
        feature_limits=np.maximum(np.max(growing, axis=1), 1e-6),
        block_types=block_types,
        block_factors=np.array([*(_type_factors(scores[k], group[k], confidences, factors) for k in rows), factors]),
        orbital_factors=none,
        orbital_powers=ones,
        orbital_limits=ones,
        mean_scores=np.array([*(_mean_score(scores[k], group[k], mean) for k in rows), mean]),
        n_groups=len(np.unique(group)),
    )
    expected = np.array([fitted.expected_of_matrix(x.features) for x in samples])
    usual, largest = float(np.median(expected)), float(np.quantile(expected, INSIDE))
    return replace(fitted, usual_error=usual, error_limit=max(UNUSUAL * usual, largest))


def fit_orbitals(calibration: Calibration, samples: Sequence[tuple[str, OrbitalErrors]]) -> Calibration:
    """Fit equation 3 to the group and the orbital errors of held-out samples; return the calibration with it."""
    factors, powers, limits = [], [], []
    for kind in ORBITAL_KINDS:
        parts = [(group, *errors[kind]) for group, errors in samples if kind in errors]
        group, error = _with_groups([(name, e) for name, e, _ in parts])
        spread = np.maximum(_with_groups([(name, s) for name, _, s in parts])[1], ERROR_FLOOR)
        y, x = np.log(np.maximum(error, ERROR_FLOOR)), np.log(spread)[:, None]
        (power,) = _fit_powers(y, x, np.zeros(len(y), dtype=int), group, [0.0])
        factors.append(conformal.bounds(error / spread**power, group, calibration.confidences))
        powers.append(power)
        limits.append(spread.max(initial=ERROR_FLOOR))
    arrays = {"orbital_factors": factors, "orbital_powers": powers, "orbital_limits": limits}
    return replace(calibration, **{name: np.array(x) for name, x in arrays.items()})


def widen_blocks(calibration: Calibration, samples: Sequence[HeldOutSample]) -> Calibration:
    """Return the calibration with factors of blocks at least as large as further held-out samples need.

    Confidences that they are too few for keep their factors.
    """
    features = concatenate([x.features for x in samples])
    group, error = _with_groups([(x.group, x.error) for x in samples])
    scores = error / np.maximum(calibration.spreads(features), ERROR_FLOOR)
    rows, factors = calibration._row(features), calibration.block_factors.copy()
    for k in np.unique(rows):
        factors[k] = _widened(factors[k], scores[rows == k], group[rows == k], calibration.confidences)
    factors[-1] = _widened(factors[-1], scores, group, calibration.confidences)
    return replace(calibration, block_factors=factors)


def widen_orbitals(calibration: Calibration, samples: Sequence[tuple[str, OrbitalErrors]]) -> Calibration:
    """Return the calibration with factors of orbital energies at least as large as further held-out samples need."""
    factors = calibration.orbital_factors.copy()
    for k, kind in enumerate(ORBITAL_KINDS):
        parts = [(group, *errors[kind]) for group, errors in samples if kind in errors]
        group, error = _with_groups([(name, e) for name, e, _ in parts])
        spread = _with_groups([(name, s) for name, _, s in parts])[1]
        factors[k] = _widened(factors[k], error / calibration._orbital_sizes(k, spread), group, calibration.confidences)
    return replace(calibration, orbital_factors=factors)


def _widened(factors: np.ndarray, scores: np.ndarray, group: np.ndarray, confidences: np.ndarray) -> np.ndarray:
    """Return the larger of some factors (Q,) and those that the scores need, where they support any."""
    own = conformal.bounds(scores, group, confidences)
    return np.maximum(factors, np.where(np.isfinite(own), own, 0.0))


def _with_groups(parts: Sequence[tuple[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate the values of named groups; return the group numbers and the values, (n,) each."""
    number = {name: k for k, name in enumerate(dict.fromkeys(name for name, _ in parts))}
    group = np.repeat([number[name] for name, _ in parts], [len(x) for _, x in parts])
    return group, np.concatenate([np.zeros(0), *(x for _, x in parts)])


def _type_factors(scores: np.ndarray, group: np.ndarray, confidences: np.ndarray, all_types: np.ndarray) -> np.ndarray:
    """Factors of one block type; with too few groups for the default confidence, at least those of all types."""
    own = conformal.bounds(scores, group, confidences)
    if conformal.supports(group, DEFAULT_CONFIDENCE):
        return np.where(np.isfinite(own), own, np.maximum(all_types, scores.max()))
    return np.maximum(all_types, np.where(np.isfinite(own), own, scores.max()))


def _mean_score(scores: np.ndarray, group: np.ndarray, prior: float | None = None) -> float:
    """Mean with equal weights of all groups; `prior` counts as one more group."""
    _, inverse, count = np.unique(group, return_inverse=True, return_counts=True)
    total = float((scores / count[inverse]).sum())
    return total / len(count) if prior is None else (total + prior) / (len(count) + 1)


def _log_features(features: ErrorFeatures, floors: np.ndarray) -> np.ndarray:
    """Factors of p, q, s and t in log sigma (B, 4)."""
    return np.column_stack([np.log(np.maximum(_growing(features).T, floors)), features.distance])


def _growing(features: ErrorFeatures) -> np.ndarray:
    """Return n, v and u (3, B), with which errors grow."""
    return np.stack([features.ood_score, features.last_layer_std, features.regression_std])


def _fit_powers(
    y: np.ndarray, x: np.ndarray, type_number: np.ndarray, group: np.ndarray, lower: list[float]
) -> np.ndarray:
    """Fit slopes (F,) of y (n,) in x (n, F) between `lower` and MAX_POWER, with a constant for each type.

    All groups have equal weights. A penalty with the weight of one group keeps slopes small that few data support.
    """
    if not len(y):
        return np.zeros(x.shape[1])
    weight = 1 / np.bincount(group)[group]
    total = np.maximum(np.bincount(type_number, weight), 1e-300)
    columns = np.column_stack([y, x])
    mean = np.stack([np.bincount(type_number, weight * column) / total for column in columns.T], 1)
    columns = (columns - mean[type_number]) * np.sqrt(weight)[:, None]
    penalty = np.sqrt((columns[:, 1:] ** 2).sum(0) / len(np.unique(group))) + 1e-12
    rows = np.vstack([columns[:, 1:], np.diag(penalty)])
    return scipy.optimize.lsq_linear(
        rows, np.append(columns[:, 0], np.zeros(x.shape[1])), (lower, [MAX_POWER] * x.shape[1])
    ).x
