"""The scales of what the closed form leaves: what network outputs are multiplied by."""

import numpy as np

from harmose.kernel_regression.expansion import by_value
from harmose.kernel_regression.model import scale_at
from harmose.representation.block_irreps import BlockIrreps, Coefficients, OrientedPairs

SCALE_FLOOR = 1e-6
"""eV; smaller spreads are rounding of the labels and are not learned."""


def fit_scales(
    space: BlockIrreps, oriented: OrientedPairs, left: Coefficients
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """`pair_scale` and `onsite_scale` of a `KernelRegression`, from what its fit leaves of samples it has not seen, in eV."""
    distance = np.linalg.norm(oriented.vectors, axis=1)
    pair_scale, onsite_scale = {}, {}
    for group, members in oriented.members.items():
        residual = left.pairs[group].numpy()
        for kind, rows in by_value(oriented.kind[members]):
            pair_scale[kind] = _fit_pair_scale(distance[members[rows]], residual[rows])
    for signature, atoms in oriented.atoms.items():
        residual = left.onsite[signature].numpy()
        for species, rows in by_value(oriented.species[atoms]):
            squares = (residual[rows] ** 2).mean(0)
            scale = np.ones_like(squares)
            for l in range(space.l_max + 1):
                part = slice(l * l, (l + 1) ** 2)
                scale[part] = np.maximum(np.sqrt(squares[part].sum(0)), SCALE_FLOOR)
            onsite_scale[species] = scale
    return pair_scale, onsite_scale


def _fit_pair_scale(distance: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """rms of each irrep times a quadratic exponential in the distance that follows the trend over all irreps."""
    size = (residual**2).sum(1)
    rms = np.maximum(np.sqrt(size.mean(0)), SCALE_FLOOR)
    low, high = distance.min(), distance.max()
    x = (distance - low) / max(high - low, 0.5)
    powers = np.stack([np.ones_like(x), x, x * x], -1)
    trend = np.log(np.maximum((size / rms**2).mean(1), 1e-12)) / 2
    envelope = np.linalg.solve(powers.T @ powers + 1e-3 * len(x) * np.eye(3), powers.T @ trend)
    flat = np.concatenate([rms, envelope, [low, high]])
    relative = np.sqrt((size / scale_at(flat, distance) ** 2).mean(0))
    return np.concatenate([rms * np.maximum(relative, 1e-3), envelope, [low, high]])
