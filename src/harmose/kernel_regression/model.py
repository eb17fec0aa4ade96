"""The closed-form part of stage 1: a covariant regression of every block, fitted without iterations (`fit`).

Off-site: each component in the edge frame is a ridge regression on functions of the distance and of triangles
(`triangles.three_centre`) and on its likeness to reference edges (`kernel`). On-site: each irrep is one on functions of
the distances to all neighbours, and on the likeness of the atom's edges to those of reference atoms, turned back into the
global frame. Or, of pairs alone: functions of the distance off-site, the mean of the scalars on-site. What is left is for
the network, divided by its root mean square per irrep and a smooth envelope of the distance. All in float64: absolute
accuracy matters at 1e-5 eV beside core levels of -500 eV. The network sees float32 numbers of order one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from harmose.errors import ModelError
from harmose.kernel_regression.expansion import by_value
from harmose.kernel_regression.linear_terms import AtomRegression, PairRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.training_domain import TrainingDomain, features
from harmose.representation.block_irreps import BlockIrreps, Coefficients, OrientedPairs
from harmose.representation.charge_features import ChargeFeatures

EDGES_AT_ONCE = 5_000
"""Edges that leave atoms which are worked on together."""


@dataclass(frozen=True)
class KernelRegression:
    """`pairs[kind]` and `onsite[species]` regressions; scales of what they leave: `pair_scale[kind]` (K + 5,): rms, envelope,
    range; `onsite_scale[species]` ((l_max+1)^2, K), all in eV; and what surroundings they were fitted to."""

    space: BlockIrreps
    pairs: Mapping[int, PairRegression]
    onsite: Mapping[int, AtomRegression]
    pair_scale: Mapping[int, np.ndarray] = field(default_factory=dict)
    onsite_scale: Mapping[int, np.ndarray] = field(default_factory=dict)
    domain: Mapping[int, TrainingDomain] = field(default_factory=dict)
    """By species; none for those whose training set does not say."""
    mean_density: Mapping[int, np.ndarray] = field(default_factory=dict)
    """By species, where the electrons of H0 are read."""

    def neighbourhoods(self, oriented: OrientedPairs, charges: ChargeFeatures | None = None) -> Neighbourhoods:
        """What is seen of a graph: made once, and read by any number of threads that each work on a part of it."""
        return Neighbourhoods(self.space, oriented, charges, self.mean_density)

    def ood_score(self, oriented: OrientedPairs) -> np.ndarray:
        """How unfamiliar the surroundings of each atom are (N,), 0 where the domain is not known (`novelty.TrainingDomain`)."""
        return self.ood_score_of(self.neighbourhoods(oriented))

    def ood_score_of(self, graph: Neighbourhoods, atoms: np.ndarray | None = None) -> np.ndarray:
        """`ood_score` of some atoms (N,), or of all."""
        atoms = np.arange(len(graph.oriented.species)) if atoms is None else atoms
        out = np.zeros(len(atoms))
        for species, rows in by_value(graph.oriented.species[atoms]):
            if species in self.domain:
                for part in atoms_in_turn(graph, rows, atoms):
                    out[part] = self.domain[species].ood_score(features(graph, atoms[part]))
        return out

    @property
    def reads_charges(self) -> bool:
        """Whether `values` needs to know what the electrons of H0 do."""
        return any(fit.electronic for fit in self.pairs.values())

    def values(self, oriented: OrientedPairs, charges: ChargeFeatures | None = None) -> Coefficients:
        """The closed-form prediction for a graph, in eV."""
        return self.values_of(self.neighbourhoods(oriented, charges))

    def values_of(self, graph: Neighbourhoods) -> Coefficients:
        """The same of a graph whose `neighbourhoods` are known."""
        pairs, atoms = graph.oriented.members, graph.oriented.atoms
        return Coefficients(
            {group: self.pair_values(graph, group, members) for group, members in pairs.items()},
            {signature: self.onsite_values(graph, signature, members) for signature, members in atoms.items()},
        )

    def pair_values(self, graph: Neighbourhoods, group: tuple[int, int], pairs: np.ndarray) -> Tensor:
        """The same of some pairs of a group, (P,) numbers of the graph's pairs: (P, S, K) in eV."""
        layout, kinds = self.space.pair_layout(group), graph.oriented.kind[pairs]
        out = np.zeros((len(pairs), layout.n_slots, layout.n_irreps))
        for kind, rows in by_value(kinds):
            out[rows] = self._pair(graph, kind, group, pairs[rows])
        return torch.as_tensor(out)

    def onsite_values(self, graph: Neighbourhoods, signature: int, atoms: np.ndarray) -> Tensor:
        """The same of some atoms of a signature, (N,) numbers of the graph's atoms: (N, (l_max+1)^2, K) in eV."""
        mask = self.space.onsite_layout(signature).mask
        out = np.zeros((len(atoms), *mask.shape))
        for species, rows in by_value(graph.oriented.species[atoms]):
            fit = self._species(species)
            for part in atoms_in_turn(graph, rows, atoms):
                out[part] = fit.values(graph, atoms[part], mask)
        return torch.as_tensor(out)

    def _pair(self, graph: Neighbourhoods, kind: int, group: tuple[int, int], pairs: np.ndarray) -> np.ndarray:
        if kind not in self.pairs:
            raise ModelError(
                f"the training set holds no pair of elements {self._names(kind)}: the model cannot predict one"
            )
        fit, layout = self.pairs[kind], self.space.pair_layout(group)
        if not is_symmetric(kind, len(self.space.elements)):
            return fit.values(graph, pairs, layout.n_slots)
        column, sign = layout.reversal
        ahead, back = fit.both_values(graph, pairs, layout.n_slots)
        return (ahead + sign * back[..., column]) / 2

    def _species(self, species: int) -> AtomRegression:
        if species not in self.onsite:
            raise ModelError(
                f"the training set holds no element {self.space.elements[species]}: the model cannot predict it"
            )
        return self.onsite[species]

    def scales(self, oriented: OrientedPairs) -> Coefficients:
        """What network outputs are multiplied by, in eV: pairs (P_group, 1, K), onsite (N_signature, (l_max+1)^2, K)."""
        return Coefficients(
            {group: self.pair_scales(oriented, group, members) for group, members in oriented.members.items()},
            {signature: self.onsite_scales(oriented, signature, atoms) for signature, atoms in oriented.atoms.items()},
        )

    def pair_scales(self, oriented: OrientedPairs, group: tuple[int, int], pairs: np.ndarray) -> Tensor:
        """The same of some pairs of a group: (P, 1, K)."""
        out = np.ones((len(pairs), 1, self.space.pair_layout(group).n_irreps))
        distance = np.linalg.norm(oriented.vectors[pairs], axis=1)
        for kind, rows in by_value(oriented.kind[pairs]):
            out[rows, 0] = scale_at(self.pair_scale[kind], distance[rows])
        return torch.as_tensor(out)

    def onsite_scales(self, oriented: OrientedPairs, signature: int, atoms: np.ndarray) -> Tensor:
        """The same of some atoms of a signature: (N, (l_max+1)^2, K)."""
        out = np.ones((len(atoms), *self.space.onsite_layout(signature).mask.shape))
        for species, rows in by_value(oriented.species[atoms]):
            out[rows] = self.onsite_scale[species]
        return torch.as_tensor(out)

    def _names(self, kind: int) -> str:
        return "-".join(str(self.space.elements[s]) for s in divmod(kind, len(self.space.elements)))


def atoms_in_turn(graph: Neighbourhoods, rows: np.ndarray, atoms: np.ndarray) -> list[np.ndarray]:
    """Parts of `rows` whose `atoms` have few enough edges to be in memory together."""
    _, start = graph.pairs.leaving
    count = np.cumsum(start[atoms[rows] + 1] - start[atoms[rows]])
    return np.split(rows, np.flatnonzero(np.diff(count // EDGES_AT_ONCE)) + 1)


def is_symmetric(kind: int, n_species: int) -> bool:
    """Whether a kind of pair is of two like atoms."""
    return kind // n_species == kind % n_species


def scale_at(scale: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """(K + 5,) as rms, envelope (3), range (2); distances (P,) -> (P, K) in eV."""
    rms, envelope, (low, high) = scale[:-5], scale[-5:-2], scale[-2:]
    x = (np.clip(distance, low, high) - low) / max(high - low, 0.5)
    return np.exp(np.stack([np.ones_like(x), x, x * x], -1) @ envelope)[:, None] * rms
