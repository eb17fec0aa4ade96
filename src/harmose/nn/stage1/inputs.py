"""Operators of a structure (H0, S, density matrix) as input of stage 1, in the irreps and frames in which H is learned.

Coefficients are normalized by their statistics in the training set: scalars by mean and spread for each pair type or
element, other irreps by their root mean square. Linear maps that O(3) allows turn them into features of edges and
atoms.
"""

from dataclasses import asdict, fields

import torch
from pydantic import StrictBool
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from harmose.nn.ops.coefficient_reader import CoefficientReader
from harmose.nn.ops.features import AtomFeatures, EdgeFeatures, concatenate_edges
from harmose.nn.ops.layers import IrrepsLinear, Rescale, Standardize
from harmose.nn.stage1.settings import Stage1Settings
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import BlockIrreps, Coefficients


@dataclass(frozen=True, config={"extra": "forbid"})
class InputSettings:
    """Inputs of a model besides elements and positions: operators, which stage 1 reads, and magnetic moments.

    Attributes:
        prior: H0.
        overlap: S.
        density: density matrix of H0 with self-consistent charges (`physics.charges`); the regression reads it too.
        moments: signs of the atoms' initial magnetic moments (`core.moments`), as different species; the regression reads them
            too.
    """

    prior: StrictBool = False
    overlap: StrictBool = False
    density: StrictBool = False
    moments: StrictBool = False

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of the operators that stage 1 reads, the keys of `GraphBatch.operators`."""
        return tuple(f.name for f in fields(self) if f.name != "moments" and getattr(self, f.name))

    def to_dict(self) -> dict[str, bool]:
        """Return the settings as JSON values, without moments where they are not read, as older versions wrote them."""
        return {name: value for name, value in asdict(self).items() if name != "moments" or value}


class Inputs(nn.Module):
    """`GraphBatch.operators` -> features of the atoms and of both directions of every pair."""

    def __init__(self, space: BlockIrreps, settings: InputSettings, encoder: Stage1Settings) -> None:
        super().__init__()
        self.readers = nn.ModuleDict({name: OperatorReader(space, encoder) for name in settings.operators})

    def forward(self, batch: GraphBatch) -> tuple[AtomFeatures, EdgeFeatures]:
        read = [reader(batch.operators[name], batch) for name, reader in self.readers.items()]
        atoms, edges = zip(*read, strict=True)
        proper, pseudo, scalars, pseudoscalars, so2 = (
            torch.stack(parts).sum(0) for both in (atoms, edges) for parts in zip(*both, strict=True)
        )
        return AtomFeatures(proper, pseudo), EdgeFeatures(scalars, pseudoscalars, so2)


class OperatorReader(nn.Module):
    """Read one operator, with separate maps for each group of pairs and each shell type of atoms."""

    def __init__(self, space: BlockIrreps, encoder: Stage1Settings) -> None:
        super().__init__()
        n, shell_types = len(space.elements), range(len(space.shell_types))
        self.groups = space.groups
        self.normalize = nn.ModuleList(NormalizePairs(space, g, n * n) for g in space.groups)
        self.pairs = nn.ModuleList(CoefficientReader(space, g, encoder.edges) for g in space.groups)
        self.onsite = nn.ModuleList(OnsiteReader(space, s, n, encoder) for s in shell_types)

    def forward(self, operator: Coefficients, batch: GraphBatch) -> tuple[AtomFeatures, EdgeFeatures]:
        parts = []
        for k, (group, normalize, reader) in enumerate(zip(self.groups, self.normalize, self.pairs, strict=True)):
            parts.append(reader(normalize(operator.pairs[group], batch.pair_type[batch.pair_slice(k)])))
        atoms = [reader(operator.onsite[s], batch.species[batch.atom_slice(s)]) for s, reader in enumerate(self.onsite)]
        proper, pseudo = (torch.cat(x) for x in zip(*atoms, strict=True))
        return AtomFeatures(proper, pseudo), concatenate_edges([a for a, _ in parts] + [b for _, b in parts])


class NormalizePairs(nn.Module):
    """Normalize the coefficients (P, S, K) of one group; pair_type (P,)."""

    def __init__(self, space: BlockIrreps, group: tuple[int, int], n_pair_types: int) -> None:
        super().__init__()
        layout = space.pair_layout(group)
        self.n_proper = layout.n_proper
        self.scalars = Standardize(n_pair_types, layout.n_proper)
        self.pseudoscalars = Rescale(layout.n_irreps - layout.n_proper)
        self.so2 = Rescale(1, layout.n_irreps)

    def forward(self, x: Tensor, pair_type: Tensor) -> Tensor:
        if not len(x):  # no rows to fit scales to
            return x
        m0 = [self.scalars(x[:, 0, : self.n_proper], pair_type), self.pseudoscalars(x[:, 0, self.n_proper :])]
        return torch.cat([torch.cat(m0, 1)[:, None], self.so2(x[:, 1:])], 1)


class OnsiteReader(nn.Module):
    """On-site coefficients (N, (l_max+1)^2, K) of one shell type -> irreps of the atoms."""

    def __init__(self, space: BlockIrreps, shell_type: int, n_species: int, encoder: Stage1Settings) -> None:
        super().__init__()
        layout = space.onsite_layout(shell_type)
        self.n_proper = layout.n_proper
        n_pseudo = layout.n_columns - layout.n_proper
        self.scalars = Standardize(n_species, layout.n_proper)
        self.proper_scale, self.pseudo_scale = Rescale(1, layout.n_proper), Rescale(1, n_pseudo)
        self.proper = IrrepsLinear(space.l_max, layout.n_proper, encoder.channels)
        self.pseudo = IrrepsLinear(space.l_max, max(n_pseudo, 1), encoder.pseudo_channels)

    def forward(self, x: Tensor, species: Tensor) -> tuple[Tensor, Tensor]:
        proper, pseudo = x[:, :, : self.n_proper], x[:, :, self.n_proper :]
        if len(x):
            scalars = self.scalars(proper[:, 0], species)
            proper = torch.cat([scalars[:, None], self.proper_scale(proper[:, 1:])], 1)
            pseudo = self.pseudo_scale(pseudo)
        if not pseudo.shape[2]:
            pseudo = x.new_zeros(*x.shape[:2], 1)
        return self.proper(proper), self.pseudo(pseudo)
