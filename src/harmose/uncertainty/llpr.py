"""How freely the network's last, linear layer could have said something else: an ensemble of heads in closed form.

Heads are linear in the encoder's invariants x. Fitted again and again to random parts of the training set, their
predictions for an edge scatter as

    v^2 = x^T (X^T X + ridge)^-1 x

with the rows of X all training edges of its kind (the prediction rigidity of Bigi, Chong, Ceriotti and Grasselli, Mach.
Learn.: Sci. Technol. 5, 045018 (2024)). v is far below one where the training set held many such edges.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solve_triangular

from harmose.core.grouping import rows_by_key
from harmose.nn.two_stage import TwoStage
from harmose.representation.batch import GraphBatch

RIDGE = 1e-4
"""Of the mean diagonal of X^T X."""


@dataclass(frozen=True, eq=False)
class LastLayer:
    """Whitening matrices (F + 1, F + 1), v = |x W|: `edges[kind]` by species of centre and neighbour, `atoms[species]`."""

    edges: Mapping[int, np.ndarray]
    atoms: Mapping[int, np.ndarray]

    def of(self, network: TwoStage | None, batch: GraphBatch) -> tuple[np.ndarray, np.ndarray]:
        """v of the atoms (N,) and of the pairs (P,) of a batch, in its order; of a pair the rms of both directions."""
        if network is None:
            return np.ones(batch.n_atoms), np.ones(batch.n_pairs)
        batch = batch.to(next(network.parameters()).device)
        with torch.no_grad():
            atoms, edges, graph = network.stage1.encode(batch)
        y, species = _with_one(atoms.proper[:, 0]), batch.species.cpu().numpy()
        return _lengths(self.atoms, y, species), self.of_pairs(edges.scalars, graph.pair_type)

    def of_pairs(self, scalars: torch.Tensor, kind: torch.Tensor) -> np.ndarray:
        """v of the pairs (P,), from the scalars and kinds of both directions (2P, F), (2P,)."""
        ahead, back = np.split(_lengths(self.edges, _with_one(scalars), kind.cpu().numpy()) ** 2, 2)
        return np.sqrt((ahead + back) / 2)


def fit_last_layer(network: TwoStage | None, batches: Iterable[GraphBatch]) -> LastLayer:
    """From the training set."""
    edges: dict[int, np.ndarray] = {}
    atoms: dict[int, np.ndarray] = {}
    for batch in batches:
        if network is None:
            continue
        batch = batch.to(next(network.parameters()).device)
        with torch.no_grad():
            features, scalars, graph = network.stage1.encode(batch)
        seen = (edges, scalars.scalars, graph.pair_type), (atoms, features.proper[:, 0], batch.species)
        for table, rows, key in seen:
            x = _with_one(rows)
            for k, chosen in rows_by_key(key.cpu().numpy()):
                table[k] = table.get(k, 0) + x[chosen].T @ x[chosen]
    return LastLayer(*({k: _whitening(moment) for k, moment in table.items()} for table in (edges, atoms)))


def _whitening(moment: np.ndarray) -> np.ndarray:
    n = len(moment)
    factor = np.linalg.cholesky(moment + RIDGE * np.trace(moment) / n * np.eye(n))
    return solve_triangular(factor, np.eye(n), lower=True).T


def _lengths(table: Mapping[int, np.ndarray], rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """|x W|; one, as for what was never seen, where a kind is not in the table."""
    out = np.ones(len(rows))
    for k, chosen in rows_by_key(keys):
        if k in table:
            out[chosen] = np.linalg.norm(rows[chosen] @ table[k], axis=1)
    return out


def _with_one(scalars: torch.Tensor) -> np.ndarray:
    return np.concatenate([scalars.double().cpu().numpy(), np.ones((len(scalars), 1))], 1)
