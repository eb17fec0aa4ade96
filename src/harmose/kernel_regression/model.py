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

import numpy as np
import torch
from torch import Tensor

from harmose.core.grouping import rows_by_key
from harmose.errors import ModelError
from harmose.kernel_regression.linear_terms import AtomRegression, PairRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.settings import DEFAULT, RegressionSettings
from harmose.representation.block_irreps import BlockIrreps, Coefficients, OrientedPairs
from harmose.representation.charge_features import ChargeFeatures


@dataclass(frozen=True)
class KernelRegression:
    """Regression of every block, by pair type and by species, in eV.

    Attributes:
        space: the irreps of the blocks.
        pairs: by pair type.
        onsite: by species.
        mean_density: by species, mean density of the training set; only where the density of H0 is read.
    """

    space: BlockIrreps
    pairs: Mapping[int, PairRegression]
    onsite: Mapping[int, AtomRegression]
    mean_density: Mapping[int, np.ndarray] = field(default_factory=dict)

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
        return graph.oriented.coefficients(partial(self.pair_values, graph), partial(self.onsite_values, graph))

    def pair_values(self, graph: Neighbourhoods, group: tuple[int, int], pairs: np.ndarray) -> Tensor:
        """Return the coefficients (P, S, K) of some pairs (P,) of a group in eV."""
        layout, pair_types = self.space.pair_layout(group), graph.oriented.pair_type[pairs]
        out = np.zeros((len(pairs), layout.n_slots, layout.n_irreps))
        for pair_type, rows in rows_by_key(pair_types):
            out[rows] = self._values_of_type(graph, pair_type, group, pairs[rows])
        return torch.as_tensor(out)

    def onsite_values(self, graph: Neighbourhoods, shell_type: int, atoms: np.ndarray) -> Tensor:
        """Return the coefficients (N, (l_max+1)^2, K) of some atoms (N,) of a shell type in eV."""
        layout = self.space.onsite_layout(shell_type)
        out = np.zeros((len(atoms), *layout.mask.shape))
        for species, rows in rows_by_key(graph.oriented.species[atoms]):
            if species not in self.onsite:
                element = self.space.elements[species]
                raise ModelError(f"the training set holds no element {element}: the model cannot predict it")
            for part in graph.atom_chunks(rows, atoms):
                out[part] = self.onsite[species].values(graph, atoms[part], layout)
        return torch.as_tensor(out)

    def _values_of_type(
        self, graph: Neighbourhoods, pair_type: int, group: tuple[int, int], pairs: np.ndarray
    ) -> np.ndarray:
        if pair_type not in self.pairs:
            name = self.space.pair_name(pair_type)
            raise ModelError(f"the training set holds no pair of elements {name}: the model cannot predict one")
        regression, layout = self.pairs[pair_type], self.space.pair_layout(group)
        if not self.space.is_symmetric(pair_type):
            return regression.values(graph, pairs, layout.n_slots)
        return layout.hermitian_mean(*regression.both_values(graph, pairs, layout.n_slots))
