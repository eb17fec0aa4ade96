"""Coefficients back to dense matrices, differentiably and for whole batches, for losses on orbitals.

The inverse of `block_irreps.to_coefficients`, in torch: coefficients -> blocks in the edge frames -> global frame ->
Bloch sums, one dense matrix for each sample, k-point and collinear spin. Everything is linear, so that
the error of H suffices: regression, prior and energy zero cancel. A pair's rotation is taken from the frames of its batch.
"""

import numpy as np
import torch
from torch import Tensor, nn

from harmose.representation.batch import GraphBatch
from harmose.representation.block_irreps import BlockIrreps, Coefficients
from harmose.representation.layout import frame_rows
from harmose.spin import Spin


class Assembly(nn.Module):
    """`assembly(coefficients, batch, kpoints)`: dense Hermitian matrices (B, O, s n, s n), s = 2 for spinors.

    `coefficients` in eV; O as in `ReferenceOrbitals`; n basis functions of the largest sample, zeros as padding. Atoms are in
    the order of the batch. kpoints (B, K, 3) in 1/angstrom, None for molecules: then K = 1 and, but for
    spinors, the matrices are real.
    """

    frame_row: Tensor
    counts: Tensor
    components: Tensor

    def __init__(self, space: BlockIrreps, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.space, self.n_channels = space, space.spin.n_channels
        self.size = (space.basis.l_max + 1) ** 2
        place = np.argsort(frame_rows(space.l_max))
        orbitals = [_orbitals(shells) for shells in space.shell_types]
        constants = {
            "frame_row": torch.as_tensor(place[: self.size]),
            "counts": torch.as_tensor([len(columns) for columns, _ in orbitals])[torch.as_tensor(space.shell_type)],
            "components": _components(space.spin, dtype),
        }
        for s, (columns, shell) in enumerate(orbitals):
            constants[f"columns_{s}"] = torch.as_tensor(columns)
            constants[f"same_{s}"] = torch.as_tensor(shell[:, None] == shell, dtype=dtype)
            constants |= _table(f"onsite_{s}", space.onsite_layout(s).matrix, dtype)
        for a, b in space.groups:
            constants |= _table(f"pair_{a}_{b}", space.pair_layout((a, b)).matrix, dtype)
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, coefficients: Coefficients, batch: GraphBatch, kpoints: Tensor | None = None) -> Tensor:
        starts, n = self.orbital_starts(batch)
        n_points = 1 if kpoints is None else kpoints.shape[1]
        dtype = self.components.dtype if kpoints is None else batch.distance.dtype.to_complex()
        shape = (len(self.components) * n_points, batch.n_samples * n * n)
        onsite, upper = (batch.distance.new_zeros(shape, dtype=dtype) for _ in range(2))
        for s, x in coefficients.onsite.items():
            atoms = batch.atom_slice(s)
            blocks = self._blocks(f"onsite_{s}", x, (s, s))
            where = self._places(batch.sample[atoms], starts[atoms], starts[atoms], blocks, n)
            onsite = onsite.index_add(1, where, self._phased(blocks, None, n_points).to(dtype))
        rotation = batch.rotation[:, self.frame_row, : self.size]
        for g, ((a, b), x) in enumerate(coefficients.pairs.items()):
            part = batch.pair_slice(g)
            first, second, turn = batch.first[part], batch.second[part], rotation[part]
            left, right = self._shells(turn, a), self._shells(turn, b)
            in_frame = self._turned_back(self._blocks(f"pair_{a}_{b}", x, (a, b)), turn)
            blocks = left.mT[:, None] @ in_frame @ right[:, None]
            sample = batch.sample[first]
            where = self._places(sample, starts[first], starts[second], blocks, n)
            angles = self._angles(batch.vectors[part], sample, kpoints)
            upper = upper.index_add(1, where, self._phased(blocks, angles, n_points).to(dtype))
        matrix, pairs = (self._as_matrices(x, batch.n_samples, n, n_points) for x in (onsite, upper))
        return matrix + pairs + pairs.mH

    def orbital_starts(self, batch: GraphBatch) -> tuple[Tensor, int]:
        """Return the first orbital of each atom within its sample (N,), and the number of orbitals of the largest sample."""
        counts, order = self.counts[batch.species], torch.argsort(batch.sample, stable=True)
        total = torch.bincount(batch.sample[order], counts[order].double(), batch.n_samples).long()
        before = torch.cumsum(counts[order], 0) - counts[order] - (torch.cumsum(total, 0) - total)[batch.sample[order]]
        return torch.empty_like(counts).scatter(0, order, before), int(total.max())

    def _blocks(self, name: str, x: Tensor, shell_types: tuple[int, int]) -> Tensor:
        """Coefficients (N, ...) -> channel blocks (N, C, n_a, n_b)."""
        rows, table = getattr(self, f"{name}_rows"), getattr(self, f"{name}_table")
        n_a, n_b = (len(getattr(self, f"columns_{s}")) for s in shell_types)
        return (x.flatten(1)[:, rows] @ table).view(len(x), self.n_channels, n_a, n_b)

    def _shells(self, rotation: Tensor, shell_type: int) -> Tensor:
        """D of all l (P, size, size) -> that of an atom's shells (P, n, n), block-diagonal."""
        columns = getattr(self, f"columns_{shell_type}")
        return rotation[:, columns][:, :, columns] * getattr(self, f"same_{shell_type}")

    def _turned_back(self, blocks: Tensor, rotation: Tensor) -> Tensor:
        """Rotate spin vectors from the edge's frame into the global one; other channels are scalars."""
        if self.space.spin is not Spin.SPINOR:
            return blocks
        vector = torch.einsum("pba,pbxy->paxy", rotation[:, 1:4, 1:4], blocks[:, 1:])
        return torch.cat([blocks[:, :1], vector], 1)

    def _angles(self, vectors: Tensor, sample: Tensor, kpoints: Tensor | None) -> Tensor | None:
        return None if kpoints is None else (kpoints[sample].to(vectors.dtype) @ vectors[:, :, None])[..., 0]

    def _phased(self, blocks: Tensor, angles: Tensor | None, n_points: int) -> Tensor:
        """Channel blocks (N, C, a, b) -> components, with phases (N, K) of k if any: (K * components, N * a * b)."""
        values = torch.einsum("ck,pkab->cpab", self.components, blocks.to(self.components.dtype))
        if angles is None:
            return values.flatten(1).repeat(n_points, 1)
        phases = torch.polar(torch.ones_like(angles), angles).T
        return (phases[:, None, :, None, None] * values).flatten(2).flatten(0, 1)

    def _places(self, sample: Tensor, row: Tensor, column: Tensor, blocks: Tensor, n: int) -> Tensor:
        a, b = (torch.arange(k, device=row.device) for k in blocks.shape[-2:])
        return (((sample * n + row)[:, None] + a)[:, :, None] * n + (column[:, None] + b)[:, None]).flatten()

    def _as_matrices(self, flat: Tensor, n_samples: int, n: int, n_points: int) -> Tensor:
        """(K * components, B n n) -> (B, O, s n, s n)."""
        x = flat.view(n_points, -1, n_samples, n, n)
        if self.space.spin is not Spin.SPINOR:
            return x.flatten(0, 1).transpose(0, 1)
        x = x.view(n_points, 2, 2, n_samples, n, n).permute(3, 0, 1, 4, 2, 5)
        return x.reshape(n_samples, n_points, 2 * n, 2 * n)


def _orbitals(shells: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the column (l, m) of each orbital of an atom among all degrees, and its shell."""
    columns = np.concatenate([np.arange(l * l, (l + 1) ** 2) for l in shells])
    return columns, np.repeat(np.arange(len(shells)), [2 * l + 1 for l in shells])


def _components(spin: Spin, dtype: torch.dtype) -> Tensor:
    """(n_components, n_channels): `Spin.from_channels` as a matrix."""
    matrix = torch.as_tensor(np.array(spin.from_channels(np.eye(spin.n_channels))))
    return matrix.to(dtype.to_complex() if matrix.is_complex() else dtype)


def _table(name: str, table: np.ndarray, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the rows of a layout's change of basis that are not zero, and their numbers."""
    rows = np.flatnonzero(np.abs(table).sum(1))
    return {f"{name}_rows": torch.as_tensor(rows), f"{name}_table": torch.as_tensor(table[rows], dtype=dtype)}
