"""The machine: speed of matrix products, bandwidth of the memory, and versions of packages."""

import os
import platform
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch
from torch.utils.benchmark import Timer, timer

from harmose.bench.timing import threads

GEMM_ROWS = 1024
"""Rows of the square matrices that are multiplied."""
TRIAD_BYTES = {"cache": 3 * 2**17, "memory": 3 * 2**25}
"""Bytes of the three arrays of the triad: less than the cache of one core, and more than all caches."""
PACKAGES = ("torch", "numpy", "scipy", "pyscf", "vesin")


def machine(n_threads: int, device: str) -> dict:
    """JSON values: names, versions, and Gflop/s and GB/s on one thread, on `n_threads` and on all cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    speeds = {}
    for n in sorted({1, n_threads, cores}):
        with threads(n):
            speeds[str(n)] = _speeds(n, "cpu")
    if device == "cuda":
        speeds["GPU"] = _speeds(n_threads, device)
    return {
        "processor": processor(),
        "cores": cores,
        "device": device,
        "accelerator": torch.cuda.get_device_name() if device == "cuda" else None,
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "load_before": os.getloadavg()[0],
        "speeds": speeds,
    }


def _speeds(n_threads: int, device: str) -> dict[str, float]:
    return {
        "gemm_float32": gemm(torch.float32, n_threads, device),
        "gemm_float64": gemm(torch.float64, n_threads, device),
        **{f"triad_{name}": triad(size, n_threads, device) for name, size in TRIAD_BYTES.items()},
    }


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def best_time(work: Callable[[], object], n_threads: int = 1, seconds: float = 0.1) -> float:
    """Seconds of the fastest of several runs.

    For one thread on a CPU these are processor time, which other programs disturb less.
    """
    clock = time.process_time if n_threads == 1 and not torch.cuda.is_available() else timer
    timed = Timer("work()", timer=clock, globals={"work": work}, num_threads=n_threads)
    return min(timed.blocked_autorange(min_run_time=seconds).times)


def gemm(dtype: torch.dtype, n_threads: int = 1, device: str = "cpu") -> float:
    """Speed of a product of square matrices in Gflop/s."""
    n = GEMM_ROWS if device == "cpu" else 8 * GEMM_ROWS
    a, b = (torch.randn(n, n, dtype=dtype, device=device) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * n**3 / best_time(lambda: torch.mm(a, b, out=out), n_threads) / 1e9


def triad(n_bytes: int, n_threads: int = 1, device: str = "cpu") -> float:
    """Bandwidth in GB/s of a = b + s c (two reads, one write, as in STREAM); the arrays have `n_bytes` in total."""
    a, b, c = (torch.full((max(n_bytes // 12, 1),), float(k), device=device) for k in range(3))
    return 12 * len(a) / best_time(lambda: torch.add(b, c, alpha=3.0, out=a), n_threads) / 1e9
