"""Memory of a prediction in parts: stated before it begins, and kept by moving arrays into files."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import lazy_loader
import torch

from harmose.core.basis import BasisSet
from harmose.core.graph import Graph
from harmose.errors import ConfigError
from harmose.inference.partition.part_model import PartModel

if TYPE_CHECKING:
    import psutil
else:
    psutil = lazy_loader.load("psutil")  # imported on first use

PAIRS_PER_PART = 2_000
"""Pairs of atoms in a part. With fewer the overhead of calls dominates; with more, data do not fit into the caches."""
FEWEST_PAIRS = 250
"""Smallest part that a small memory leads to."""
USABLE = 0.8
"""Fraction of the free memory that is used by default."""
IN_FLIGHT, OVERHEAD = 3.5, 1e8
"""Peak bytes per edge-feature byte, and fixed overhead in bytes (measured)."""
FRAMES, FEATURES = 5, 5
"""Bytes per number of a pair's rotation, and per edge feature: 4 of float32, and the waste of allocating by parts (measured)."""
PER_PAIR, PER_ATOM = 1600, 400
"""Bytes per pair and per atom of the graph and of the regression's neighbour lists (measured)."""


@dataclass(frozen=True)
class Plan:
    """Memory in bytes, and what is kept where.

    Attributes:
        n_atoms, n_pairs: size of the graph; `pairs_per_part`: size of a part.
        present: memory of the process before the prediction.
        graph: graph and neighbour lists.
        atoms: features of all atoms.
        edges: features of all edges between two layers; in files with `maps_features`.
        frames: rotations of all pairs; only with `keeps_frames`.
        blocks: the predicted blocks; in a file with `maps_blocks`. Memory-mapped arrays are not counted.
        in_flight: peak of the parts that are computed at the same time.
    """

    n_atoms: int
    n_pairs: int
    pairs_per_part: int
    present: float
    graph: float
    atoms: float
    edges: float
    frames: float
    blocks: float
    in_flight: float
    keeps_frames: bool = True
    maps_features: bool = False
    maps_blocks: bool = False

    @property
    def n_parts(self) -> int:
        return -(-self.n_pairs // self.pairs_per_part)

    @property
    def memory(self) -> float:
        """Return the peak memory in bytes."""
        kept = (0 if self.maps_features else self.edges) + (0 if self.maps_blocks else self.blocks)
        kept += self.frames if self.keeps_frames else 0
        return self.present + self.graph + self.atoms + kept + self.in_flight

    def __str__(self) -> str:
        files = [(self.edges, self.maps_features, "features"), (self.blocks, self.maps_blocks, "blocks")]
        written = [f"{size / 1e9:.1f} GB of {name}" for size, is_mapped, name in files if is_mapped]
        return (
            f"{self.n_atoms:,} atoms, {self.n_pairs:,} pairs in {self.n_parts} parts; memory {self.memory / 1e9:.1f} GB"
            + (f", and {' and '.join(written)} in files" if written else "")
        )


def n_values(basis: BasisSet, graph: Graph) -> int:
    """Return the number of matrix elements of all blocks of a graph."""
    counts = basis.counts(graph.numbers)
    return int((counts**2).sum() + (counts[graph.pairs[:, 0]] * counts[graph.pairs[:, 1]]).sum())


def plan(model: PartModel, memory: float | None = None, pairs_per_part: int | None = None) -> Plan:
    """Return a plan that fits into `memory` bytes of the whole process; `ConfigError` where none does."""
    present = float(psutil.Process().memory_info().rss)
    if memory is None:
        memory = present + USABLE * psutil.virtual_memory().available
    l_max, n_layers = model.space.l_max, len(model.layers)
    channels, kept, widest = _widths(model) if n_layers else (0, 0, 0)
    n_pairs, n_atoms = model.graph.n_pairs, model.graph.n_atoms
    size = n_values(model.space.basis, model.graph)

    def planned(per_part: int, keeps_frames: bool, maps_features: bool, maps_blocks: bool) -> Plan:
        return Plan(
            n_atoms,
            n_pairs,
            per_part,
            present=present,
            graph=float(PER_PAIR * n_pairs + PER_ATOM * n_atoms),
            atoms=16.0 * n_atoms * (l_max + 1) ** 2 * channels,
            edges=float(2 * FEATURES * kept * n_pairs) if n_layers > 1 else 0.0,
            frames=float(FRAMES * (l_max + 1) ** 4 + 200) * n_pairs,
            blocks=float(size) * model.space.spin.n_components * model.space.spin.dtype.itemsize,
            in_flight=8 * IN_FLIGHT * widest * per_part * torch.get_num_threads() + OVERHEAD,
            keeps_frames=keeps_frames,
            maps_features=maps_features,
            maps_blocks=maps_blocks,
        )

    most = max(min(pairs_per_part or PAIRS_PER_PART, n_pairs), 1)
    for per_part in dict.fromkeys([most, *(pairs_per_part is None) * [max(most // 4, 1), min(most, FEWEST_PAIRS)]]):
        for last in range(4):  # in order of the time that it costs
            found = planned(per_part, last < 1, last > 1, last > 2)
            if found.memory <= memory:
                return found
    raise ConfigError(f"memory: {n_atoms:,} atoms need at least {found.memory / 1e9:.2f} GB, got {memory / 1e9:.2f} GB")


def _widths(model: PartModel) -> tuple[int, int, int]:
    """Channels of an atom; numbers of an edge that are kept between two layers; most numbers of a pair in one layer."""
    e, r, l_max = model.network.settings.stage1, model.network.settings.stage2, model.space.l_max
    channels, width, rows = e.channels + e.pseudo_channels, e.edges.size(l_max), 2 * (l_max + 1 + 2 * l_max**2)
    kept = width + (r.edges.size(l_max) if model.full and r.attention_rounds > 1 else 0)
    widest = rows * ((l_max + 1) ** 2 + channels) + 2 * width
    return channels, kept, widest + (2 * l_max * (r.so2_channels + r.hidden) if model.full else 0)
