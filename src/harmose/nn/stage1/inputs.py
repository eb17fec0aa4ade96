"""Known operators of a structure as input of stage 1: blocks of H0 and S, in the frames in which H is learned.

Coefficients are normalised by what they are in training (scalars less the mean of their kind of pair or element, over their
spread; other irreps over their root mean square), and become features of edges and atoms by the maps that symmetry allows.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from harmose.nn.ops.coefficient_reader import CoefficientReader, end_to_end
from harmose.nn.ops.layers import IrrepsLinear, Rescale, Standardize
from harmose.nn.ops.so2 import EdgeFeatures
from harmose.nn.stage1.encoder import AtomFeatures, Stage1Settings
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import BlockIrreps, Coefficients


@dataclass(frozen=True)
class InputSettings:
    """What stage 1 reads besides the structure: H0 (`prior`), S (`overlap`), the density matrix of H0 with self-consistent
    charges (`density`, `harmose.physics.charges`), which then also the closed form reads."""

    prior: bool = False
    overlap: bool = False
    density: bool = False

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of those that are read, as in `GraphBatch.operators`."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name))


class Inputs(nn.Module):
    """`GraphBatch.operators` -> features of the atoms and of both directions of every pair, as wide as the encoder's."""

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
    """One operator: each group of pairs and each signature of atoms by its own maps."""

    def __init__(self, space: BlockIrreps, encoder: Stage1Settings) -> None:
        super().__init__()
        n, signatures = len(space.elements), range(len(space.signatures))
        self.groups = space.groups
        self.normalize = nn.ModuleList(NormalizePairs(space, g, n * n) for g in space.groups)
        self.pairs = nn.ModuleList(CoefficientReader(space, g, encoder) for g in space.groups)
        self.onsite = nn.ModuleList(OnsiteReader(space, s, n, encoder) for s in signatures)

    def forward(self, operator: Coefficients, batch: GraphBatch) -> tuple[AtomFeatures, EdgeFeatures]:
        parts = []
        for k, (group, normalize, reader) in enumerate(zip(self.groups, self.normalize, self.pairs, strict=True)):
            parts.append(reader(normalize(operator.pairs[group], batch.kind[batch.pair_slice(k)])))
        atoms = [reader(operator.onsite[s], batch.species[batch.atom_slice(s)]) for s, reader in enumerate(self.onsite)]
        proper, pseudo = (torch.cat(x) for x in zip(*atoms, strict=True))
        return AtomFeatures(proper, pseudo), end_to_end([a for a, _ in parts] + [b for _, b in parts])


class NormalizePairs(nn.Module):
    """Coefficients (P, S, K) of one group, normalised; kind (P,)."""

    def __init__(self, space: BlockIrreps, group: tuple[int, int], n_kinds: int) -> None:
        super().__init__()
        layout = space.pair_layout(group)
        self.n_proper = layout.n_proper
        self.scalars = Standardize(n_kinds, layout.n_proper)
        self.pseudoscalars = Rescale(layout.n_irreps - layout.n_proper)
        self.around = Rescale(1, layout.n_irreps)

    def forward(self, x: Tensor, kind: Tensor) -> Tensor:
        if not len(x):  # nothing to take statistics of
            return x
        axial = [self.scalars(x[:, 0, : self.n_proper], kind), self.pseudoscalars(x[:, 0, self.n_proper :])]
        return torch.cat([torch.cat(axial, 1)[:, None], self.around(x[:, 1:])], 1)


class OnsiteReader(nn.Module):
    """On-site coefficients (N, (l_max+1)^2, K) of one signature -> irreps of the atoms."""

    def __init__(self, space: BlockIrreps, signature: int, n_species: int, encoder: Stage1Settings) -> None:
        super().__init__()
        layout = space.onsite_layout(signature)
        self.n_proper = layout.n_proper
        n_pseudo = layout.n_columns - layout.n_proper
        self.scalars = Standardize(n_species, layout.n_proper)
        self.around, self.mirrored = Rescale(1, layout.n_proper), Rescale(1, n_pseudo)
        self.proper = IrrepsLinear(space.l_max, layout.n_proper, encoder.channels)
        self.pseudo = IrrepsLinear(space.l_max, max(n_pseudo, 1), encoder.pseudo_channels)

    def forward(self, x: Tensor, species: Tensor) -> tuple[Tensor, Tensor]:
        straight, mirrored = x[:, :, : self.n_proper], x[:, :, self.n_proper :]
        if len(x):
            scalars = self.scalars(straight[:, 0], species)
            straight = torch.cat([scalars[:, None], self.around(straight[:, 1:])], 1)
            mirrored = self.mirrored(mirrored)
        if not mirrored.shape[2]:
            mirrored = x.new_zeros(*x.shape[:2], 1)
        return self.proper(straight), self.pseudo(mirrored)
