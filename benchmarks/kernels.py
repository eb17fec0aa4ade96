"""Every product of matrices in a piece of work, timed alone, against the limits of the machine.

The products are recorded while the work runs: operator, shapes, strides, number type, module. From the shapes follow

    flop = 2 b m k n,    bytes = b (m k + k n + m n) * size of a number,    bound = max(flop / peak, bytes / bandwidth)

with the peak of a large product of the same number type, and the bandwidth of a triad with arrays as large as the
operands, both measured on the same number of threads. Each input counts as read once, the output as written once.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from harmose.bench.machine import best_time, gemm, triad
from harmose.bench.report import table
from harmose.bench.systems import system
from harmose.bench.timing import BenchmarkLimits, measure
from harmose.bench.training import compute_priors, labelled, make_batch, make_step
from harmose.evaluate.style import number
from harmose.inference.checkpoint import load

LISTED_KERNELS = 10
"""Most rows of a table: the kernels that take longest."""

SYSTEM = "graphene-3x3"
"""The system whose kernels are timed."""

GRADIENT = "gradient"
"""Module of all products of the backward pass."""

Shape = tuple[tuple[int, ...], tuple[int, ...]]
"""Sizes and strides of a tensor."""

peak = lru_cache(gemm)
bandwidth = lru_cache(triad)


@dataclass(frozen=True)
class Kernel:
    """A product that is called `calls` times: sizes, flop and bytes of one call, seconds of one call and its bound."""

    name: str
    sizes: str
    calls: int
    flop: float
    n_bytes: float
    seconds: float
    bound: float
    limit: str
    """The resource that sets the bound: "arithmetic" or "bandwidth"."""

    @property
    def fraction(self) -> float:
        """Speed relative to the bound, at most about 1."""
        return self.bound / self.seconds


def bounded(
    name: str,
    sizes: str,
    calls: int,
    flop: float,
    n_bytes: float,
    seconds: float,
    dtype: torch.dtype,
    device: str = "cpu",
) -> Kernel:
    """A kernel with the bound of this machine, on the current number of PyTorch threads."""
    n = torch.get_num_threads()
    arithmetic = flop / (peak(dtype, n, device) * 1e9)
    transfer = n_bytes / (bandwidth(_rounded(n_bytes), n, device) * 1e9)
    limit = "arithmetic" if arithmetic >= transfer else "bandwidth"
    return Kernel(name, sizes, calls, flop, n_bytes, seconds, max(arithmetic, transfer), limit)


def _rounded(n_bytes: float) -> int:
    """Round to a power of two, at least 64 kB, so that few bandwidths are measured."""
    return 2 ** max(round(np.log2(max(n_bytes, 1.0))), 16)


@dataclass(frozen=True)
class Product:
    """A product of two (batches of) matrices, and the module that calls it."""

    module: str
    operands: tuple[Shape, Shape]
    dtype: torch.dtype

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Sizes b, m, k, n."""
        (a, _), (b, _) = self.operands
        return prod(a[:-2]), a[-2], a[-1], b[-1]

    @property
    def flop(self) -> float:
        """Number of floating-point operations of one call."""
        return 2.0 * prod(self.sizes)


class Recorder(TorchDispatchMode):
    """Counts the products of matrices that are called while it is on, and all operators."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Product] = Counter()
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
            # In the backward pass the tracker's modules are guesses.
            self.calls[Product(GRADIENT if self.modules.is_bw else where, shapes, a.dtype)] += 1
        return func(*args, **(kwargs or {}))


def record(work: Callable[[], object]) -> Recorder:
    """Run `work` and record its products and operators."""
    with Recorder() as recorder:
        work()
    return recorder


def time_products(calls: Counter[Product], device: str = "cpu") -> list[Kernel]:
    """Time each product alone, with random operands in the same layout; the most expensive first."""
    same: dict[tuple, list[tuple[Product, int]]] = {}
    for call, n in calls.items():
        same.setdefault((call.operands, call.dtype), []).append((call, n))
    forward: dict[frozenset[int], set[str]] = {}
    for call in calls:
        if call.module != GRADIENT:
            forward.setdefault(frozenset(call.sizes), set()).add(call.module)
    out = []
    for (operands, dtype), products in same.items():
        a, b = (_random(sizes, strides, dtype, device) for sizes, strides in operands)
        work = torch.bmm if a.dim() == 3 else torch.mm
        batch, m, k, n = products[0][0].sizes
        flop = products[0][0].flop
        if not flop:
            continue
        seconds = best_time(lambda a=a, b=b, work=work: work(a, b), torch.get_num_threads(), 0.02)
        n_bytes = batch * (m * k + k * n + m * n) * a.element_size()
        # A gradient has the sizes of the product that it belongs to, in another order.
        modules = {call.module for call, _ in products} | forward.get(frozenset(products[0][0].sizes), set())
        sizes = f"{batch} × {m:,} × {k} × {n}" if a.dim() == 3 else f"{m:,} × {k} × {n}"
        n_calls = sum(count for _, count in products)
        out.append(bounded(_name(modules), sizes, n_calls, flop, n_bytes, seconds, dtype, device))
    return sorted(out, key=lambda kernel: -kernel.seconds * kernel.calls)


def _name(modules: set[str]) -> str:
    names = sorted(name.split(".network.")[-1].removeprefix("TwoStage.") for name in modules - {GRADIENT})
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    parts = [names[0] + more] if names else []
    return ", ".join([*parts, GRADIENT] if GRADIENT in modules else parts)


def _random(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, device: str) -> torch.Tensor:
    size = 1 + sum((n - 1) * s for n, s in zip(shape, stride)) if prod(shape) else 0
    return torch.randn(size, dtype=dtype, device=device).as_strided(shape, stride)


def measure_kernels(limits: BenchmarkLimits, device: str = "cpu") -> list[dict[str, Any]]:
    """Products of a prediction and of training steps of the shipped model for `SYSTEM`, as JSON values."""
    chosen = system(SYSTEM)
    model = load(chosen.model)
    network = model.network.to(device)
    batch = model.inputs(chosen.structures).batch
    training = make_batch(model, labelled(model, chosen, compute_priors(model, chosen)))
    works: dict[str, Callable[[], object]] = {
        "prediction": lambda: network(batch),
        "training step, stage 1": make_step(model, training, "stage1", device),
        "training step, both stages": make_step(model, training, "joint", device),
    }
    out = []
    for name, work in works.items():
        with torch.set_grad_enabled(name != "prediction"):
            recorder = record(work)
            whole = measure(work, limits).cpu.median
        common = {"work": name, "work_seconds": whole, "operators": recorder.operators}
        kernels = time_products(recorder.calls, device)
        out += [{**common, **asdict(kernel), "fraction": kernel.fraction} for kernel in kernels]
    return out


def kernel_section(kernels: Sequence[Mapping[str, Any]]) -> str:
    """Tables of `measure_kernels` in Markdown."""
    parts = []
    for work in dict.fromkeys(k["work"] for k in kernels):
        mine = [k for k in kernels if k["work"] == work]
        total, flop = sum(k["calls"] * k["seconds"] for k in mine), sum(k["calls"] * k["flop"] for k in mine)
        bound = sum(k["calls"] * k["bound"] for k in mine)
        head = ["kernel", "sizes", "calls", "Mflop", "MB", "µs", "Gflop/s", "bound by", "of the bound, %"]
        rows = [
            [
                f"`{k['name']}`",
                k["sizes"],
                str(k["calls"]),
                number(k["flop"] / 1e6),
                number(k["n_bytes"] / 1e6),
                number(1e6 * k["seconds"]),
                number(k["flop"] / k["seconds"] / 1e9),
                k["limit"],
                f"{100 * k['fraction']:.0f}",
            ]
            for k in mine[:LISTED_KERNELS]
        ]
        summary = (
            f"{sum(k['calls'] for k in mine)} products among {mine[0]['operators']:,} operators take {1e3 * total:.1f} "
            f"of {1e3 * mine[0]['work_seconds']:.1f} ms: {flop / 1e9:.2f} Gflop at {flop / total / 1e9:.0f} Gflop/s, "
            f"{100 * bound / total:.0f} % of their bounds. The most expensive:"
        )
        parts.append(f"*{work}*: {summary}\n\n{table(head, rows)}")
    return f"**Kernels**, {SYSTEM}, each timed alone with its operands in the cache if they fit\n\n" + "\n\n".join(
        parts
    )
