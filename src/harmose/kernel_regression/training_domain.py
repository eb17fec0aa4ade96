"""How far an atom's surroundings are from those of the training set: the question before every prediction.

    c[b, n, l, m] = sum over neighbours j of species b of  g_n(r_ij) f(r_ij) Y(l, m)(r_ij)        x = |c|  over m

with Gaussians g_n in the distance that fall with it; the signed sum at l = 0. The novelty of an atom is the length of
`x - mean` in units of the training set's spread along each principal axis (Mahalanobis, 1936, with a floor under the
spread), divided by the largest that an atom of a training sample had which the statistics had not seen. Up to 1 an atom
is as familiar as those; `LIMIT` and more is another matter. A model can err at familiar atoms, and be right at new ones:
this measures surroundings, not errors.
"""

from dataclasses import dataclass, field

import numpy as np

from harmose.kernel_regression.neighbourhoods import DEGREES, Neighbourhoods, neighbourhood

LIMIT = 2.0
"""Novelty from which a prediction is outside the training domain."""
SPACING = 0.5
"""Angstrom between the Gaussians, and their width."""
FALL = 3.0
"""Angstrom over which a neighbour counts less by e."""
FLOOR = 1e-3
"""Of the largest spread: axes along which training atoms vary less are not trusted to be that stiff."""
NO_SPREAD = 0.02
"""Of the floor: axes with less spread are taken to have none."""
FOLDS = 5


@dataclass(frozen=True)
class TrainingDomain:
    """What training atoms of one species look like: mean (F,), whitening (F, r) of the axes along which they vary (float32:
    much of what a model of many elements takes on disk), scale, and the floor of their variances."""

    mean: np.ndarray
    whiten: np.ndarray
    scale: np.ndarray
    """(1,): distance of the most unusual training atom when its sample is left out."""
    floor: np.ndarray = field(default_factory=lambda: np.full(1, np.inf))
    """(1,): variance that is allowed along all other axes; infinite where `whiten` holds all."""

    def ood_score(self, x: np.ndarray) -> np.ndarray:
        """Of atoms with these features (N, F): (N,)."""
        return _distance(x, self.mean, self.whiten, self.floor) / self.scale


def features(graph: Neighbourhoods, atoms: np.ndarray) -> np.ndarray:
    """The x of this module's equation, for atoms (N,): (N, F)."""
    around = neighbourhood(graph, atoms).by_species(graph)
    distance = graph.pairs.distance[around.edges]
    centres = 0.5 + SPACING * np.arange(20)
    cut = (1 + np.cos(np.pi * distance / graph.reach[around.edges])) / 2 * np.exp(-distance / FALL)
    radial = np.exp(-(((distance[:, None] - centres) / SPACING) ** 2) / 2) * cut[:, None]
    angular = graph.axes(around.edges)[:, : DEGREES**2]
    density = around.gather(angular[:, :, None] * radial[:, None])  # (atoms and species, l m, n)
    first = np.arange(DEGREES) ** 2
    sizes = np.sqrt(np.add.reduceat(density**2, first, axis=1))
    sizes[:, 0] = density[:, 0]
    by_species = sizes.reshape(len(atoms), graph.n_species, DEGREES, -1)
    return by_species.swapaxes(1, 2).reshape(len(atoms), -1)


def fit_training_domain(x: np.ndarray, sample: np.ndarray) -> TrainingDomain | None:
    """The statistics of training atoms (N, F) of these samples (N,); None for too few samples to leave some out."""
    names = np.unique(sample)
    if len(names) < 2:
        return None
    fold = np.searchsorted(names, sample) % min(FOLDS, len(names))
    largest = max(float(_distance(x[fold == k], *_statistics(x[fold != k])).max()) for k in np.unique(fold))
    mean, whiten, floor = _statistics(x)
    return TrainingDomain(mean, whiten, np.array([max(largest, 1e-9)]), floor)


def _statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean = x.mean(0)
    spread, axes = np.linalg.eigh(np.cov(x - mean, rowvar=False, bias=True).reshape(x.shape[1], x.shape[1]))
    floor = max(FLOOR * float(spread.max(initial=0.0)), 1e-12)
    varying = spread > NO_SPREAD * floor
    whiten = (axes[:, varying] / np.sqrt(spread[varying] + floor)).astype(np.float32)
    return mean, whiten, np.array([floor])


def _distance(x: np.ndarray, mean: np.ndarray, whiten: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """sum over axes of (component^2 / variance), and over what lies along no axis of (length^2 / floor), to the half."""
    x = x - mean
    seen = (x @ whiten) ** 2
    along = (seen / np.maximum((whiten.astype(np.float64) ** 2).sum(0), 1e-300)).sum(1)
    return np.sqrt(seen.sum(1) + np.maximum((x**2).sum(1) - along, 0) / floor)
