"""Scales and shifts between coefficients in eV and the numbers of order one that the network is trained on.

    normalized = (coefficients - regression - shift) / scale

A pair has one scale for each irrep, times a smooth envelope of the distance; an atom has one for each irrep of each degree.
Shifts are the mean on-site scalars of each element. They are needed only without a regression, which has its own means.
Coefficients are in float64, since 1e-5 eV matters beside core levels of -500 eV; normalized numbers fit into float32.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harmose.core.grouping import rows_by_key
from harmose.errors import ModelError
from harmose.representation.block_irreps import BlockIrreps, Coefficients, OrientedPairs, map_coefficients

SCALE_FLOOR = 1e-6
"""eV. Smaller residuals are rounding errors of the labels."""
N_ENVELOPE = 5
"""Numbers after the scales of a pair type: three coefficients of the envelope, smallest and largest distance."""


@dataclass(frozen=True)
class Normalizer:
    """Scales in eV by pair type and by species, and shifts in eV by species.

    Attributes:
        space: the irreps of the blocks.
        pair_scale: by pair type, (K + 5,): scale of each irrep, envelope (3,), smallest and largest distance in angstrom.
        onsite_scale: by species, ((l_max+1)^2, K).
        onsite_shift: by species, (K_proper,): mean of the on-site scalars; empty with a regression.
    """

    space: BlockIrreps
    pair_scale: Mapping[int, np.ndarray]
    onsite_scale: Mapping[int, np.ndarray]
    onsite_shift: Mapping[int, np.ndarray] = field(default_factory=dict)

    def scales(self, oriented: OrientedPairs) -> Coefficients:
        """Return the scales of a graph: pairs (P_group, 1, K), on-site (N, (l_max+1)^2, K)."""
        return oriented.coefficients(partial(self.pair_scales, oriented), partial(self.onsite_scales, oriented))

    def pair_scales(self, oriented: OrientedPairs, group: tuple[int, int], pairs: np.ndarray) -> Tensor:
        """Return the scales (P, 1, K) of some pairs (P,) of a group; ones for elements that the training set lacks."""
        out = np.ones((len(pairs), 1, self.space.pair_layout(group).n_irreps))
        distance = np.linalg.norm(oriented.vectors[pairs], axis=1)
        for pair_type, rows in rows_by_key(oriented.pair_type[pairs]):
            if pair_type in self.pair_scale:
                out[rows, 0] = scale_at(self.pair_scale[pair_type], distance[rows])
        return torch.as_tensor(out)

    def onsite_scales(self, oriented: OrientedPairs, shell_type: int, atoms: np.ndarray) -> Tensor:
        """Return the scales (N, (l_max+1)^2, K) of some atoms (N,) of a shell type."""
        out = np.ones((len(atoms), *self.space.onsite_layout(shell_type).mask.shape))
        for species, rows in rows_by_key(oriented.species[atoms]):
            out[rows] = self.onsite_scale[species]
        return torch.as_tensor(out)

    def pair_shifts(self, group: tuple[int, int], n_pairs: int) -> Tensor:
        """Return zeros (P, S, K): pairs have no shift."""
        layout = self.space.pair_layout(group)
        return torch.zeros(n_pairs, layout.n_slots, layout.n_irreps, dtype=torch.float64)

    def onsite_shifts(self, oriented: OrientedPairs, shell_type: int, atoms: np.ndarray) -> Tensor:
        """Return the shifts (N, (l_max+1)^2, K) of some atoms (N,) of a shell type."""
        out = np.zeros((len(atoms), *self.space.onsite_layout(shell_type).mask.shape))
        for species, rows in rows_by_key(oriented.species[atoms]):
            if species in self.onsite_shift:
                out[rows, 0, : len(self.onsite_shift[species])] = self.onsite_shift[species]
        return torch.as_tensor(out)

    def shifts(self, oriented: OrientedPairs) -> Coefficients:
        """Return the shifts of a graph, in eV."""
        onsite = partial(self.onsite_shifts, oriented)
        return oriented.coefficients(lambda group, pairs: self.pair_shifts(group, len(pairs)), onsite)

    def covers(self, oriented: OrientedPairs) -> np.ndarray:
        """Return which pairs (P,) are of elements that the training set has."""
        return np.isin(oriented.pair_type, list(self.pair_scale))

    def check_covers(self, oriented: OrientedPairs, all_pairs: bool = True) -> None:
        """Raise `ModelError` for an element or, with `all_pairs`, a pair of elements that the training set does not have."""
        for pair_type in np.unique(oriented.pair_type).tolist() if all_pairs else ():
            if pair_type not in self.pair_scale:
                name = self.space.pair_name(pair_type)
                raise ModelError(f"the training set holds no pair of elements {name}: the model cannot predict one")
        for species in np.unique(oriented.species).tolist():
            if species not in self.onsite_scale:
                raise ModelError(
                    f"the training set holds no element {self.space.elements[species]}: the model cannot predict it"
                )


def normalize(coefficients: Coefficients, values: Coefficients, scales: Coefficients) -> Coefficients:
    """Return `(coefficients - values) / scales` in float32; `values` are those of the regression, or the shifts."""
    return map_coefficients(lambda c, v, s: ((c - v) / s).float(), coefficients, values, scales)


def denormalize(outputs: Coefficients | None, values: Coefficients, scales: Coefficients) -> Coefficients:
    """Return `outputs * scales + values` in eV, float64; the values alone without outputs."""
    if outputs is None:
        return values
    return map_coefficients(lambda p, v, s: p.double().cpu() * s + v, outputs, values, scales)


def scale_at(scale: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Evaluate the scales (K + 5,) of a pair type at distances (P,) in angstrom: (P, K) in eV."""
    rms, envelope, (low, high) = scale[:-N_ENVELOPE], scale[-5:-2], scale[-2:]
    return np.exp(_powers(distance, low, high) @ envelope)[:, None] * rms


def _powers(distance: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return 1, x, x^2 (P, 3) for x = 0 ... 1 between the smallest and the largest distance."""
    x = (np.clip(distance, low, high) - low) / max(high - low, 0.5)
    return np.stack([np.ones_like(x), x, x * x], -1)


class BlockRows(NamedTuple):
    """Some blocks of one pair type, or of one species.

    Attributes:
        kind: pair type or species.
        group: group of the pairs, or shell type of the atoms.
        values: residuals in eV (n, S, K).
        distance: length of each pair (n,), angstrom; empty for atoms.
    """

    kind: int
    group: tuple[int, int] | int
    values: np.ndarray
    distance: np.ndarray


def fit_normalizer(
    space: BlockIrreps, oriented: OrientedPairs, residual: Coefficients, with_shift: bool = False
) -> Normalizer:
    """Fit scales to residuals in eV: those of samples that the regression was not fitted to, or the coefficients.

    `with_shift`: also fit shifts, and scales to what they leave.
    """

    def rows() -> Iterator[BlockRows]:
        for group, members in oriented.pairs.items():
            distance, values = np.linalg.norm(oriented.vectors[members], axis=1), residual.pairs[group].numpy()
            for pair_type, k in rows_by_key(oriented.pair_type[members]):
                yield BlockRows(pair_type, group, values[k], distance[k])
        for shell_type, atoms in oriented.atoms.items():
            for species, k in rows_by_key(oriented.species[atoms]):
                yield BlockRows(species, shell_type, residual.onsite[shell_type].numpy()[k], np.zeros(0))

    return fit_normalizer_to_rows(space, rows(), with_shift)


def fit_normalizer_to_rows(space: BlockIrreps, rows: Iterable[BlockRows], with_shift: bool = False) -> Normalizer:
    """Fit scales as `fit_normalizer` does to some blocks of each pair type and each species."""
    pair_scale, onsite_scale, onsite_shift = {}, {}, {}
    for kind, group, values, distance in rows:
        if isinstance(group, tuple):
            squares = (values**2).sum(1)
            if space.is_symmetric(kind):  # the order of two like atoms must not count
                squares = (squares + squares[:, space.pair_layout(group).reversal[0]]) / 2
            pair_scale[kind] = _fit_pair_scale(distance, squares)
            continue
        if with_shift:
            layout = space.onsite_layout(group)
            n = layout.n_proper
            onsite_shift[kind] = values[:, 0, :n].mean(0) * layout.mask[0, :n]
            values = values.copy()
            values[:, 0, :n] -= onsite_shift[kind]
        onsite_scale[kind] = _fit_onsite_scale(values, space.l_max)
    return Normalizer(space, pair_scale, onsite_scale, onsite_shift)


class ScaleTable:
    """The scales of a normalizer as tables, for the batches of a training: float32."""

    def __init__(self, normalizer: Normalizer) -> None:
        space = normalizer.space
        n_types = len(space.elements) ** 2
        self.pairs: dict[tuple[int, int], Tensor] = {}
        for group in space.groups:
            table = torch.zeros(n_types, space.pair_layout(group).n_irreps + N_ENVELOPE)
            table[:, :-N_ENVELOPE] = 1.0
            for kind, scale in normalizer.pair_scale.items():
                if space.group(*divmod(kind, len(space.elements))) == group:
                    table[kind] = torch.as_tensor(scale, dtype=torch.float32)
            self.pairs[group] = table
        self.onsite: dict[int, Tensor] = {}
        for shell_type in range(len(space.shell_types)):
            table = torch.ones(len(space.elements), *space.onsite_layout(shell_type).mask.shape)
            for species, scale in normalizer.onsite_scale.items():
                if int(space.shell_type[species]) == shell_type:
                    table[species] = torch.as_tensor(scale, dtype=torch.float32)
            self.onsite[shell_type] = table

    def scales(self, species: Tensor, pair_type: Tensor, distance: Tensor, like: Coefficients) -> Coefficients:
        """Return the scales of a batch, as `Normalizer.scales`.

        Args:
            species: of the atoms (N,), shell type after shell type.
            pair_type: of the pairs (P,), group after group.
            distance: of the pairs (P,), angstrom.
            like: coefficients of the batch, which say the number of blocks of each group and shell type.
        """
        pairs, onsite, start = {}, {}, 0
        for group, x in like.pairs.items():
            rows = slice(start, start + len(x))
            table, start = self.pairs[group].index_select(0, pair_type[rows]), start + len(x)
            low, high = table[:, -2], table[:, -1]
            t = (distance[rows].clamp(low, high) - low) / (high - low).clamp(min=0.5)
            envelope = table[:, -5] + t * (table[:, -4] + t * table[:, -3])
            pairs[group] = (table[:, :-N_ENVELOPE] * envelope.exp()[:, None])[:, None]
        start = 0
        for shell_type, x in like.onsite.items():
            onsite[shell_type] = self.onsite[shell_type].index_select(0, species[start : start + len(x)])
            start += len(x)
        return Coefficients(pairs, onsite)


def _fit_onsite_scale(residual: np.ndarray, l_max: int) -> np.ndarray:
    """Return the rms of each irrep, summed over its 2l+1 components."""
    squares = (residual**2).mean(0)
    scale = np.ones_like(squares)
    for l in range(l_max + 1):
        part = slice(l * l, (l + 1) ** 2)
        scale[part] = np.maximum(np.sqrt(squares[part].sum(0)), SCALE_FLOOR)
    return scale


def _fit_pair_scale(distance: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Return the scales (K + 5,) of a pair type, from the squared norms of its irreps (P, K).

    They are the rms of each irrep, and the trend of all irreps with the distance.
    """
    rms = np.maximum(np.sqrt(squares.mean(0)), SCALE_FLOOR)
    low, high = distance.min(), distance.max()
    powers = _powers(distance, low, high)
    trend = np.log(np.maximum((squares / rms**2).mean(1), 1e-12)) / 2
    envelope = np.linalg.solve(powers.T @ powers + 1e-3 * len(powers) * np.eye(3), powers.T @ trend)
    flat = np.concatenate([rms, envelope, [low, high]])
    relative = np.sqrt((squares / scale_at(flat, distance) ** 2).mean(0))
    return np.concatenate([rms * np.maximum(relative, 1e-3), envelope, [low, high]])


def to_state(normalizer: Normalizer) -> dict[str, Tensor]:
    """Return flat tensors for a checkpoint; `from_state` is the inverse."""
    parts = {"pair_scale": normalizer.pair_scale, "onsite_scale": normalizer.onsite_scale}
    parts["onsite_shift"] = normalizer.onsite_shift
    return {
        f"{part}.{key}": torch.as_tensor(np.ascontiguousarray(value))
        for part, table in parts.items()
        for key, value in table.items()
    }


def from_state(space: BlockIrreps, state: Mapping[str, Tensor]) -> Normalizer:
    """Read a normalizer; `ModelError` for tensors that do not fit the irreps of the blocks."""
    tables: dict[str, dict[int, np.ndarray]] = {"pair_scale": {}, "onsite_scale": {}, "onsite_shift": {}}
    for name, tensor in state.items():
        part, _, key = name.partition(".")
        if part not in tables or not key.isdigit():
            raise ModelError(f"checkpoint: the normalizer holds {name}, which it cannot have")
        tables[part][int(key)] = tensor.numpy()
    normalizer = Normalizer(space, **tables)
    _check(normalizer)
    return normalizer


def _check(n: Normalizer) -> None:
    """Raise `ModelError` unless every element has a scale and all have the shapes of the irreps."""
    space = n.space
    if sorted(n.onsite_scale) != list(range(len(space.elements))):
        raise ModelError("checkpoint: the normalizer is not complete: expected scales of every element on site")
    for species, scale in n.onsite_scale.items():
        _check_shape("on-site scales", scale, space.onsite_layout(int(space.shell_type[species])).mask.shape)
    for pair_type, scale in n.pair_scale.items():
        low, high = divmod(pair_type, len(space.elements))
        if not low <= high < len(space.elements):
            raise ModelError(f"checkpoint: the normalizer has a pair type {pair_type} that does not exist")
        layout = space.pair_layout(space.group(low, high))
        _check_shape("scales of a pair", scale, (layout.n_irreps + N_ENVELOPE,))
    for species, shift in n.onsite_shift.items():
        if species not in n.onsite_scale:
            raise ModelError(f"checkpoint: the normalizer shifts an element {species} that does not exist")
        _check_shape("shifts", shift, (space.onsite_layout(int(space.shell_type[species])).n_proper,))


def _check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise `ModelError` for an array of another shape."""
    if array.shape != shape:
        raise ModelError(f"checkpoint: the normalizer does not belong to the card: expected {name} of shape {shape}, "
                         f"got {array.shape}")  # fmt: skip
