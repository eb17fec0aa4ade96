"""The main kernels and the machine's limits: every product of matrices in a piece of work, timed alone, against its bound.

What the network calls is recorded as it runs (so that this stays true when the network changes): operator, shapes, strides,
number type, module. From the shapes follow operations and bytes,

    flop = 2 b m k n,    bytes = b (m k + k n + m n) * size of a number,    bound = max(flop / peak, bytes / bandwidth)

with the peak of a large product of the same number type and the bandwidth of a triad as large as the operands, both measured
here on the same threads. Each input is counted as read once and the output as written once.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from harmose.bench.machine import best_time, gemm, triad
from harmose.core.blocks import BlockMatrix
from harmose.inference.model import Model
from harmose.kernel_regression.descriptors import from_positions
from harmose.kernel_regression.expansion import KernelExpansion, some_columns
from harmose.kernel_regression.kernel import NEGLIGIBLE, ORDERS, environments
from harmose.kernel_regression.model import is_symmetric
from harmose.kernel_regression.neighbourhoods import Neighbourhoods, neighbourhood, shared
from harmose.representation.block_irreps import OrientedPairs, to_matrix
from harmose.representation.concatenation import ConcatenatedGraph


@dataclass(frozen=True)
class Kernel:
    """A kernel called `calls` times: what it is, its sizes, flop and bytes of one call, seconds of one call and its bound."""

    name: str
    sizes: str
    calls: int
    flop: float
    n_bytes: float
    seconds: float
    bound: float
    limit: str
    """What bounds it: "arithmetic" or "bandwidth"."""

    @property
    def fraction(self) -> float:
        """Of the bound; 1 is as fast as the machine can."""
        return self.bound / self.seconds


def kernel(
    name: str,
    sizes: str,
    calls: int,
    flop: float,
    n_bytes: float,
    seconds: float,
    dtype: torch.dtype,
    device: str = "cpu",
) -> Kernel:
    """With the bound of this machine, on torch's current number of threads."""
    n = torch.get_num_threads()
    arithmetic = flop / (peak(dtype, n, device) * 1e9)
    transfer = n_bytes / (bandwidth(_rounded(n_bytes), n, device) * 1e9)
    limit = "arithmetic" if arithmetic >= transfer else "bandwidth"
    return Kernel(name, sizes, calls, flop, n_bytes, seconds, max(arithmetic, transfer), limit)


peak = lru_cache(gemm)
bandwidth = lru_cache(triad)


def _rounded(n_bytes: float) -> int:
    """To a power of two, at least 64 kB: few triads serve all kernels."""
    return 2 ** max(round(np.log2(max(n_bytes, 1.0))), 16)


Shape = tuple[tuple[int, ...], tuple[int, ...]]
"""Sizes and strides of a tensor."""


GRADIENT = "gradient"


@dataclass(frozen=True)
class Call:
    """A product of matrices."""

    module: str
    operands: tuple[Shape, Shape]
    dtype: torch.dtype

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """b, m, k, n."""
        (a, _), (b, _) = self.operands
        return prod(a[:-2]), a[-2], a[-1], b[-1]

    @property
    def flop(self) -> float:
        return 2.0 * prod(self.sizes)


class Recorder(TorchDispatchMode):
    """The products of matrices that are called while it is on, with the module that calls them; and how many operators are."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Call] = Counter()
        self.operators = 0
        self.modules = ModuleTracker()

    def __enter__(self) -> "Recorder":
        self.modules.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.modules.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.operators += 1
        if name in ("mm", "bmm", "addmm", "baddbmm"):
            a, b = args[1:3] if "add" in name else args[:2]
            where = max(self.modules.parents - {"Global"}, key=len, default="")
            shapes = (tuple(a.shape), a.stride()), (tuple(b.shape), b.stride())
            # The tracker guesses in the backward pass.
            self.calls[Call(GRADIENT if self.modules.is_bw else where, shapes, a.dtype)] += 1
        return func(*args, **(kwargs or {}))


def recorded(work: Callable[[], object]) -> Recorder:
    """What `work` calls: the products of matrices, and the number of all operators."""
    with Recorder() as recorder:
        work()
    return recorder


def products(calls: Counter[Call], device: str = "cpu") -> list[Kernel]:
    """Each of them timed alone, with random operands laid out as they were; the most expensive first."""
    same: dict[tuple, list[tuple[Call, int]]] = {}
    for call, n in calls.items():
        same.setdefault((call.operands, call.dtype), []).append((call, n))
    forward: dict[frozenset[int], set[str]] = {}
    for call in calls:
        if call.module != GRADIENT:
            forward.setdefault(frozenset(call.sizes), set()).add(call.module)
    out = []
    for (operands, dtype), found in same.items():
        a, b = (_like(sizes, strides, dtype, device) for sizes, strides in operands)
        work = torch.bmm if a.dim() == 3 else torch.mm
        batch, m, k, n = found[0][0].sizes
        if not found[0][0].flop:
            continue
        seconds = best_time(lambda a=a, b=b, work=work: work(a, b), torch.get_num_threads(), 0.02)
        n_bytes = batch * (m * k + k * n + m * n) * a.element_size()
        name = _name({call.module for call, _ in found} | forward.get(frozenset(found[0][0].sizes), set()))
        sizes = f"{batch} × {m:,} × {k} × {n}" if a.dim() == 3 else f"{m:,} × {k} × {n}"
        out.append(kernel(name, sizes, sum(c for _, c in found), found[0][0].flop, n_bytes, seconds, dtype, device))
    return sorted(out, key=lambda x: -x.seconds * x.calls)


def _name(modules: set[str]) -> str:
    """Of one of the modules; gradients have the sizes, in another order, of what they belong to."""
    names = sorted(name.split(".network.")[-1].removeprefix("TwoStage.") for name in modules - {GRADIENT})
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    parts = [names[0] + more] if names else []
    return ", ".join([*parts, GRADIENT] if GRADIENT in modules else parts)


def _like(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, device: str) -> torch.Tensor:
    size = 1 + sum((n - 1) * s for n, s in zip(shape, stride)) if prod(shape) else 0
    return torch.randn(size, dtype=dtype, device=device).as_strided(shape, stride)


def blocks_kernel(model: Model, concatenated: ConcatenatedGraph, like: Sequence[BlockMatrix]) -> Kernel:
    """Coefficients back to blocks, float64: the sparse change of basis, and both sides of each block turned."""
    space, oriented, flop, coefficients = model.regression.space, concatenated.oriented, 0.0, 0
    for group, members in oriented.members.items():
        layout = space.pair_layout(group)
        na, nb = (sum(2 * l + 1 for l in space.signatures[s]) for s in group)
        n = len(members) * space.spin.n_channels
        flop += 2.0 * len(members) * layout.table.nnz + 2.0 * n * na * nb * (na + nb)
        coefficients += len(members) * layout.table.shape[0]
    for signature, atoms in oriented.atoms.items():
        layout = space.onsite_layout(signature)
        flop += 2.0 * len(atoms) * layout.table.nnz
        coefficients += len(atoms) * layout.table.shape[0]
    zeros = model.regression.scales(oriented)
    values = type(zeros)(
        {
            g: torch.ones(len(x), space.pair_layout(g).n_slots, x.shape[2], dtype=x.dtype)
            for g, x in zeros.pairs.items()
        },
        zeros.onsite,
    )
    seconds = best_time(lambda: to_matrix(space, values, concatenated.graph, oriented), 1, 0.1)
    frames = concatenated.graph.n_pairs * sum((2 * l + 1) ** 2 for l in range(space.basis.l_max + 1))
    n_bytes = 8.0 * (coefficients + sum(m.values.size for m in like) + frames)
    sizes = f"{concatenated.graph.n_pairs:,} pairs"
    return kernel("coefficients to blocks", sizes, 1, flop, n_bytes, seconds, torch.float64)


def closed_form_kernel(model: Model, concatenated: ConcatenatedGraph) -> Kernel | None:
    """The closed form, all of its time against the arithmetic of its likeness to reference edges, float64; None where it has
    none, or reads electrons.

    flop for a directed edge and a reference: products of the combinations of cells (rank r in each order m), turns to all
    angles and back, powers, weights. Bytes: what is said of the references once, and of each edge once.
    """
    regression, oriented = model.regression, concatenated.oriented
    if regression.reads_charges or any(pair.many_body is None for pair in regression.pairs.values()):
        return None
    graph, flop, n_bytes, n_edges = Neighbourhoods(regression.space, oriented), 0.0, 0.0, 0
    for field, edges in _likenesses(model, graph, oriented):
        weights, n = [w for _, w in some_columns(field.weights)], len(field.references.distance)
        rank, angles = _rank(field), field.references.likeness.power * ORDERS + len(weights)
        each = 2 * rank * (1 + 4 * ORDERS) + 4 * angles * (2 * ORDERS + 2 + 2 * len(weights))
        columns = sum(w.shape[1] * (2 if m else 1) for m, w in enumerate(weights))
        flop += edges * (n * each + sum(2.0 * w.size * (2 if m else 1) for m, w in enumerate(weights)))
        n_bytes += 8.0 * (sum(w.size for w in weights) + n * rank * (1 + 2 * ORDERS) + edges * columns)
        n_edges += edges
    seconds = best_time(lambda: regression.values(oriented), 1, 0.1)
    return kernel("closed form, all of it", f"{n_edges:,} edges", 1, flop, n_bytes, seconds, torch.float64)


def _likenesses(model: Model, graph: Neighbourhoods, oriented: OrientedPairs) -> Iterator[tuple[KernelExpansion, int]]:
    """Expansions around references, and for how many directed edges each is summed."""
    n_species = len(model.regression.space.elements)
    for kind, n in zip(*np.unique(oriented.kind, return_counts=True)):
        field = model.regression.pairs[int(kind)].many_body
        if field is not None:
            yield field, int(n) * (2 if is_symmetric(int(kind), n_species) else 1)
    for species in np.unique(oriented.species).tolist():
        around = shared(graph, neighbourhood(graph, np.flatnonzero(oriented.species == species)))
        of_neighbours = np.bincount(graph.pairs.neighbour_species[around.edges], minlength=n_species)
        for neighbour, field in model.regression.onsite[species].many_body.items():
            yield field, int(of_neighbours[neighbour])


def _rank(field: KernelExpansion) -> int:
    """Combinations of cells in which the references of a field differ, in any order m."""
    references = field.references
    triangles = from_positions(references.edge, references.third, references.position, references.distance)
    so2 = environments(triangles, references.distance, references.n_species, references.likeness).so2
    orders = [so2[0], *so2[1:].reshape(ORDERS, -1, so2.shape[2])]
    sizes = [np.linalg.svd(x, compute_uv=False) for x in orders]
    return max(int((size > NEGLIGIBLE * sizes[0].max()).sum()) for size in sizes)
