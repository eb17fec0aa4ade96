"""The closed-form part of stage 1: a covariant two- and three-body regression of every block, fitted without iterations.

Off-site: each component in the edge frame is a ridge regression on Gaussians of the distance (m = 0) and on the doublets
that third atoms add (`triangles`). On-site: each irrep is one on the same functions of all the atom's edges, turned back
into the global frame; where triangles are left out, just the mean of the scalar irreps. What is left, many-body terms
mostly, is for the network; it is divided by its root mean square per irrep and a smooth envelope of the distance. All in
float64: absolute accuracy matters at 1e-5 eV beside core levels of -500 eV. The network sees float32 numbers of order one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from torch import Tensor

from harmose.errors import ModelError
from harmose.surroundings import (
    ONSITE_ORDERS,
    Surroundings,
    onsite_features,
    pair_features,
    views_of_atoms,
)
from harmose.targets import Coefficients, OrientedPairs, TargetSpace
from harmose.triangles import spread_centres

PAIR_CENTRES = 300
ONSITE_FEATURES = 1000
RIDGES = (1e-12, 1e-10, 1e-8, 1e-6, 1e-4)
"""Candidates, relative to the mean of the Gram matrix' diagonal; the best on every fifth sample is taken."""

Choose = Callable[[np.ndarray, int], np.ndarray]
"""Picks at most so many of the side lengths (T, 3)."""

SCALE_FLOOR = 1e-6
"""eV; smaller spreads are rounding of the labels and are not learned."""


@dataclass(frozen=True)
class Regression:
    """One ridge regression: `centres[third]` (Q, 3) per species of third atom; `weights[m or l]` (features, K)."""

    centres: Mapping[tuple[int, ...], np.ndarray]
    weights: Mapping[tuple[int, ...], np.ndarray]


@dataclass(frozen=True)
class Baseline:
    """`pairs[kind]` and `onsite[species]` regressions; scales of what they leave: `pair_scale[kind]` (K + 5,): rms, envelope,
    range; `onsite_scale[species]` ((l_max+1)^2, K), all in eV."""

    space: TargetSpace
    pairs: Mapping[int, Regression]
    onsite: Mapping[int, Regression]
    pair_scale: Mapping[int, np.ndarray] = field(default_factory=dict)
    onsite_scale: Mapping[int, np.ndarray] = field(default_factory=dict)

    def values(self, oriented: OrientedPairs) -> Coefficients:
        """The closed-form prediction for a graph, in eV."""
        graph = Surroundings(self.space, oriented)
        pairs, onsite = {}, {}
        for group, members in oriented.members.items():
            layout = self.space.pair_layout(group)
            out = np.zeros((len(members), layout.n_slots, layout.n_irreps))
            for kind, rows in _by_value(oriented.kind[members]):
                out[rows] = self._pair(graph, kind, group, members[rows])
            pairs[group] = torch.as_tensor(out)
        for signature, atoms in oriented.atoms.items():
            out = np.zeros((len(atoms), *self.space.onsite_layout(signature).mask.shape))
            for species, rows in _by_value(oriented.species[atoms]):
                out[rows] = self._onsite(graph, species, signature, atoms[rows])
            onsite[signature] = torch.as_tensor(out)
        return Coefficients(pairs, onsite)

    def _pair(self, graph: "Surroundings", kind: int, group: tuple[int, int], pairs: np.ndarray) -> np.ndarray:
        if kind not in self.pairs:
            raise ModelError(
                f"the training set holds no pair of elements {self._names(kind)}: the model cannot predict one"
            )
        fit, layout = self.pairs[kind], self.space.pair_layout(group)
        ahead = _apply_pair(graph, fit, layout.n_slots, pairs)
        if not _is_symmetric(kind, len(self.space.elements)):
            return ahead
        column, sign = layout.reversal
        back = _apply_pair(graph, fit, layout.n_slots, pairs + graph.n_pairs)
        return (ahead + sign * back[..., column]) / 2

    def _onsite(self, graph: "Surroundings", species: int, signature: int, atoms: np.ndarray) -> np.ndarray:
        if species not in self.onsite:
            raise ModelError(
                f"the training set holds no element {self.space.elements[species]}: the model cannot predict it"
            )
        fit, layout = self.onsite[species], self.space.onsite_layout(signature)
        out = np.zeros((len(atoms), *layout.mask.shape))
        seen = views_of_atoms(graph, fit.centres, atoms) if fit.centres else []
        for (degree, parity), weights in fit.weights.items():
            columns = slice(0, layout.n_natural) if parity > 0 else slice(layout.n_natural, None)
            features = onsite_features(graph, seen, len(atoms), degree, parity)
            out[:, degree**2 : (degree + 1) ** 2, columns] = features @ weights
        return out

    def scales(self, oriented: OrientedPairs) -> Coefficients:
        """What network outputs are multiplied by, in eV: pairs (P_group, 1, K), onsite (N_signature, (l_max+1)^2, K)."""
        distance = np.linalg.norm(oriented.vectors, axis=1)
        pairs, onsite = {}, {}
        for group, members in oriented.members.items():
            out = np.ones((len(members), 1, self.space.pair_layout(group).n_irreps))
            for kind, rows in _by_value(oriented.kind[members]):
                out[rows, 0] = _pair_scales(self.pair_scale[kind], distance[members[rows]])
            pairs[group] = torch.as_tensor(out)
        for signature, atoms in oriented.atoms.items():
            out = np.ones((len(atoms), *self.space.onsite_layout(signature).mask.shape))
            for species, rows in _by_value(oriented.species[atoms]):
                out[rows] = self.onsite_scale[species]
            onsite[signature] = torch.as_tensor(out)
        return Coefficients(pairs, onsite)

    def _names(self, kind: int) -> str:
        return "-".join(str(self.space.elements[s]) for s in divmod(kind, len(self.space.elements)))

    def state(self) -> dict[str, Tensor]:
        """Flat float64 tensors for a checkpoint; `Baseline.from_state` is the inverse."""
        out = {}
        for name, fits in (("pair", self.pairs), ("onsite", self.onsite)):
            for key, fit in fits.items():
                for part, table in (("centres", fit.centres), ("weights", fit.weights)):
                    out |= {f"{name}.{key}.{part}.{'_'.join(map(str, k))}": v for k, v in table.items()}
        out |= {f"pair.{k}.scale": v for k, v in self.pair_scale.items()}
        out |= {f"onsite.{k}.scale": v for k, v in self.onsite_scale.items()}
        return {k: torch.as_tensor(np.ascontiguousarray(v)) for k, v in out.items()}

    @staticmethod
    def from_state(space: TargetSpace, state: Mapping[str, Tensor]) -> "Baseline":
        fits: dict[str, dict[int, Regression]] = {"pair": {}, "onsite": {}}
        scales: dict[str, dict[int, np.ndarray]] = {"pair": {}, "onsite": {}}
        try:
            for name, tensor in state.items():
                owner, key, part, *rest = name.split(".")
                if part == "scale":
                    scales[owner][int(key)] = tensor.numpy()
                    continue
                fit = fits[owner].setdefault(int(key), Regression({}, {}))
                table = {"centres": fit.centres, "weights": fit.weights}[part]
                table[tuple(map(int, rest[0].split("_")))] = tensor.numpy()  # type: ignore[index]
        except (KeyError, ValueError, IndexError) as error:
            raise ModelError(f"checkpoint: the baseline is not complete ({error})") from None
        return Baseline(space, fits["pair"], fits["onsite"], scales["pair"], scales["onsite"])


def _by_value(keys: np.ndarray) -> Iterable[tuple[int, np.ndarray]]:
    return ((k, np.flatnonzero(keys == k)) for k in np.unique(keys).tolist())


def _is_symmetric(kind: int, n_species: int) -> bool:
    return kind // n_species == kind % n_species


def _apply_pair(graph: Surroundings, fit: Regression, n_slots: int, edges: np.ndarray) -> np.ndarray:
    """Directed edges -> layout (E, S, K)."""
    features = pair_features(graph, fit.centres, edges, n_slots // 2)
    out = np.zeros((len(edges), n_slots, fit.weights[(0,)].shape[1]))
    out[:, 0] = features[0] @ fit.weights[(0,)]
    for m in range(1, n_slots // 2 + 1):
        around = features[m].reshape(len(edges), -1) @ fit.weights[(m,)]
        out[:, 2 * m - 1], out[:, 2 * m] = np.real(around), np.imag(around)
    return out


def _pair_scales(scale: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """(K + 5,) as rms, envelope (3), range (2); distances (P,) -> (P, K) in eV."""
    rms, envelope, (low, high) = scale[:-5], scale[-5:-2], scale[-2:]
    x = (np.clip(distance, low, high) - low) / max(high - low, 0.5)
    return np.exp(np.stack([np.ones_like(x), x, x * x], -1) @ envelope)[:, None] * rms


def fit_baseline(
    space: TargetSpace,
    training: Iterable[tuple[OrientedPairs, Coefficients]],
    three_body: bool = True,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Baseline:
    """Closed-form fit to `(oriented pairs, coefficients in eV)` of the training samples.

    Without `three_body` only functions of the pair's distance and the mean of on-site scalars are fitted: better where the
    training samples are few beside the ways in which a structure can change, since a regression on triangles interpolates
    what it has seen, but does not generalise.
    """
    oriented, sample, coefficients = _laid_end_to_end(space, list(training))
    generator = np.random.default_rng(seed)

    def choose(sides: np.ndarray, count: int) -> np.ndarray:
        return spread_centres(sides, count, generator)

    surroundings = Surroundings(space, oriented)
    held = np.arange(sample.max() + 1) % 5 == 4
    pairs, onsite = {}, {}
    for group, members in oriented.members.items():
        values = coefficients.pairs[group].numpy()
        for kind, rows in _by_value(oriented.kind[members]):
            progress(f"pairs of species {divmod(kind, len(space.elements))}")
            targets = values[rows]
            chosen = held[sample[oriented.first[members[rows]]]]
            pairs[kind] = _fit_pair(
                surroundings, space, kind, group, members[rows], targets, chosen, choose if three_body else None
            )
    for signature, atoms in oriented.atoms.items():
        values = coefficients.onsite[signature].numpy()
        for species, rows in _by_value(oriented.species[atoms]):
            progress(f"atoms of species {species}")
            chosen = held[sample[atoms[rows]]]
            onsite[species] = _fit_onsite(
                surroundings, space, signature, atoms[rows], values[rows], chosen, choose if three_body else None
            )
    bare = Baseline(space, pairs, onsite)
    return Baseline(space, pairs, onsite, *_fit_scales(bare, oriented, coefficients))


def _laid_end_to_end(
    space: TargetSpace, training: Sequence[tuple[OrientedPairs, Coefficients]]
) -> tuple[OrientedPairs, np.ndarray, Coefficients]:
    """All training graphs as one, the sample of each of its atoms, and the coefficients in its order."""
    parts = [o for o, _ in training]
    atoms = np.concatenate([[0], np.cumsum([len(o.species) for o in parts])])
    pairs = np.concatenate([[0], np.cumsum([len(o.first) for o in parts])])

    def cat(name: str, shift: np.ndarray | None = None) -> np.ndarray:
        return np.concatenate([getattr(o, name) + (0 if shift is None else shift[k]) for k, o in enumerate(parts)])

    whole = OrientedPairs(
        cat("species"),
        cat("first", atoms),
        cat("second", atoms),
        np.concatenate([o.vectors for o in parts]),
        np.concatenate([o.flipped for o in parts]),
        cat("kind"),
        {g: np.concatenate([o.members[g] + pairs[k] for k, o in enumerate(parts)]) for g in space.groups},
        {s: np.concatenate([o.atoms[s] + atoms[k] for k, o in enumerate(parts)]) for s in parts[0].atoms},
    )
    sample = np.repeat(np.arange(len(parts)), np.diff(atoms))
    joined = Coefficients(
        {g: torch.cat([c.pairs[g] for _, c in training]) for g in space.groups},
        {s: torch.cat([c.onsite[s] for _, c in training]) for s in whole.atoms},
    )
    return whole, sample, joined


def _fit_pair(graph, space, kind, group, pairs, targets, held, choose) -> Regression:
    layout = space.pair_layout(group)
    edges = pairs
    if _is_symmetric(kind, len(space.elements)):
        column, sign = layout.reversal
        edges = np.concatenate([pairs, pairs + graph.n_pairs])
        back = np.empty_like(targets)
        back[..., column] = sign * targets
        targets, held = np.concatenate([targets, back]), np.concatenate([held, held])
    centres = _pair_centres(graph, edges, choose) if choose else {}
    features = pair_features(graph, centres, edges, layout.n_slots // 2)
    weights = {(0,): _ridge(features[0], targets[:, 0] * (layout.parity > 0), held)}
    for m in range(1, layout.n_slots // 2 + 1):
        x = np.concatenate([np.real(features[m]), np.imag(features[m])])
        y = np.concatenate([targets[:, 2 * m - 1], targets[:, 2 * m]])
        weights[(m,)] = _ridge(x, y, np.concatenate([held, held]))
    return Regression(centres, weights)


def _fit_onsite(graph, space, signature, atoms, targets, held, choose) -> Regression:
    layout = space.onsite_layout(signature)
    centres = _onsite_centres(graph, atoms, choose) if choose else {}
    weights, seen = {}, views_of_atoms(graph, centres, atoms) if centres else []
    for degree in range(space.l_max + 1):
        rows = slice(degree**2, (degree + 1) ** 2)
        for parity, columns in ((1, slice(0, layout.n_natural)), (-1, slice(layout.n_natural, None))):
            if not layout.mask[rows, columns].any() or (parity < 0 and degree == 0):
                continue
            x = onsite_features(graph, seen, len(atoms), degree, parity)
            if not x.shape[-1]:
                continue
            y = targets[:, rows, columns]
            flat = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
            weights[degree, parity] = _ridge(*flat, np.repeat(held, 2 * degree + 1))
    return Regression(centres, weights)


def _pair_centres(graph: Surroundings, edges: np.ndarray, choose: Choose) -> dict[tuple[int, ...], np.ndarray]:
    """Centres among the triangles on `edges`, for each species of third atom."""
    mine, centres = np.isin(graph.triangles.edge, edges), {}
    for third in range(graph.n_species):
        sides = graph.triangles.sides[mine & (graph.triangles.third == third)]
        if len(sides):
            centres[(third,)] = choose(sides, PAIR_CENTRES)
    return centres


def _onsite_centres(graph: Surroundings, atoms: np.ndarray, choose: Choose) -> dict[tuple[int, ...], np.ndarray]:
    """Centres among the triangles at `atoms`, for each pair of species of neighbour and third atom."""
    mine = np.isin(graph.pairs.centre[graph.triangles.edge], atoms)
    kind = graph.pairs.neighbour_species[graph.triangles.edge] * graph.n_species + graph.triangles.third
    kinds = np.unique(kind[mine]).tolist()
    count = max(8, ONSITE_FEATURES // (max(len(kinds), 1) * (ONSITE_ORDERS + 1)))
    return {divmod(k, graph.n_species): choose(graph.triangles.sides[mine & (kind == k)], count) for k in kinds}


def _ridge(x: np.ndarray, y: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Ridge regression (features, K); the ridge that predicts the held-out rows best, then fitted to all rows."""
    gram, moment = x.T @ x, x.T @ y
    size = max(np.trace(gram) / max(len(gram), 1), 1e-300)
    best = RIDGES[-2]
    if held.any() and not held.all():
        x_held, y_held = x[held], y[held]
        part, aim = gram - x_held.T @ x_held, moment - x_held.T @ y_held
        errors = [np.abs(x_held @ _solve(part, aim, ridge * size) - y_held).sum() for ridge in RIDGES]
        best = RIDGES[int(np.argmin(errors))]
    return _solve(gram, moment, best * size)


def _solve(gram: np.ndarray, moment: np.ndarray, ridge: float) -> np.ndarray:
    """(gram + ridge) w = moment; a ridge that rounding swallows is raised until the matrix factorises."""
    while True:
        try:
            factor = cho_factor(gram + ridge * np.eye(len(gram)), check_finite=False)
            return cho_solve(factor, moment, check_finite=False)
        except LinAlgError:
            ridge *= 10


def _fit_scales(bare: Baseline, oriented: OrientedPairs, target: Coefficients) -> tuple[dict, dict]:
    fitted, space = bare.values(oriented), bare.space
    distance = np.linalg.norm(oriented.vectors, axis=1)
    pair_scale, onsite_scale = {}, {}
    for group, members in oriented.members.items():
        residual = (target.pairs[group] - fitted.pairs[group]).numpy()
        for kind, rows in _by_value(oriented.kind[members]):
            pair_scale[kind] = _fit_pair_scale(distance[members[rows]], residual[rows])
    for signature, atoms in oriented.atoms.items():
        residual = (target.onsite[signature] - fitted.onsite[signature]).numpy()
        for species, rows in _by_value(oriented.species[atoms]):
            squares = (residual[rows] ** 2).mean(0)
            scale = np.ones_like(squares)
            for l in range(space.l_max + 1):
                part = slice(l * l, (l + 1) ** 2)
                scale[part] = np.maximum(np.sqrt(squares[part].sum(0)), SCALE_FLOOR)
            onsite_scale[species] = scale
    return pair_scale, onsite_scale


def _fit_pair_scale(distance: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """rms of each irrep times a quadratic exponential in the distance that follows the trend over all irreps."""
    size = (residual**2).sum(1)
    rms = np.maximum(np.sqrt(size.mean(0)), SCALE_FLOOR)
    low, high = distance.min(), distance.max()
    x = (distance - low) / max(high - low, 0.5)
    powers = np.stack([np.ones_like(x), x, x * x], -1)
    trend = np.log(np.maximum((size / rms**2).mean(1), 1e-12)) / 2
    envelope = np.linalg.solve(powers.T @ powers + 1e-3 * len(x) * np.eye(3), powers.T @ trend)
    flat = np.concatenate([rms, envelope, [low, high]])
    relative = np.sqrt((size / _pair_scales(flat, distance) ** 2).mean(0))
    return np.concatenate([rms * np.maximum(relative, 1e-3), envelope, [low, high]])
