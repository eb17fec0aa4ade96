"""Standard deviation of the network's last layer: an ensemble of output layers in closed form (LLPR).

The output layers are linear in the invariant features x of the encoder. If they were fitted again to random parts of the
training set, their predictions would scatter with the variance

    v^2 = x^T (X^T X + lambda)^-1 x

with the features X (one row for each training edge of the same pair of elements). v^2 is the inverse of the prediction
rigidity of Bigi, Chong, Ceriotti and Grasselli (Mach. Learn.: Sci. Technol. 5, 045018 (2024)): v is large where the model is
unsure, and far below one where the training set has many such edges.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy
import torch

from harmose.core.grouping import rows_by_key
from harmose.nn.two_stage import TwoStage
from harmose.representation.batch import GraphBatch

RIDGE = 1e-4
"""lambda, relative to the mean of the diagonal of X^T X."""


@dataclass(frozen=True, eq=False)
class LastLayer:
    """Whitening matrices W with v = |x W|; F features and a constant.

    Attributes:
        edges: by directed pair of elements (F + 1, F + 1).
        atoms: by species (F' + 1, F' + 1).
        half: v at which the outputs of stage 1 and of stage 2 count half (2,); infinite where they never fade.
    """

    edges: Mapping[int, np.ndarray]
    atoms: Mapping[int, np.ndarray]
    half: np.ndarray = field(default_factory=lambda: np.full(2, np.inf))

    def std(self, network: TwoStage | None, batch: GraphBatch) -> tuple[np.ndarray, np.ndarray]:
        """Return v of the atoms (N,) and of the pairs (P,) of a batch; ones without a network."""
        if network is None:
            return np.ones(batch.n_atoms), np.ones(batch.n_pairs)
        atoms, species, edges, pair_type = _features(network, batch)
        return self.atom_std(atoms, species), self.pair_std(edges, pair_type)

    def weights(self, std: np.ndarray) -> np.ndarray:
        """Return the weights 1 / (1 + (v / half)^2) of both stages (2, n) for standard deviations v (n,).

        The network's correction is of size one and its error grows as v: their best mixture with no correction at all
        (`kernel_regression.fading`) has such a weight.
        """
        return 1 / (1 + (std / self.half[:, None]) ** 2)

    def atom_std(self, scalars: torch.Tensor, species: torch.Tensor) -> np.ndarray:
        """Return v of atoms from features (N, F) and species (N,)."""
        return _norms(self.atoms, scalars, species.cpu().numpy())

    def pair_std(self, scalars: torch.Tensor, pair_type: torch.Tensor) -> np.ndarray:
        """Return v of P pairs, the rms of both directions, from features (2P, F) and types (2P,) of the directed pairs."""
        squares = _norms(self.edges, scalars, pair_type.cpu().numpy()) ** 2
        forward, backward = np.split(squares, 2)
        return np.sqrt((forward + backward) / 2)


def fit_last_layer(network: TwoStage | None, batches: Iterable[GraphBatch]) -> LastLayer:
    """Fit the whitening matrices to the training set; none without a network. All batches are read in any case."""
    edges: dict[int, np.ndarray] = {}
    atoms: dict[int, np.ndarray] = {}
    for batch in batches:
        if network is None:
            continue
        atom_features, species, edge_features, pair_type = _features(network, batch)
        for moments, features, keys in ((edges, edge_features, pair_type), (atoms, atom_features, species)):
            x = _with_constant(features)
            for key, rows in rows_by_key(keys.cpu().numpy()):
                moments[key] = moments.get(key, 0) + x[rows].T @ x[rows]
    of_edges, of_atoms = ({key: _whitening(moment) for key, moment in x.items()} for x in (edges, atoms))
    return LastLayer(of_edges, of_atoms)


def _features(network: TwoStage, batch: GraphBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features and species of the atoms, and features and types of the directed pairs."""
    batch = batch.to(next(network.parameters()).device)
    with torch.no_grad():
        atoms, edges, graph = network.stage1.encode(batch)
    return atoms.proper[:, 0], batch.species, edges.scalars, graph.pair_type


def _whitening(moment: np.ndarray) -> np.ndarray:
    """W with W W^T = (moment + lambda)^-1."""
    n = len(moment)
    factor = np.linalg.cholesky(moment + RIDGE * np.trace(moment) / n * np.eye(n))
    return scipy.linalg.solve_triangular(factor, np.eye(n), lower=True).T


def _norms(matrices: Mapping[int, np.ndarray], features: torch.Tensor, keys: np.ndarray) -> np.ndarray:
    """|x W| for each row; one for types that the training set lacks."""
    x, out = _with_constant(features), np.ones(len(features))
    for key, rows in rows_by_key(keys):
        if key in matrices:
            out[rows] = np.linalg.norm(x[rows] @ matrices[key], axis=1)
    return out


def _with_constant(features: torch.Tensor) -> np.ndarray:
    return np.concatenate([features.double().cpu().numpy(), np.ones((len(features), 1))], 1)
