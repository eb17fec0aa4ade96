"""Heads: linear maps that O(3) allows from features to coefficients, one for each group and shell type."""

import torch
from torch import Tensor, nn

from harmose.nn.ops.features import AtomFeatures, EdgeFeatures, EdgeWidths
from harmose.nn.ops.layers import IrrepsLinear
from harmose.nn.ops.saturation import Bounded, saturate_onsite, saturate_pairs
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import BlockIrreps, Coefficients


class PairHead(nn.Module):
    """Edge features of both directions -> coefficients (P, S, K) of one group, averaged over the directions.

    The reversed direction has maps of its own if the two atoms have different shells. If they have the same shells, it
    has the same maps, reordered by the layout's reversal: then the block of j-i is the transpose of that of i-j.
    """

    column: Tensor
    sign: Tensor
    so2_mask: Tensor

    def __init__(self, space: BlockIrreps, group: tuple[int, int], widths: EdgeWidths, gain: float):
        super().__init__()
        scalars, pseudoscalars, so2 = widths
        layout = space.pair_layout(group)
        self.same = group[0] == group[1]
        column, sign = layout.reversal
        directions = 1 if self.same else 2
        n_proper, n_pseudo = layout.n_proper, layout.n_irreps - layout.n_proper
        self.proper = nn.Parameter(torch.randn(directions, scalars, n_proper) * gain / scalars**0.5)
        self.pseudo = nn.Parameter(torch.randn(directions, pseudoscalars, n_pseudo) * gain / pseudoscalars**0.5)
        weight = torch.randn(directions, space.l_max, so2, layout.n_irreps)
        self.so2 = nn.Parameter(weight * gain / so2**0.5)
        self.bias = nn.Parameter(torch.zeros(n_proper))
        self.register_buffer("column", torch.as_tensor(column), persistent=False)
        self.register_buffer("sign", torch.as_tensor(sign, dtype=torch.float32), persistent=False)
        exists = torch.as_tensor(layout.mask[1::2], dtype=torch.float32)[:, None] / 2
        both = [exists, exists * self.sign[1::2, None]]
        so2_mask = torch.cat([x.expand(-1, so2, -1) for x in both], 1)
        self.register_buffer("so2_mask", so2_mask, persistent=False)

    def forward(self, edges: EdgeFeatures) -> Tensor:
        """scalars (2, P, n0), pseudoscalars (2, P, p), so2 (M, 2, P, 2, n): one direction, then the other."""
        proper = torch.bmm(edges.scalars, self._both(self.proper, slice(None, len(self.bias)))).sum(0)
        pseudo = torch.bmm(edges.pseudoscalars, self._both(self.pseudo, slice(len(self.bias), None))).sum(0)
        m0 = torch.cat([proper / 2 + self._offset(), pseudo / 2], 1)
        return torch.cat([m0[:, None], self._higher_orders(edges.so2)], 1)

    def _offset(self) -> Tensor:
        """The bias; for atoms with the same shells only its part that both directions of an edge share."""
        n = len(self.bias)
        return (self.bias + self.bias[self.column[:n]] * self.sign[0, :n]) / 2 if self.same else self.bias

    def _both(self, weight: Tensor, columns: slice) -> Tensor:
        """Maps of both directions for m = 0; reversal exchanges columns and signs for atoms with the same shells."""
        if not self.same:
            return weight * torch.stack([torch.ones_like(self.sign[0, columns]), self.sign[0, columns]])[:, None]
        offset = columns.start or 0
        back = weight[0].index_select(-1, self.column[columns] - offset) * self.sign[0, columns]
        return torch.stack([weight[0], back])

    def _higher_orders(self, so2: Tensor) -> Tensor:
        orders, _, n_pairs, _, width = so2.shape
        stacked = so2.permute(0, 2, 3, 1, 4).reshape(orders, 2 * n_pairs, 2 * width)
        ahead, back = self.so2[0], self.so2[-1]
        if self.same:
            back = back.index_select(-1, self.column)
        # Reversal also changes the sign of the odd half against the even half; `Heads` has done that to the features.
        weight = torch.cat([ahead, back], 1) * self.so2_mask
        out = torch.bmm(stacked, weight).view(orders, n_pairs, 2, weight.shape[-1])
        return out.transpose(0, 1).flatten(1, 2)


class OnsiteHead(nn.Module):
    """Atom features -> coefficients (N, (l_max+1)^2, K) of the atoms of one shell type."""

    mask: Tensor

    def __init__(self, space: BlockIrreps, shell_type: int, channels: int, pseudo_channels: int, gain: float):
        super().__init__()
        layout = space.onsite_layout(shell_type)
        self.proper = IrrepsLinear(space.l_max, channels, layout.n_proper, gain)
        self.pseudo = IrrepsLinear(space.l_max, pseudo_channels, layout.n_columns - layout.n_proper, gain)
        self.bias = nn.Parameter(torch.zeros(len(space.elements), layout.n_proper))
        self.register_buffer("mask", torch.as_tensor(layout.mask, dtype=torch.float32), persistent=False)

    def forward(self, atoms: AtomFeatures, species: Tensor) -> Tensor:
        proper = self.proper(atoms.proper)
        proper = torch.cat([proper[:, :1] + self.bias[species][:, None], proper[:, 1:]], 1)
        return torch.cat([proper, self.pseudo(atoms.pseudo)], 2) * self.mask


class Heads(nn.Module, Bounded):
    """Heads of all groups and shell types: features -> normalized `Coefficients`, bounded smoothly."""

    flip: Tensor

    def __init__(self, space: BlockIrreps, channels: int, pseudo: int, edges: EdgeWidths, gain: float = 1.0):
        super().__init__()
        self.groups = space.groups
        self.n_irreps = {g: space.pair_layout(g).n_irreps for g in space.groups}
        self.pairs = nn.ModuleList(PairHead(space, g, edges, gain) for g in space.groups)
        self.onsite = nn.ModuleList(OnsiteHead(space, s, channels, pseudo, gain) for s in range(len(space.shell_types)))
        self.register_buffer("flip", torch.tensor([[1.0], [-1.0]]), persistent=False)

    def forward(self, atoms: AtomFeatures, edges: EdgeFeatures, batch: GraphBatch) -> Coefficients:
        return Coefficients(self.pair_coefficients(edges, batch), self.onsite_coefficients(atoms, batch))

    def pair_coefficients(self, edges: EdgeFeatures, batch: GraphBatch) -> dict[tuple[int, int], Tensor]:
        """Coefficients (P_group, S, K) of the pairs of each group."""
        pairs, n = {}, batch.n_pairs
        scalars, pseudo = (x.unflatten(0, (2, n)) for x in (edges.scalars, edges.pseudoscalars))
        orders, _, _, width = edges.so2.shape
        # Reversal is a half turn: odd halves of reversed edges have the opposite sign in the pair's frame.
        so2 = torch.stack([edges.so2[:, :n], edges.so2[:, n:] * self.flip], 1)
        so2 = so2.view(orders, 2, n, 2, width)
        for k, (group, head) in enumerate(zip(self.groups, self.pairs, strict=True)):
            part = batch.pair_slice(k)
            if part.start == part.stop:
                pairs[group] = scalars.new_zeros(0, 2 * orders + 1, self.n_irreps[group])
                continue
            x = head(EdgeFeatures(scalars[:, part], pseudo[:, part], so2[:, :, part]))
            pairs[group] = saturate_pairs(x) if self.bounded else x
        return pairs

    def onsite_coefficients(self, atoms: AtomFeatures, batch: GraphBatch) -> dict[int, Tensor]:
        """Coefficients (N_type, (l_max+1)^2, K) of the atoms of each shell type."""
        onsite = {}
        for s, head in enumerate(self.onsite):
            part = batch.atom_slice(s)
            x = head(AtomFeatures(atoms.proper[part], atoms.pseudo[part]), batch.species[part])
            onsite[s] = saturate_onsite(x) if self.bounded else x
        return onsite
