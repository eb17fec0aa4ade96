"""Sparse-kernel ridge regression of every block of H, solved in closed form; ours, not part of the HarmoSE paper.

Off-site, each component in the frame of its edge is a ridge regression on functions of the distance, on explicit three-centre
terms (`descriptors.three_centre`), and on a kernel between the edge and the sparse points (`kernel`). On-site, each irrep is one
on functions of the distances to all neighbours and on kernels of the atom's edges, turned back into the global frame. The kind
"pairs" keeps the functions of the distance and the mean of the on-site scalars alone. All numbers are in float64.

N-centre descriptors of blocks: Nigam, Willatt and Ceriotti, J. Chem. Phys. 156, 014115 (2022). Sparse points: Quinonero-Candela
and Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005); in potentials GAP, Bartok, Payne, Kondor and Csanyi, Phys. Rev. Lett. 104,
136403 (2010).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harmose.core.grouping import rows_by_key
from harmose.errors import ModelError
from harmose.kernel_regression.correction import BlockValues, corrected
from harmose.kernel_regression.fading import NO_FADE, Fade
from harmose.kernel_regression.linear_terms import AtomRegression, PairRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.settings import DEFAULT, RegressionSettings
from harmose.representation.block_irreps import BlockIrreps, Coefficients, OrientedPairs
from harmose.representation.charge_features import ChargeFeatures
from harmose.representation.layout import PairLayout

UNKNOWN = 1e3
"""Standard deviation of blocks between elements that the training set does not have beside each other."""


class FadedValues(NamedTuple):
    """Values of a regression in eV, and how far it has faded; blocks of atoms, and then of pairs, in the graph's order (B,).

    Attributes:
        values: coefficients in eV.
        weights: weight of the whole regression beside simpler ones (B,).
        std: standard deviation of the error (B,), in units of that of training samples that are left out.
    """

    values: Coefficients
    weights: np.ndarray
    std: np.ndarray

    def set(
        self, part: Tensor, rows: np.ndarray, blocks: np.ndarray, values: np.ndarray, fade: Fade, variance: np.ndarray
    ) -> None:
        """Set some rows of one of the tensors of `values`, which are these blocks."""
        part[rows] = torch.as_tensor(values)
        self.weights[blocks], self.std[blocks] = fade.weight(variance), fade.std(variance)


@dataclass(frozen=True)
class KernelRegression:
    """Regression of every block, by pair type and by species, in eV.

    Each regression fades towards a simpler one where it extrapolates (`fading`): that of a pair towards functions of the
    distance alone, these towards zero; that of an atom towards the mean of its scalars. Corrections (`correction`), which were
    fitted to what is left of further samples, are added one after the other; all of them fade towards zero.

    Attributes:
        space: the irreps of the blocks.
        pairs: by pair type.
        onsite: by species.
        mean_density: by species, mean density of the training set; only where the density of H0 is read.
        distances: by pair type, functions of the distance alone.
        pair_fades, distance_fades: by pair type, how `pairs` and `distances` fade.
        onsite_fades: by species.
        corrections: regressions of what this one and those before leave of further samples.
    """

    space: BlockIrreps
    pairs: Mapping[int, PairRegression]
    onsite: Mapping[int, AtomRegression]
    mean_density: Mapping[int, np.ndarray] = field(default_factory=dict)
    distances: Mapping[int, PairRegression] = field(default_factory=dict)
    pair_fades: Mapping[int, Fade] = field(default_factory=dict)
    distance_fades: Mapping[int, Fade] = field(default_factory=dict)
    onsite_fades: Mapping[int, Fade] = field(default_factory=dict)
    corrections: tuple["KernelRegression", ...] = ()

    def neighbourhoods(
        self,
        oriented: OrientedPairs,
        charges: ChargeFeatures | None = None,
        settings: RegressionSettings = DEFAULT,
    ) -> Neighbourhoods:
        """Return the neighbourhoods of a graph; many threads may read them, each for a part of the graph."""
        return Neighbourhoods(self.space, oriented, charges, self.mean_density, settings)

    @property
    def kind(self) -> str:
        """Return "kernel" if there are three-centre or kernel terms, else "pairs"."""
        onsite = self.onsite.values()
        return "kernel" if any(atom.linear or atom.kernel_expansions or atom.electronic for atom in onsite) else "pairs"

    @property
    def reads_charges(self) -> bool:
        """True if `values` needs charge features."""
        return any(pair.electronic for pair in self.pairs.values())

    def values(self, oriented: OrientedPairs, charges: ChargeFeatures | None = None) -> Coefficients:
        """Return the coefficients of a graph in eV."""
        return self.values_of(self.neighbourhoods(oriented, charges))

    def values_of(self, graph: Neighbourhoods) -> Coefficients:
        """Return the coefficients of a graph in eV, from its neighbourhoods."""
        return self.faded(graph).values

    def faded(self, graph: Neighbourhoods) -> FadedValues:
        """Return the coefficients of a graph in eV, and how far each block's regression has faded."""
        oriented, n_atoms = graph.oriented, len(graph.oriented.species)
        weights, std = np.ones((2, n_atoms + graph.n_pairs))
        pairs, onsite = {}, {}
        for group, rows in oriented.pairs.items():
            pairs[group], weights[n_atoms + rows], std[n_atoms + rows] = self.pair_values(graph, group, rows)
        for shell_type, rows in oriented.atoms.items():
            onsite[shell_type], weights[rows], std[rows] = self.onsite_values(graph, shell_type, rows)
        return FadedValues(Coefficients(pairs, onsite), weights, std)

    def simple_values(self, graph: Neighbourhoods) -> Coefficients:
        """Return what the regression fades to, in eV: functions of the distance, and means of on-site scalars."""

        def of_pairs(group: tuple[int, int], pairs: np.ndarray) -> Tensor:
            layout = self.space.pair_layout(group)
            out = np.zeros((len(pairs), layout.n_slots, layout.n_irreps))
            for pair_type, rows in rows_by_key(graph.oriented.pair_type[pairs]):
                if pair_type in self.distances:
                    out[rows] = self._distance_values(graph, pair_type, layout, pairs[rows])
            return torch.as_tensor(out)

        return graph.oriented.coefficients(of_pairs, partial(self.mean_values, graph))

    def mean_values(self, graph: Neighbourhoods, shell_type: int, atoms: np.ndarray) -> Tensor:
        """Return the means of the training set for some atoms (N,) of a shell type, in eV."""
        layout = self.space.onsite_layout(shell_type)
        out = np.zeros((len(atoms), *layout.mask.shape))
        for species, rows in rows_by_key(graph.oriented.species[atoms]):
            out[rows] = self._atoms_of(species).mean_values(len(rows), layout)
        return torch.as_tensor(out)

    def pair_values(self, graph: Neighbourhoods, group: tuple[int, int], pairs: np.ndarray) -> BlockValues:
        """Return the coefficients (P, S, K) of some pairs (P,) of a group in eV, their weights and standard deviations (P,).

        For pairs of elements that the training set lacks the coefficients and the weights are zero.
        """
        out = self._own_pair_values(graph, group, pairs)
        for each in self.corrections:
            own = each.pair_values(graph, group, pairs)
            out = corrected(out, own, graph.oriented.pair_type[pairs], each.pair_fades)
        return out

    def _own_pair_values(self, graph: Neighbourhoods, group: tuple[int, int], pairs: np.ndarray) -> BlockValues:
        layout, pair_types = self.space.pair_layout(group), graph.oriented.pair_type[pairs]
        out = np.zeros((len(pairs), layout.n_slots, layout.n_irreps))
        weights, std = np.zeros(len(pairs)), np.full(len(pairs), UNKNOWN)
        for pair_type, rows in rows_by_key(pair_types):
            if pair_type in self.pairs:
                out[rows], weights[rows], std[rows] = self._values_of_type(graph, pair_type, layout, pairs[rows])
        return torch.as_tensor(out), weights, std

    def onsite_values(self, graph: Neighbourhoods, shell_type: int, atoms: np.ndarray) -> BlockValues:
        """Return the coefficients (N, (l_max+1)^2, K) of some atoms (N,) of a shell type in eV, their weights and std (N,)."""
        out, species = self._own_onsite_values(graph, shell_type, atoms), graph.oriented.species[atoms]
        for each in self.corrections:
            rows = np.flatnonzero(np.isin(species, list(each.onsite)))
            own = each.onsite_values(graph, shell_type, atoms[rows])
            out = corrected(out, own, species[rows], each.onsite_fades, rows)
        return out

    def _own_onsite_values(self, graph: Neighbourhoods, shell_type: int, atoms: np.ndarray) -> BlockValues:
        layout = self.space.onsite_layout(shell_type)
        out, (weights, std) = np.zeros((len(atoms), *layout.mask.shape)), np.ones((2, len(atoms)))
        for species, rows in rows_by_key(graph.oriented.species[atoms]):
            regression, fade = self._atoms_of(species), self.onsite_fades.get(species, NO_FADE)
            for part in graph.atom_chunks(rows, atoms):
                values, variance = regression.values(graph, atoms[part], layout)
                weights[part], std[part] = fade.weight(variance), fade.std(variance)
                mean = regression.mean_values(len(part), layout)
                out[part] = mean + weights[part][:, None, None] * (values - mean)
        return torch.as_tensor(out), weights, std

    def _atoms_of(self, species: int) -> AtomRegression:
        if species not in self.onsite:
            element = self.space.elements[species]
            raise ModelError(f"the training set holds no element {element}: the model cannot predict it")
        return self.onsite[species]

    def _values_of_type(
        self, graph: Neighbourhoods, pair_type: int, layout: PairLayout, pairs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        values, variance = self._mean_of_directions(self.pairs[pair_type], graph, pair_type, layout, pairs)
        fade = self.pair_fades.get(pair_type, NO_FADE)
        weights, std = fade.weight(variance), fade.std(variance)
        if pair_type not in self.distances:
            return weights[:, None, None] * values, weights, std
        simple = self._distance_values(graph, pair_type, layout, pairs)
        return simple + weights[:, None, None] * (values - simple), weights, std

    def _distance_values(
        self, graph: Neighbourhoods, pair_type: int, layout: PairLayout, pairs: np.ndarray
    ) -> np.ndarray:
        values, variance = self._mean_of_directions(self.distances[pair_type], graph, pair_type, layout, pairs)
        return self.distance_fades.get(pair_type, NO_FADE).weight(variance)[:, None, None] * values

    def _mean_of_directions(
        self, regression: PairRegression, graph: Neighbourhoods, pair_type: int, layout: PairLayout, pairs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values in eV and variances of pairs of one type; of like atoms the mean over both directions.

        Blocks of DFT are small where their orbitals part; what is predicted there falls to zero, without a jump.
        """
        taper = graph.taper[pairs][:, None, None]
        if not self.space.is_symmetric(pair_type):
            values, variance = regression.values(graph, pairs, layout.n_slots)
            return taper * values, variance
        forward, backward, variance = regression.both_values(graph, pairs, layout.n_slots)
        return taper * layout.hermitian_mean(forward, backward), variance
