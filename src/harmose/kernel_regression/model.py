"""Sparse-kernel ridge regression of every block of H, solved in closed form; ours, not part of the HarmoSE paper.

Off-site, each component in the frame of its edge is a ridge regression on functions of the distance, on explicit three-centre
terms (`descriptors.three_centre`), and on a kernel between the environment of the edge and those of sparse points (`kernel`).
On-site, each irrep is one on functions of the distances to all neighbours and on kernels of the atom's edges, turned back into
the global frame. `pairs` keeps the functions of the distance and the mean of the on-site scalars alone. All in float64.

N-centre descriptors of blocks: Nigam, Willatt and Ceriotti, J. Chem. Phys. 156, 014115 (2022). Sparse points: Quinonero-Candela
and Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from harmose.core.grouping import rows_by_key
from harmose.errors import ModelError
from harmose.kernel_regression.linear_terms import AtomRegression, PairRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods, atoms_in_turn
from harmose.representation.block_irreps import BlockIrreps, Coefficients, OrientedPairs
from harmose.representation.charge_features import ChargeFeatures


@dataclass(frozen=True)
class KernelRegression:
    """Regression of every block, by pair type and by species, in eV.

    Attributes:
        space: the irreps of the blocks.
        pairs: by pair type.
        onsite: by species.
        mean_density: by species, mean density of the training set; only where the electrons of H0 are read.
    """

    space: BlockIrreps
    pairs: Mapping[int, PairRegression]
    onsite: Mapping[int, AtomRegression]
    mean_density: Mapping[int, np.ndarray] = field(default_factory=dict)

    def neighbourhoods(self, oriented: OrientedPairs, charges: ChargeFeatures | None = None) -> Neighbourhoods:
        """What is seen of a graph: made once, and read by any number of threads that each work on a part of it."""
        return Neighbourhoods(self.space, oriented, charges, self.mean_density)

    @property
    def kind(self) -> str:
        """Return "kernel" if environments are compared with sparse points or enter three-centre terms, else "pairs"."""
        onsite = self.onsite.values()
        return "kernel" if any(atom.linear or atom.many_body or atom.electronic for atom in onsite) else "pairs"

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
            {shell_type: self.onsite_values(graph, shell_type, members) for shell_type, members in atoms.items()},
        )

    def pair_values(self, graph: Neighbourhoods, group: tuple[int, int], pairs: np.ndarray) -> Tensor:
        """The same of some pairs of a group, (P,) numbers of the graph's pairs: (P, S, K) in eV."""
        layout, pair_types = self.space.pair_layout(group), graph.oriented.pair_type[pairs]
        out = np.zeros((len(pairs), layout.n_slots, layout.n_irreps))
        for pair_type, rows in rows_by_key(pair_types):
            out[rows] = self._pair(graph, pair_type, group, pairs[rows])
        return torch.as_tensor(out)

    def onsite_values(self, graph: Neighbourhoods, shell_type: int, atoms: np.ndarray) -> Tensor:
        """The same of some atoms of a signature, (N,) numbers of the graph's atoms: (N, (l_max+1)^2, K) in eV."""
        mask = self.space.onsite_layout(shell_type).mask
        out = np.zeros((len(atoms), *mask.shape))
        for species, rows in rows_by_key(graph.oriented.species[atoms]):
            fit = self._species(species)
            for part in atoms_in_turn(graph, rows, atoms):
                out[part] = fit.values(graph, atoms[part], mask)
        return torch.as_tensor(out)

    def _pair(self, graph: Neighbourhoods, pair_type: int, group: tuple[int, int], pairs: np.ndarray) -> np.ndarray:
        if pair_type not in self.pairs:
            raise ModelError(
                f"the training set holds no pair of elements {self._names(pair_type)}: the model cannot predict one"
            )
        fit, layout = self.pairs[pair_type], self.space.pair_layout(group)
        if not is_symmetric(pair_type, len(self.space.elements)):
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

    def _names(self, pair_type: int) -> str:
        return "-".join(str(self.space.elements[s]) for s in divmod(pair_type, len(self.space.elements)))


def is_symmetric(pair_type: int, n_species: int) -> bool:
    """Whether a kind of pair is of two like atoms."""
    return pair_type // n_species == pair_type % n_species
