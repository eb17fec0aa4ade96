"""Bounds of a model's errors, fitted to samples that it has not seen.

The spread of a block and the bound of its mean |dH| at level a are

    sigma = size * max(novelty, u0)^p * max(rigidity, v0)^q * exp(t * distance)         bound = f(kind, a) * sigma

and beyond the largest novelty u1, rigidity v1 (and s_n) of the calibration, where nothing is known, with powers of one at least.
p, q >= 0 and t by least squares of log(error / size) within kinds of block; f by `conformal`, kind by kind. The bound of
an orbital's energy is f(kind, a) s_n^g, with s_n of `orbitals` in eV and g >= 0 found likewise for each kind: errors of
the blocks of a structure add up more or less coherently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import lsq_linear

from harmose.errors import ModelError
from harmose.kernel_regression.training_domain import OOD_LIMIT
from harmose.uncertainty import conformal
from harmose.uncertainty.features import ErrorFeatures, concatenate
from harmose.uncertainty.llpr import LastLayer
from harmose.uncertainty.orbitals import KINDS

CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
DEFAULT_CONFIDENCE = 0.9
STEEPEST = 2.0
"""Bound of p, q and g: what is far outside has no data, and a large power of it no meaning."""
LOWEST = 0.05
"""Quantile of novelty and rigidity among the samples of the calibration below which they do not shrink a bound."""
SMALLEST = 1e-9
"""eV: errors below are rounding."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """`powers` p, q, t; `least` u0, v0; `most` u1, v1; factors f at `confidences` (Q,): `factors` (C + 1, Q) of the kinds of block `kinds` (C,)
    and, last, of any other; `orbitals` (len(KINDS), Q), inf where there was nothing to compare; `orbital_powers` g (len(KINDS),);
    `typical` (C + 1,): mean error over sigma of each kind, and of all."""

    last_layer: LastLayer
    powers: np.ndarray
    least: np.ndarray
    most: np.ndarray
    kinds: np.ndarray
    factors: np.ndarray
    orbitals: np.ndarray
    orbital_powers: np.ndarray
    orbital_most: np.ndarray
    typical: np.ndarray
    n_groups: int
    """Samples that are independent of each other, by which levels the factors can state."""
    confidences: np.ndarray = field(default_factory=lambda: np.array(CONFIDENCES))

    def spreads(self, features: ErrorFeatures) -> np.ndarray:
        """sigma of every block in eV (B,)."""
        sigma = np.exp(_logarithms(features, self.least) @ self.powers) * features.size
        for x, largest, power in zip((features.ood_score, features.last_layer_std), self.most, self.powers):
            sigma = sigma * np.maximum(x / largest, 1.0) ** max(1.0 - power, 0.0)
        return sigma

    @property
    def last_layer_limit(self) -> float:
        """LastLayer from which a prediction is outside: an edge of the training set has one at most."""
        return max(OOD_LIMIT * float(self.most[1]), 1.0)

    def outside(self, features: ErrorFeatures) -> bool:
        """Whether an atom's surroundings, or what the network makes of an edge, are unlike those of the training set."""
        ood_score, last_layer_std = features.atom_ood_score.max(initial=0.0), features.last_layer_std.max(initial=0.0)
        return bool(ood_score > OOD_LIMIT or last_layer_std > self.last_layer_limit)

    def block_bounds(self, features: ErrorFeatures, confidence: float) -> np.ndarray:
        """Of the mean |dH| of every block in eV (B,)."""
        return self.factors[self._row(features), self._column(confidence)] * self.spreads(features)

    def expected(self, features: ErrorFeatures) -> np.ndarray:
        """Of the mean |dH| of every block in eV (B,): the mean, not a bound."""
        return self.typical[self._row(features)] * self.spreads(features)

    def _row(self, features: ErrorFeatures) -> np.ndarray:
        """Where the factors of every block's kind are (B,)."""
        place = np.searchsorted(self.kinds, features.kind).clip(max=len(self.kinds) - 1)
        return np.where(self.kinds[place] == features.kind, place, len(self.kinds))

    def orbital_bounds(self, kind: str, spreads: np.ndarray, confidence: float) -> np.ndarray:
        """In eV, of energies of one of `orbitals.KINDS` with these spreads; inf where the calibration could not compare any."""
        k = KINDS.index(kind)
        power, spreads = self.orbital_powers[k], np.maximum(spreads, SMALLEST)
        beyond = np.maximum(spreads / self.orbital_most[k], 1.0) ** max(1.0 - power, 0.0)
        return self.orbitals[k, self._column(confidence)] * spreads**power * beyond

    @property
    def supported(self) -> np.ndarray:
        """The levels that the calibration supports, ascending."""
        return self.confidences[np.isfinite(self.factors[-1])]

    @property
    def highest(self) -> float | None:
        """The highest of them."""
        return float(self.supported.max()) if len(self.supported) else None

    def confidence(self, asked: float | None) -> float:
        """`asked`, or 0.9 or the highest below that the calibration supports; `ModelError` for one that it does not."""
        highest = self.highest
        if highest is None or not 0 < (asked or highest) <= highest:
            text = "none" if highest is None else f"levels up to {highest:g}"
            raise ModelError(
                f"uncertainty: the model was calibrated on {self.n_groups} independent samples, which support {text}; "
                f"got {asked or DEFAULT_CONFIDENCE:g}"
            )
        return min(DEFAULT_CONFIDENCE, highest) if asked is None else asked

    def _column(self, confidence: float) -> int:
        """The smallest tabulated level that is not below."""
        return int(np.searchsorted(self.confidences, confidence - 1e-9).clip(max=len(self.confidences) - 1))


@dataclass(frozen=True, eq=False)
class Held:
    """A sample that the model has not seen: its traits and the mean |dH| of its blocks in eV (B,); `group` names what it
    depends on: another sample of the same group is no independent test."""

    group: str
    features: ErrorFeatures
    error: np.ndarray


def fit_blocks(held: Sequence[Held], last_layer: LastLayer) -> Calibration:
    """p, q, t and the factors of blocks; those of orbitals are still infinite (`fit_orbitals`)."""
    features = concatenate([x.features for x in held])
    group, error = _repeated([(x.group, x.error) for x in held])
    least = np.maximum(np.quantile([features.ood_score, features.last_layer_std], LOWEST, axis=1), 1e-6)
    most = np.maximum([features.ood_score.max(), features.last_layer_std.max()], 1e-6)
    powers = _powers(features, error, group, least)
    sigma = np.exp(_logarithms(features, least) @ powers) * features.size
    confidences, scores = np.array(CONFIDENCES), error / np.maximum(sigma, SMALLEST)
    kinds, other = np.unique(features.kind), conformal.bounds(scores, group, confidences)
    factors = [_factors(scores[mine], group[mine], confidences, other) for mine in (features.kind == k for k in kinds)]
    none, ones = np.full((len(KINDS), len(confidences)), np.inf), np.ones(len(KINDS))
    mean = _mean(scores, group)
    typical = [_mean(scores[mine], group[mine], mean) for mine in (features.kind == k for k in kinds)]
    arrays = np.array([*factors, other]), none, ones, ones, np.array([*typical, mean])
    return Calibration(last_layer, powers, least, most, kinds, *arrays, len(np.unique(group)))


Compared = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""What `orbitals.compared` gives of one sample."""


def fit_orbitals(calibration: Calibration, compared: Sequence[tuple[str, Compared]]) -> Calibration:
    """With factors of orbital energies, from the groups and the errors and spreads of samples not seen."""
    rows, powers, most = [], [], []
    for kind in KINDS:
        mine = [(group, *x[kind]) for group, x in compared if kind in x]
        group, error = _repeated([(name, e) for name, e, _ in mine])
        spread = np.maximum(_repeated([(name, s) for name, _, s in mine])[1], SMALLEST)
        y, x = np.log(np.maximum(error, SMALLEST)), np.log(spread)[:, None]
        (power,) = _slopes(y, x, np.zeros(len(y), dtype=int), group, [0.0], [STEEPEST])
        rows.append(conformal.bounds(error / spread**power, group, calibration.confidences))
        powers.append(power)
        most.append(spread.max(initial=SMALLEST))
    arrays = {"orbitals": rows, "orbital_powers": powers, "orbital_most": most}
    return replace(calibration, **{name: np.array(x) for name, x in arrays.items()})


def _repeated(parts: Sequence[tuple[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the groups, and the values of all parts, (n,) each."""
    number = {name: k for k, name in enumerate(dict.fromkeys(name for name, _ in parts))}
    owner = np.repeat([number[name] for name, _ in parts], [len(x) for _, x in parts])
    return owner, np.concatenate([np.zeros(0), *(x for _, x in parts)])


def _factors(scores: np.ndarray, group: np.ndarray, confidences: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of one kind of block; of too few groups for the usual level, at least what holds for all kinds."""
    own = conformal.bounds(scores, group, confidences)
    if conformal.supports(group, DEFAULT_CONFIDENCE):
        return np.where(np.isfinite(own), own, np.maximum(other, scores.max()))
    return np.maximum(other, np.where(np.isfinite(own), own, scores.max()))


def _mean(scores: np.ndarray, group: np.ndarray, other: float | None = None) -> float:
    """Each group counting alike, and `other` like one more."""
    _, inverse, count = np.unique(group, return_inverse=True, return_counts=True)
    total = float((scores / count[inverse]).sum())
    return total / len(count) if other is None else (total + other) / (len(count) + 1)


def _logarithms(features: ErrorFeatures, least: np.ndarray) -> np.ndarray:
    """What p, q and t multiply: (B, 3)."""
    ood_score, last_layer_std = (
        np.log(np.maximum(x, m)) for x, m in zip((features.ood_score, features.last_layer_std), least)
    )
    return np.stack([ood_score, last_layer_std, features.distance], 1)


def _powers(features: ErrorFeatures, error: np.ndarray, group: np.ndarray, least: np.ndarray) -> np.ndarray:
    y = np.log(np.maximum(error, SMALLEST) / features.size)
    bounds = [0.0, 0.0, -STEEPEST], [STEEPEST] * 3
    return _slopes(y, _logarithms(features, least), np.unique(features.kind, return_inverse=True)[1], group, *bounds)


def _slopes(
    y: np.ndarray, x: np.ndarray, kind: np.ndarray, group: np.ndarray, lower: list[float], upper: list[float]
) -> np.ndarray:
    """Least squares of y (n,) on x (n, F), with a constant for each kind, within bounds; each group counts alike.

    A penalty as of one group more keeps a slope at zero that hardly any data asks for.
    """
    if not len(y):
        return np.zeros(x.shape[1])
    weight = 1 / np.bincount(group)[group]
    total = np.maximum(np.bincount(kind, weight), 1e-300)
    columns = np.column_stack([y, x])
    mean = np.stack([np.bincount(kind, weight * column) / total for column in columns.T], 1)
    columns = (columns - mean[kind]) * np.sqrt(weight)[:, None]
    of_one_group = np.sqrt((columns[:, 1:] ** 2).sum(0) / len(np.unique(group))) + 1e-12
    rows = np.vstack([columns[:, 1:], np.diag(of_one_group)])
    return lsq_linear(rows, np.append(columns[:, 0], np.zeros(x.shape[1])), (lower, upper)).x
