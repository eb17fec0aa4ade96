"""Stage 1 written with e3nn's tensor products, with the same widths and for the same blocks, to compare speed.

It is what an e3nn user would write (interaction of NequIP: Batzner et al., Nat. Commun. 13, 2453 (2022); heads as in
QHNet, Yu et al., ICML 2023). Atoms have features of both parities up to l_max. Messages are depthwise tensor products
`x_j (x) Y(r_ij)` ("uvu") whose weights, one for each path and channel, come from the distance by a perceptron; linear
maps and a gate follow. Each pair of atoms has one more such product, of both atoms' features with the harmonics of
their edge. A linear map gives the irreps of a block, Clebsch-Gordan coefficients the block, in the global frame.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from e3nn import o3
from e3nn.nn import FullyConnectedNet, Gate
from torch import Tensor, nn

from harmose.nn.ops.layers import RadialFeatures, cutoff_envelope
from harmose.nn.stage1.settings import Stage1Settings
from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import BlockIrreps

HIDDEN = 64
"""Hidden width of the perceptrons that make the weights of the products."""


def irreps_of(l_max: int, proper: int, pseudo: int) -> o3.Irreps:
    """Irreps of each degree, `proper` of parity (-1)^l and `pseudo` of the other; scalars first, as in e3nn's gate."""
    widths = [(proper, 1), (pseudo, -1)]
    degrees = [[0], [*range(1, l_max + 1)]]
    both = [(n, (l, sign * (-1) ** l)) for part in degrees for n, sign in widths for l in part]
    return o3.Irreps([(n, ir) for n, ir in both if n])


class Edges(NamedTuple):
    """Directed edges: centre, neighbour (E,); harmonics (E, (l_max + 1)^2); radial (E, n) with cutoff envelope."""

    centre: Tensor
    neighbour: Tensor
    harmonics: Tensor
    radial: Tensor


class Depthwise(nn.Module):
    """`x (x) Y` channel by channel, with weights from the distance; the caller applies the linear map `out`."""

    def __init__(self, irreps: o3.Irreps, harmonics: o3.Irreps, out: o3.Irreps, n_radial: int) -> None:
        super().__init__()
        paths: list[tuple[int, int, int]] = []
        middle: list[tuple[int, o3.Irrep]] = []
        for i, (n, ir) in enumerate(irreps):
            for j, (_, harmonic) in enumerate(harmonics):
                for product in ir * harmonic:
                    if product in out:
                        paths.append((i, j, len(middle)))
                        middle.append((n, product))
        mid, permutation, _ = o3.Irreps(middle).sort()
        instructions = [(i, j, permutation[k], "uvu", True) for i, j, k in paths]
        self.product = o3.TensorProduct(
            irreps, harmonics, mid, instructions, shared_weights=False, internal_weights=False
        )
        self.weights = FullyConnectedNet([n_radial, HIDDEN, self.product.weight_numel], nn.functional.silu)
        self.out = o3.Linear(mid.simplify(), out)

    def forward(self, x: Tensor, harmonics: Tensor, radial: Tensor) -> Tensor:
        """The product without the linear map `out`, so that the caller can first sum over neighbours."""
        return self.product(x, harmonics, self.weights(radial))


class Interaction(nn.Module):
    """A message passing layer."""

    def __init__(
        self, irreps: o3.Irreps, harmonics: o3.Irreps, hidden: o3.Irreps, n_species: int, n_radial: int
    ) -> None:
        super().__init__()
        scalars = o3.Irreps([(n, ir) for n, ir in hidden if ir.l == 0])
        gated = o3.Irreps([(n, ir) for n, ir in hidden if ir.l > 0])
        acts = [nn.functional.silu if ir.p > 0 else torch.tanh for _, ir in scalars]
        gates = o3.Irreps([(n, "0e") for n, _ in gated])
        self.gate = Gate(scalars, acts, gates, [torch.sigmoid] * len(gates), gated)
        self.linear = o3.Linear(irreps, irreps)
        self.messages = Depthwise(irreps, harmonics, self.gate.irreps_in, n_radial)
        self.own = o3.FullyConnectedTensorProduct(irreps, o3.Irreps([(n_species, (0, 1))]), self.gate.irreps_in)

    def forward(self, x: Tensor, species: Tensor, edges: Edges) -> Tensor:
        sent = self.messages(self.linear(x).index_select(0, edges.neighbour), edges.harmonics, edges.radial)
        summed = sent.new_zeros(len(x), sent.shape[1]).index_add(0, edges.centre, sent)
        neighbours = max(len(edges.centre) / len(x), 1.0)
        return self.gate(self.messages.out(summed / neighbours**0.5) + self.own(x, species))


class BlockHead(nn.Module):
    """Turns features into blocks (N, n_a, n_b) between two tuples of shells."""

    change: Tensor

    def __init__(self, features: o3.Irreps, left: Sequence[int], right: Sequence[int]) -> None:
        super().__init__()
        self.shape = sum(2 * l + 1 for l in left), sum(2 * l + 1 for l in right)
        irreps, rows, (row, column) = [], [], (0, 0)
        for l1 in left:
            column = 0
            for l2 in right:
                for l in range(abs(l1 - l2), l1 + l2 + 1):
                    part = torch.zeros(2 * l + 1, *self.shape)
                    coupling = o3.wigner_3j(l1, l2, l) * (2 * l + 1) ** 0.5
                    part[:, row : row + 2 * l1 + 1, column : column + 2 * l2 + 1] = coupling.permute(2, 0, 1)
                    irreps.append((1, (l, (-1) ** (l1 + l2))))
                    rows.append(part.flatten(1))
                column += 2 * l2 + 1
            row += 2 * l1 + 1
        order = o3.Irreps(irreps).sort()
        self.linear = o3.Linear(features, order.irreps.simplify())
        self.register_buffer("change", torch.cat([rows[k] for k in order.inv]))

    def forward(self, x: Tensor) -> Tensor:
        return (self.linear(x) @ self.change).unflatten(1, self.shape)


class E3nnStage1(nn.Module):
    """Turns a graph into blocks: of the pairs of each group, and of the atoms of each shell type."""

    def __init__(self, space: BlockIrreps, settings: Stage1Settings | None = None) -> None:
        super().__init__()
        s = settings or Stage1Settings()
        self.space, self.l_max, self.n_species = space, space.l_max, len(space.elements)
        hidden = irreps_of(self.l_max, s.channels, s.pseudo_channels)
        self.harmonics = o3.Irreps.spherical_harmonics(self.l_max)
        self.radial = RadialFeatures(s.radial)
        self.species = nn.Embedding(self.n_species, s.channels)
        first = o3.Irreps([(s.channels, (0, 1))])
        self.layers = nn.ModuleList(
            Interaction(hidden if k else first, self.harmonics, hidden, self.n_species, s.radial)
            for k in range(s.layers)
        )
        self.of_first, self.of_second = o3.Linear(hidden, hidden), o3.Linear(hidden, hidden)
        self.pair = Depthwise(hidden, self.harmonics, hidden, s.radial)
        shells = space.shell_types
        self.pairs = nn.ModuleList(BlockHead(hidden, shells[a], shells[b]) for a, b in space.groups)
        self.onsite = nn.ModuleList(BlockHead(hidden, shell, shell) for shell in shells)

    def forward(self, batch: GraphBatch) -> tuple[list[Tensor], list[Tensor]]:
        edges, n = self.edges(batch), batch.n_pairs
        species = nn.functional.one_hot(batch.species, self.n_species).to(batch.distance.dtype)
        x = self.species(batch.species)
        for interaction in self.layers:
            x = interaction(x, species, edges)
        both = self.of_first(x).index_select(0, batch.first) + self.of_second(x).index_select(0, batch.second)
        pairs = self.pair.out(self.pair(both, edges.harmonics[:n], edges.radial[:n]))
        onsite = [head(x[batch.atom_slice(s)]) for s, head in enumerate(self.onsite)]
        return (
            [head(pairs[batch.pair_slice(k)]) for k, head in enumerate(self.pairs)],
            [(h + h.mT) / 2 for h in onsite],
        )

    def edges(self, batch: GraphBatch) -> Edges:
        """Edges in both directions of every pair, with axes in e3nn's order (y is its polar axis)."""
        vectors = torch.cat([batch.vectors, -batch.vectors])[:, [1, 2, 0]]
        harmonics = o3.spherical_harmonics(self.harmonics, vectors, normalize=True, normalization="component")
        radial = self.radial(batch.distance) * cutoff_envelope(batch.distance, batch.reach)[:, None]
        centre, neighbour = torch.cat([batch.first, batch.second]), torch.cat([batch.second, batch.first])
        return Edges(centre, neighbour, harmonics, radial.repeat(2, 1))


def make_e3nn_step(network: E3nnStage1, batch: GraphBatch) -> Callable[[], float]:
    """A function that makes one training step: mean absolute error against random blocks, gradient, AdamW."""
    network.train()
    with torch.no_grad():
        targets = [[torch.randn_like(x) for x in part] for part in network(batch)]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)

    def step() -> float:
        optimizer.zero_grad()
        losses = [
            (x - target).abs().sum()
            for blocks, block_targets in zip(network(batch), targets, strict=True)
            for x, target in zip(blocks, block_targets, strict=True)
        ]
        loss = torch.stack(losses).sum()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
