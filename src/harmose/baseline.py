"""The closed-form part of a prediction, and the scales a network's outputs are multiplied by.

Off-site: the m = 0 component of each natural irrep is a function of the distance alone to first order; it is a ridge
regression in Gaussians of the distance for each pair of elements. On-site: the mean of the scalar irreps of each element.
What is left is divided by its root mean square for each irrep and a smooth envelope of the distance. All in float64, since absolute
accuracy matters at 1e-5 eV beside core levels of -500 eV; the network sees float32 numbers of order one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harmose.errors import ModelError
from harmose.targets import Coefficients, OrientedPairs, TargetSpace

SPACING = 0.4
"""Angstrom between the Gaussians. Narrower ones fit noise: the rest must stay as smooth as the matrix is."""

N_GAUSSIANS = 36
RIDGE = 1e-6
SCALE_FLOOR = 1e-6
"""eV; smaller spreads are rounding of the labels and are not learned."""


@dataclass(frozen=True)
class PairBaseline:
    """Of one kind of element pair: `range` (2,) angstrom, `weights` (N_GAUSSIANS, K), `scale` (K,), `envelope` (3,)."""

    range: Tensor
    weights: Tensor
    scale: Tensor
    envelope: Tensor

    def gaussians(self, distance: Tensor) -> Tensor:
        """(P,) -> (P, N_GAUSSIANS) on the interval that the training set covers; constant outside."""
        return gaussians(distance, self.range)

    def scales(self, distance: Tensor) -> Tensor:
        """(P,) -> (P, K) in eV."""
        x = self._reduced(distance)
        powers = torch.stack([torch.ones_like(x), x, x * x], -1)
        return (powers @ self.envelope).exp()[:, None] * self.scale

    def _reduced(self, distance: Tensor) -> Tensor:
        low, high = self.range
        return (distance.clamp(low, high) - low) / (high - low).clamp_min(0.5)


def gaussians(distance: Tensor, interval: Tensor) -> Tensor:
    """Gaussians in the distance, clamped to `interval` (2,), as wide as their spacing: (P,) -> (P, N_GAUSSIANS)."""
    centres = SPACING * (1 + torch.arange(N_GAUSSIANS, dtype=distance.dtype))
    return torch.exp(-(((distance.clamp(*interval)[:, None] - centres) / SPACING) ** 2) / 2)


@dataclass(frozen=True)
class Baseline:
    """`pairs[kind]`; `onsite_mean[species]`, `onsite_scale[species]` ((l_max+1)^2, K) in eV."""

    space: TargetSpace
    pairs: Mapping[int, PairBaseline]
    onsite_mean: Mapping[int, Tensor]
    onsite_scale: Mapping[int, Tensor]

    def values(self, oriented: OrientedPairs) -> Coefficients:
        """The closed-form prediction for a graph, in eV."""
        pairs, onsite = {}, {}
        for group, distance, chosen in self._pair_kinds(oriented):
            layout = self.space.pair_layout(group)
            out = torch.zeros(len(distance), layout.n_slots, layout.n_irreps, dtype=torch.float64)
            for kind, rows in chosen:
                out[rows, 0] = self._kind(kind).gaussians(distance[rows]) @ self._kind(kind).weights
            pairs[group] = out
        for signature, species in self._species(oriented):
            onsite[signature] = torch.stack([self._mean(s) for s in species]) if species else self._empty(signature)
        return Coefficients(pairs, onsite)

    def scales(self, oriented: OrientedPairs) -> Coefficients:
        """What network outputs are multiplied by, in eV: pairs (P_group, 1, K), onsite (N_signature, (l_max+1)^2, K)."""
        pairs, onsite = {}, {}
        for group, distance, chosen in self._pair_kinds(oriented):
            out = torch.ones(len(distance), 1, self.space.pair_layout(group).n_irreps, dtype=torch.float64)
            for kind, rows in chosen:
                out[rows, 0] = self._kind(kind).scales(distance[rows])
            pairs[group] = out
        for signature, species in self._species(oriented):
            scale = [self.onsite_scale[s] for s in species]
            onsite[signature] = torch.stack(scale) if scale else self._empty(signature)
        return Coefficients(pairs, onsite)

    def _pair_kinds(self, oriented: OrientedPairs):
        for group, members in oriented.members.items():
            kinds = oriented.kind[members]
            distance = torch.as_tensor(np.linalg.norm(oriented.vectors[members], axis=1))
            yield group, distance, [(k, torch.as_tensor(np.flatnonzero(kinds == k))) for k in np.unique(kinds).tolist()]

    def _species(self, oriented: OrientedPairs):
        for signature in range(len(self.space.signatures)):
            yield signature, oriented.species[self.space.signature[oriented.species] == signature].tolist()

    def _kind(self, kind: int) -> PairBaseline:
        if kind not in self.pairs:
            raise ModelError(f"the training set holds no pair of elements {self._names(kind)}, so the model cannot predict one")
        return self.pairs[kind]

    def _names(self, kind: int) -> str:
        return "-".join(str(self.space.elements[s]) for s in divmod(kind, len(self.space.elements)))

    def _mean(self, species: int) -> Tensor:
        if species not in self.onsite_mean:
            raise ModelError(f"the training set holds no element {self.space.elements[species]}")
        return self.onsite_mean[species]

    def _empty(self, signature: int) -> Tensor:
        return torch.zeros(0, *self.space.onsite_layout(signature).mask.shape, dtype=torch.float64)

    def state(self) -> dict[str, Tensor]:
        """Flat tensors for a checkpoint; `Baseline.from_state` is the inverse."""
        out = {}
        for kind, pair in self.pairs.items():
            for name in ("range", "weights", "scale", "envelope"):
                out[f"pair.{kind}.{name}"] = getattr(pair, name)
        for species in self.onsite_mean:
            out[f"onsite.{species}.mean"] = self.onsite_mean[species]
            out[f"onsite.{species}.scale"] = self.onsite_scale[species]
        return out

    @staticmethod
    def from_state(space: TargetSpace, state: Mapping[str, Tensor]) -> "Baseline":
        def numbers(prefix: str) -> list[int]:
            return sorted({int(k.split(".")[1]) for k in state if k.startswith(prefix)})

        try:
            names = ("range", "weights", "scale", "envelope")
            pairs = {k: PairBaseline(*(state[f"pair.{k}.{n}"] for n in names)) for k in numbers("pair.")}
            species = numbers("onsite.")
            mean = {s: state[f"onsite.{s}.mean"] for s in species}
            return Baseline(space, pairs, mean, {s: state[f"onsite.{s}.scale"] for s in species})
        except (KeyError, ValueError) as error:
            raise ModelError(f"checkpoint: the baseline is incomplete ({error})") from None


def fit_baseline(space: TargetSpace, training: Iterable[tuple[OrientedPairs, Coefficients]]) -> Baseline:
    """Closed-form fit on the training set, one pass over `(oriented pairs, coefficients in eV)`."""
    by_kind: dict[int, list[tuple[Tensor, Tensor]]] = {}
    by_species: dict[int, list[Tensor]] = {}
    for oriented, coefficients in training:
        for group, members in oriented.members.items():
            distance = torch.as_tensor(np.linalg.norm(oriented.vectors[members], axis=1))
            for kind in np.unique(oriented.kind[members]).tolist():
                rows = torch.as_tensor(np.flatnonzero(oriented.kind[members] == kind))
                by_kind.setdefault(kind, []).append((distance[rows], coefficients.pairs[group][rows]))
        for signature, values in coefficients.onsite.items():
            species = oriented.species[space.signature[oriented.species] == signature]
            for s in np.unique(species).tolist():
                by_species.setdefault(s, []).append(values[torch.as_tensor(np.flatnonzero(species == s))])
    pairs = {}
    for kind, parts in sorted(by_kind.items()):
        a, b = divmod(kind, len(space.elements))
        natural = space.pair_layout((int(space.signature[a]), int(space.signature[b]))).parity > 0
        pairs[kind] = _fit_pair(torch.cat([d for d, _ in parts]), torch.cat([c for _, c in parts]), natural)
    onsite = {s: _fit_onsite(torch.cat(parts), space, s) for s, parts in sorted(by_species.items())}
    return Baseline(space, pairs, {s: v[0] for s, v in onsite.items()}, {s: v[1] for s, v in onsite.items()})


def _fit_pair(distance: Tensor, values: Tensor, natural: np.ndarray) -> PairBaseline:
    interval = torch.stack([distance.min(), distance.max()])
    basis = gaussians(distance, interval)
    gram = basis.T @ basis
    gram += RIDGE * max(len(distance), 1) * torch.eye(N_GAUSSIANS, dtype=torch.float64)
    weights = torch.linalg.solve(gram, basis.T @ values[:, 0]) * torch.as_tensor(natural, dtype=torch.float64)
    residual = values.clone()
    residual[:, 0] -= basis @ weights
    scale = residual.pow(2).sum(1).mean(0).sqrt().clamp_min(SCALE_FLOOR)
    flat = PairBaseline(interval, weights, scale, torch.zeros(3, dtype=torch.float64))
    x = flat._reduced(distance)
    powers = torch.stack([torch.ones_like(x), x, x * x], -1)
    log_rms = (residual / scale).pow(2).sum(1).mean(1).clamp_min(1e-12).log() / 2
    ridge = 1e-3 * len(distance) * torch.eye(3, dtype=torch.float64)
    envelope = torch.linalg.solve(powers.T @ powers + ridge, powers.T @ log_rms)
    enveloped = PairBaseline(interval, weights, scale, envelope).scales(distance)
    relative = (residual.pow(2).sum(1) / enveloped**2).mean(0).sqrt().clamp_min(1e-3)
    return PairBaseline(interval, weights, scale * relative, envelope)


def _fit_onsite(values: Tensor, space: TargetSpace, species: int) -> tuple[Tensor, Tensor]:
    """Mean of the scalar natural irreps, and the rms of what is left for each (L, column)."""
    layout = space.onsite_layout(int(space.signature[species]))
    mean = torch.zeros_like(values[0])
    mean[0, : layout.n_natural] = values[:, 0, : layout.n_natural].mean(0)
    squares = (values - mean).pow(2).mean(0)
    scale = torch.ones_like(mean)
    for l in range(space.l_max + 1):
        rows = slice(l * l, (l + 1) ** 2)
        scale[rows] = squares[rows].sum(0).sqrt().clamp_min(SCALE_FLOOR)
    return mean, scale
